"""Pixels to pixels: crops, flips, colours, erasing."""
