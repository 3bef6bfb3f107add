"""Predictions on files: images or, with a model of clips, videos. `python -m posmlp_jax.predict` is the command."""

from posmlp_jax.lazy import lazily

__all__ = ["draw_predictions", "predict"]

__getattr__ = lazily(__name__, {"draw_predictions": "picture", "predict": "predicting"})
