"""Masks of objects: from the crop that a batch holds of each to what a head shall predict, and from that to the image.

No mask has the size of an image while a model trains: each object's own box is cropped to a square of 112² bits, which
a crop's box, the object's, goes along with.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Float32, Shaped

from posmlp_jax.detection.boxes import UNIT, nonempty
from posmlp_jax.detection.roi_align import roi_align


def mask_targets(
    crops: Shaped[ArrayLike, "n side side"], boxes: Float[ArrayLike, "n 4"], regions: Float[ArrayLike, "n 4"], size: int
) -> Float32[Array, "n {size} {size}"]:
    """Where in each region its object is: 1 in bins of which at least half is the object, else 0.

    As mmdetection aligns a region of an image's mask, but from a crop of it.

    Args:
      crops: of each region's object, bits or 0 and 1; what is outside of the crop is not the object.
      boxes: what the crops are of.
      regions: what the targets are of. With an empty box or region there is no object.
      size: bins a side, 28.
    """
    side = crops.shape[-1]
    exist = nonempty(boxes) & nonempty(regions)
    x1, y1, x2, y2 = jnp.where(exist[:, None], jnp.asarray(boxes), jnp.array(UNIT)).T
    corner, extent = jnp.stack([x1, y1, x1, y1], axis=-1), jnp.stack([x2 - x1, y2 - y1] * 2, axis=-1)
    placed = jnp.where(exist[:, None], (jnp.asarray(regions) - corner) / extent * side, 0)

    def target(crop, region):
        return roi_align(crop[..., None].astype(jnp.float32), region[None], size, 1.0)[0, ..., 0] >= 0.5

    return jax.vmap(target)(jnp.asarray(crops), placed).astype(jnp.float32)


def paste(
    mask: Float[np.ndarray, "side side"],
    box: Float[np.ndarray, "4"],
    height: int,
    width: int,
    threshold: float = 0.5,
) -> Bool[np.ndarray, "{height} {width}"]:
    """The pixels of an image, `height` by `width`, where an object's mask is at least a threshold.

    On the host, as images have many sizes. The mask, of probabilities, is stretched to its box. A pixel has the value
    at its centre, interpolated between the centres of the mask's cells, around which there are zeros: as mmdetection
    does by `grid_sample`.
    """
    x1, y1, x2, y2 = map(float, box)
    rows, columns = _cell_weights(y1, y2, height, len(mask)), _cell_weights(x1, x2, width, len(mask))
    pasted = np.zeros((height, width), bool)
    top, left = (weights.any(axis=1).nonzero()[0] for weights in (rows, columns))
    if len(top) and len(left):
        inside = np.s_[top[0] : top[-1] + 1], np.s_[left[0] : left[-1] + 1]
        pasted[inside] = rows[inside[0]] @ mask @ columns[inside[1]].T >= threshold
    return pasted


def _cell_weights(start: float, end: float, pixels: int, cells: int) -> Float32[np.ndarray, "{pixels} {cells}"]:
    """The share of each cell, `cells` of them from start to end, in the value at each pixel's centre."""
    if not end > start:
        return np.zeros((pixels, cells), np.float32)
    place = (np.arange(pixels) + 0.5 - start) / (end - start) * cells - 0.5
    return np.maximum(1 - np.abs(place[:, None] - np.arange(cells)), 0).astype(np.float32)
