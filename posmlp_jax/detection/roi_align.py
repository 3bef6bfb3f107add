"""RoIAlign (He et al. 2017): what a map holds in a box, resampled to a few bins a side.

Each bin is the mean of bilinear samples of the map. As weights of the map's rows and columns that is a product with a
matrix on either side, [bins, H] · map · [W, bins]: more multiplications than gathering the samples, but ones that
accelerators are made for, and with a gradient that is a product again, where that of a gather adds up in an order that
GPUs leave to chance, and a run could not be resumed to the bit.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Float32, Int32

from posmlp_jax.detection.boxes import area

# Values of the first product that are held at a time: 128 MiB of float32.
_HELD = 2**25
# With n adaptive samples a bin, n − 1 < bin ≤ n cells: where there are more than four of them, no more than three are
# within a cell of any place, and those are among the four from the last one that may come before them.
_NEAR = 4


def roi_levels(boxes: Float[ArrayLike, "*boxes 4"], first: int = 2, last: int = 5) -> Int32[Array, "*boxes"]:
    """The pyramid's level, of stride 2^level, for each box: 4 for one of 224², and one more for twice its sides.

    Eq. 1 of Lin et al. 2017 (Feature Pyramid Networks): ⌊4 + log₂(√area / 224)⌋, with 10⁻⁶ to the next level's good.
    """
    levels = jnp.floor(4 + jnp.log2(jnp.sqrt(area(boxes)) / 224 + 1e-6))
    return jnp.clip(levels, first, last).astype(jnp.int32)


def roi_align(
    map: Float[ArrayLike, "height width channels"],
    boxes: Float[ArrayLike, "n 4"],
    output_size: int,
    scale: ArrayLike,
    sampling_ratio: int = 0,
    aligned: bool = True,
) -> Float[Array, "n {output_size} {output_size} channels"]:
    """What a map holds in each box, in `output_size` bins a side.

    No gradient reaches the boxes. The products are float32 whatever the map is. An infinity or NaN anywhere in the map
    is in every result.

    Args:
      map: of one image.
      boxes: in the image's pixels. Samples more than a cell outside of the map are 0.
      output_size: 7 for classes and boxes, 14 for masks.
      scale: of the map to the image, 1 / stride.
      sampling_ratio: samples a side of each bin; 0: as many as the bin has cells a side, rounded up.
      aligned: takes the value of a cell for that at its centre, and not, half a cell off, for that at its upper left
        corner, with boxes of at least one cell, as the first implementations did. mmdetection aligns.
    """
    map = jnp.asarray(map)
    offset = 0.5 if aligned else 0.0
    corners = jax.lax.stop_gradient(jnp.asarray(boxes, jnp.float32)) * scale - offset
    x1, y1, x2, y2 = corners.T
    least = -jnp.inf if aligned else 1.0
    height, width, channels = map.shape
    rows = _bin_weights(y1, jnp.maximum(y2 - y1, least), output_size, height, sampling_ratio)
    columns = _bin_weights(x1, jnp.maximum(x2 - x1, least), output_size, width, sampling_ratio)

    cells = map.astype(jnp.float32)
    exactly = jax.lax.Precision.HIGHEST

    def align(weights):
        rows, columns = weights
        lines = jnp.einsum("ph,hwc->pwc", rows, cells, precision=exactly)
        return jnp.einsum("qw,pwc->pqc", columns, lines, precision=exactly)

    together = max(1, _HELD // (output_size * width * channels))
    if len(rows) <= together:
        bins = jax.vmap(align)((rows, columns))
    else:
        bins = jax.lax.map(align, (rows, columns), batch_size=together)
    return bins.astype(map.dtype)


def _bin_weights(
    start: Float32[Array, "n"], length: Float32[Array, "n"], bins: int, cells: int, sampling_ratio: int
) -> Float32[Array, "n {bins} {cells}"]:
    """The share of each cell in each bin along one axis, where cell i is at i.

    Boxes begin at `start` and have a `length`, in cells. An empty one has no adaptive samples, and weights of 0.

    Samples are to the bit where float32 operations put them when each is rounded, as in other implementations. XLA
    would add to a product before it is rounded, and multiply by the reciprocal of a divisor that several values share:
    either moves samples by 10⁻⁵ of a cell, and the latter may add one where bins are of whole cells.
    """
    start, length = start[:, None, None], length[:, None, None]
    step = _over(length, bins)
    samples = jnp.full_like(step, sampling_ratio) if sampling_ratio else jnp.ceil(step)
    count = jnp.where(samples > 0, samples, 1)
    # The products with either half of a number's bits are exact, so that their sum alone is rounded.
    number, upper = jnp.arange(bins)[:, None], jax.lax.reduce_precision(step, exponent_bits=8, mantissa_bits=11)
    begin = start + (number * upper + number * (step - upper))
    cell = jnp.arange(cells, dtype=jnp.float32)
    if sampling_ratio:
        first, looked_at = 0.0, sampling_ratio
    else:
        # The number, and a fraction, of the sample that would be one cell before each cell.
        before = (cell - 1 - begin) / jnp.where(samples > 0, step, 1) * count - 0.5
        first, looked_at = jnp.clip(jnp.floor(before), 0, jnp.maximum(count - _NEAR, 0)), _NEAR

    weights = 0.0
    for index in range(looked_at):
        sample = first + index
        place = begin + _over((sample + 0.5) * step, count)
        # Within a cell of the map, a sample takes the value of its border.
        exists = (sample < samples) & (place >= -1) & (place <= cells)
        weight = jnp.maximum(1 - jnp.abs(place.clip(0, cells - 1) - cell), 0)
        weights += jnp.where(exists, weight, 0)
    return weights / count


def _over(values: Float32[Array, "*shape"], divisor: ArrayLike) -> Float32[Array, "*shape"]:
    """Quotients, each rounded once: XLA does not invert a divisor that might be another for each value."""
    return values / jnp.where(jnp.isnan(values), 0, divisor)
