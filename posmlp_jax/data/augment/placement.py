"""Where things in an image are after it was augmented: what boxes and points have to go through with its pixels.

Positions are in pixels from the upper left corner, x to the right and y down, and a pixel is a square: that of column i
reaches from i to i + 1, and its centre is i + ½. A `Movement` takes such positions in an image, as (x, y, 1), to those
in what was made of it. What moves pixels returns one beside them; they are put together like functions, `then @ first`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from posmlp_jax.data.decoding.images import Size

Movement = Float64[np.ndarray, "3 3"]


def stays() -> Movement:
    """Of an operation that moves nothing."""
    return np.eye(3)


def cut_out(box: Sequence[float | int], size: Size) -> Movement:
    """Of a box (top, left, height, width) that is cut out and resized to `size`, (height, width)."""
    top, left, height, width = box
    vertical, horizontal = size[0] / height, size[1] / width
    return np.array([[horizontal, 0.0, -left * horizontal], [0.0, vertical, -top * vertical], [0.0, 0.0, 1.0]])


def mirror(width: int) -> Movement:
    """Of left and right exchanged in an image of this width."""
    return np.array([[-1.0, 0.0, width], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])


@dataclass(frozen=True, eq=False)
class Placement:
    """Where the points of an image lie in what a batch holds of it.

    Attributes:
      matrix: takes (x, y, 1), x being a share of the image's width and y of its height, as it is seen upright, to
        pixels of the result. A point may come to lie outside of that. What was decoded at a fraction of its size (see
        `images.decode`) may be up to a pixel off at its right and lower edges.
      extent: (height, width) of what is seen of it there, from the upper left corner: a crop's, or in a canvas that of
        the whole image.
    """

    matrix: Float64[np.ndarray, "2 3"]
    extent: Size

    @classmethod
    def of(cls, size: Size, movement: Movement, extent: Size) -> "Placement":
        """What moving its pixels makes of an image of a size (height, width)."""
        height, width = size
        return cls(movement[:2] * (width, height, 1.0), tuple(extent))

    @property
    def mirrored(self) -> bool:
        """Whether left and right are exchanged."""
        (a, b, _), (c, d, _) = self.matrix.tolist()
        return a * d < b * c
