"""Makes data sets in tfds' layout: `python -m posmlp_jax.data.prepare`."""
