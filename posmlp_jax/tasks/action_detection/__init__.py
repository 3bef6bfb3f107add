"""Telling what people do in films, at one time and each in a box of their own."""
