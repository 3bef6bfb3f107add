"""Videos: what a source gives (`encoded`), and its frames as arrays (`decoding`)."""
