"""Predictions on files: images or, with a model of clips, videos. `python -m posmlp_jax.predict` is the command."""

from posmlp_jax.lazy import lazily

__all__ = ["ClassProbability", "Prediction", "class_names", "draw_predictions", "predict"]

__getattr__ = lazily(
    __name__,
    {
        "ClassProbability": "prediction",
        "Prediction": "prediction",
        "class_names": "prediction",
        "draw_predictions": "picture",
        "predict": "prediction",
    },
)
