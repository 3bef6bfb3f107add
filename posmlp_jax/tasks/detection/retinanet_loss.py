"""RetinaNet's loss, with mmdetection's conventions: focal loss at every anchor, L1 at those that have an object."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int

from posmlp_jax.detection.boxes import encode
from posmlp_jax.detection.losses import box_loss, focal_loss
from posmlp_jax.models.detectors.retinanet import STD
from posmlp_jax.tasks.detection.losses import Term, Terms, match_anchors
from posmlp_jax.tasks.objective import Batch

# An anchor learns an object from this IoU on, or where none overlaps the object more; below the second it learns that
# there is nothing, and in between it learns nothing.
POSITIVE, NEGATIVE = 0.5, 0.4


def retinanet_terms(
    logits: list[Float[Array, "batch _anchors classes"]],
    deltas: list[Float[Array, "batch _anchors 4"]],
    anchors: tuple[Float32[np.ndarray, "_anchors 4"], ...],
    batch: Batch,
) -> Terms:
    """`class` and `box`, of each image: sums over its anchors, to be divided by how many of them have an object.

    Args:
      logits: of each level, as the deltas and anchors, by `RetinaNet.predict`.
      deltas: likewise.
      anchors: likewise.
      batch: `size`, `boxes` and `classes` (`targets.DetectionTargets`).
    """
    image = partial(_image_terms, anchors=np.concatenate(anchors))
    logits, deltas = (jnp.concatenate(levels, axis=1) for levels in (logits, deltas))
    return jax.vmap(image)(logits, deltas, batch["boxes"], batch["classes"], batch["size"])


def _image_terms(
    logits: Float[Array, "anchors classes"],
    deltas: Float[Array, "anchors 4"],
    boxes: Float[Array, "objects 4"],
    classes: Int[Array, "objects"],
    size: Int[Array, "2"],
    *,
    anchors: Float32[np.ndarray, "anchors 4"],
) -> Terms:
    matches = match_anchors(boxes, classes, anchors, size, positive=POSITIVE, negative=NEGATIVE, low_quality=0.0)
    positive, own = matches >= 0, matches.clip(0)
    off = jnp.where(positive, box_loss(deltas, encode(boxes[own], anchors, STD)), 0)
    # As in mmdetection, an image without an object counts as one with a single anchor.
    count = jnp.maximum(jnp.sum(positive), 1).astype(jnp.float32)
    wrong = focal_loss(logits, jnp.where(positive, classes[own], matches))
    return {"class": Term(jnp.sum(wrong), count), "box": Term(jnp.sum(off), count)}
