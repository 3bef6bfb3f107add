"""Predictions on files: images or, with a model of clips, videos. `python -m posmlp_jax.predict` is the command.

    from posmlp_jax.checkpoints import open_pretrained

    for photo in predict(open_pretrained("runs/mine"), "photos/"):
        for each in photo.objects:  # Of a detector; a classifier's predictions have `classes`.
            print(photo.file, each.name, each.score, each.box)

`each.mask`, of a detector of masks, is an array of the photo's size.
"""

from posmlp_jax.lazy import lazily

__all__ = ["draw_predictions", "predict"]

__getattr__ = lazily(__name__, {"draw_predictions": "picture", "predict": "predicting"})
