"""Predictions on files: images or, with a model of clips, videos. `python -m posmlp_jax.predict` is the command."""

from posmlp_jax.predict.picture import draw_predictions
from posmlp_jax.predict.prediction import ClassProbability, Prediction, class_names, predict

__all__ = ["ClassProbability", "Prediction", "class_names", "draw_predictions", "predict"]
