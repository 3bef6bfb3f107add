"""Naming what an image or a clip shows."""
