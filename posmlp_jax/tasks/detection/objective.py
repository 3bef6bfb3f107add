"""What detection computes on the devices: the loss of a batch, and of each image what is found in it."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Float32, Int, Key, UInt8

from posmlp_jax.models.detectors.detector import Detections, Detector
from posmlp_jax.models.detectors.mask_rcnn import MaskedDetections
from posmlp_jax.tasks.detection.losses import of_batch, of_images
from posmlp_jax.tasks.detection.mask_rcnn_loss import Samples, mask_rcnn_terms
from posmlp_jax.tasks.detection.retinanet_loss import retinanet_terms
from posmlp_jax.tasks.objective import Batch, Rows, Scalars, normalize_images


def detector_input(
    images: UInt8[ArrayLike, "batch *frames height width 3"], sizes: Int[ArrayLike, "batch 2"], mean, std
) -> Float[Array, "batch *frames height width 3"]:
    """Images or clips as detectors take them: normalised, and 0 where they are padding, as in mmdetection.

    Args:
      images: each, or each of its frames, in the upper left of its canvas.
      sizes: (height, width) of each in pixels.
      mean: the data's.
      std: the data's.
    """
    height, width = images.shape[-3:-1]
    rows, columns = (jnp.asarray(sizes)[:, axis, None] for axis in (0, 1))
    inside = (jnp.arange(height) < rows)[:, :, None] & (jnp.arange(width) < columns)[:, None, :]
    of_all_frames = inside.reshape(len(inside), *(1,) * (images.ndim - 4), height, width, 1)
    return jnp.where(of_all_frames, normalize_images(images, mean, std), 0)


def as_rows(found: Detections | MaskedDetections) -> Rows:
    """What evaluations and predictions keep of detections: all of it, by name."""
    rows = found._asdict()
    if "masks" in rows:
        # A hundred of 28² in each image are what an evaluation keeps most of.
        rows["masks"] = rows["masks"].astype(jnp.float16)
    return rows


@dataclass(frozen=True)
class DetectionObjective:
    """RetinaNet's loss or Mask R-CNN's, whichever the model is; batches are as `targets.DetectionTargets` makes them.

    Attributes:
      mean, std: the data's.
      samples: how much of an image Mask R-CNN learns from; None for RetinaNet, which samples nothing.
    """

    mean: Sequence[float]
    std: Sequence[float]
    samples: Samples | None = None

    def draw(self, key: Key[Array, ""], batch: Batch) -> tuple[Batch, None]:
        """Mask R-CNN's samples are a matter of one image, by a `key` of its own, wherever and beside whatever it is."""
        if self.samples is None:
            return batch, None
        return batch | {"key": jax.random.split(key, len(batch["image"]))}, None

    def loss(self, model: Detector, batch: Batch, drawn: None, rngs: nnx.Rngs) -> tuple[Float[Array, ""], Scalars]:
        """The sum of the loss's parts, and each of them."""
        del drawn
        predicted = model.predict(self._input(batch), train=True, rngs=rngs)
        if self.samples is None:
            terms = retinanet_terms(*predicted, batch)
        else:
            numbers = {"candidates": self.samples.candidates, "number": self.samples.proposals}
            proposals = model.proposals_of(*predicted, _sizes(batch), **numbers)
            terms = mask_rcnn_terms(model, *predicted, *proposals, batch, batch["key"], self.samples)
        parts = of_batch(terms)
        return sum(parts.values()), {f"{name}_loss": value for name, value in parts.items()}

    def evaluate(self, model: Detector, batch: Batch) -> tuple[Scalars, Rows]:
        """The loss of each image by itself, and what is found in it: in pixels of its canvas, with its `size` in that.

        Both are of one pyramid. Mask R-CNN's loss is of what it finds things in, its proposals in an evaluation, and
        its samples are drawn by the same key for every image.
        """
        predicted, sizes = model.predict(self._input(batch)), _sizes(batch)
        if self.samples is None:
            terms = retinanet_terms(*predicted, batch)
            found = model.find(*predicted, sizes)
        else:
            proposals = model.proposals_of(*predicted, sizes)
            keys = jnp.broadcast_to(jax.random.key(0), len(sizes))
            terms = mask_rcnn_terms(model, *predicted, *proposals, batch, keys, self.samples)
            found = model.find(predicted[0], *proposals, sizes)
        return {"loss": jnp.sum(of_images(terms) * batch["weight"])}, {**as_rows(found), "size": batch["size"]}

    def _input(self, batch: Batch) -> Float[Array, "batch height width 3"]:
        return detector_input(batch["image"], batch["size"], self.mean, self.std)


def _sizes(batch: Batch) -> Float32[Array, "batch 2"]:
    return batch["size"].astype(jnp.float32)
