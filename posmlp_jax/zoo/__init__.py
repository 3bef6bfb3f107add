"""The trained models that come with this package: `python -m posmlp_jax.zoo` lists them and shows their cards.

`models/` holds a packed checkpoint of each (`checkpoints.packed`), `samples/` a few test examples of their data, and
`python -m posmlp_jax.zoo.pack` makes both of a run. How names become models is in `checkpoints.zoo`.
"""

from posmlp_jax.lazy import lazily

__all__ = ["Sample", "load_sample"]

__getattr__ = lazily(__name__, {"Sample": "sample", "load_sample": "sample"})
