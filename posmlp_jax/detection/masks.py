"""Masks of objects: from the crop that a batch holds of each to what a head shall predict, and from that to the image.

No mask has the size of an image while a model trains: each object's own box is cropped to a square of 112² bits, which
a crop's box, the object's, goes along with.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Float32, Int, Shaped

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
    rows, upper, down = _between_cells(y1, y2, height, len(mask))
    columns, left, right = _between_cells(x1, x2, width, len(mask))
    around = np.pad(mask, 1)
    # Not as products of matrices: NumPy shares those among all cores, and waits for them where they are busy.
    lines = around[upper] * (1 - down)[:, None] + around[upper + 1] * down[:, None]
    pasted = np.zeros((height, width), bool)
    pasted[rows, columns] = lines[:, left] * (1 - right) + lines[:, left + 1] * right >= threshold
    return pasted


def _between_cells(
    start: float, end: float, pixels: int, cells: int
) -> tuple[slice, Int[np.ndarray, "reached"], Float32[np.ndarray, "reached"]]:
    """The pixels that some of `cells` from start to end reach, and between which two cells the centre of each is.

    Returns:
      The pixels; of each the cell before it, 0 being what is before the first; and its share of the way to the next.
    """
    if not end > start:
        return slice(0), np.zeros(0, int), np.zeros(0, np.float32)
    place = (np.arange(pixels) + 0.5 - start) / (end - start) * cells + 0.5
    (reached,) = np.nonzero((place > 0) & (place < cells + 1))
    before = np.floor(place[reached]).astype(int)
    pixels = slice(reached[0], reached[-1] + 1) if len(reached) else slice(0)
    return pixels, before, (place[reached] - before).astype(np.float32)
