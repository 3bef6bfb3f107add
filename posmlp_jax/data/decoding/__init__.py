"""Bytes to pixels: images, and of videos the frames that are wanted."""
