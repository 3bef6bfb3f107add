"""What detectors have on a pyramid's levels, and on what is cut out of them. All of it starts as in mmdetection.

Layers compute in the config's type; scores and box deltas, the last layer of each, are float32.
"""

import math
from collections.abc import Sequence
from functools import partial

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

# What RetinaNet's classes are believed at first, each at every anchor: few anchors have an object.
PRIOR = 0.01
_normal = nnx.initializers.normal(0.01)
_he = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")

Levels = Sequence[Float[Array, "batch _height _width channels"]]


class RetinaNetHead(nnx.Module):
    """Classes and boxes of every anchor by two towers of 3×3 convolutions, the same on all levels (Lin et al. 2017).

    Args:
      channels: of the levels, and of the towers.
      anchors: at each place.
      num_classes: whose scores are sigmoids, so that there is none for the background.
      depth: convolutions with ReLU in each tower, before the last.
      dtype: compute type.
    """

    def __init__(self, channels: int, anchors: int, num_classes: int, *, depth: int, dtype, rngs: nnx.Rngs):
        conv = partial(nnx.Conv, kernel_size=(3, 3), kernel_init=_normal, rngs=rngs)
        self.class_tower = nnx.List([conv(channels, channels, dtype=dtype) for _ in range(depth)])
        self.box_tower = nnx.List([conv(channels, channels, dtype=dtype) for _ in range(depth)])
        prior = nnx.initializers.constant(-math.log((1 - PRIOR) / PRIOR))
        self.classes = conv(channels, anchors * num_classes, bias_init=prior)
        self.boxes = conv(channels, anchors * 4)
        self.num_classes = num_classes

    def __call__(
        self, levels: Levels
    ) -> tuple[list[Float[Array, "batch _anchors classes"]], list[Float[Array, "batch _anchors 4"]]]:
        """Logits and box deltas of each level's anchors: row by row, and all of one place after each other."""
        logits, deltas = [], []
        for level in levels:
            logits.append(_by_anchor(self.classes(_through(self.class_tower, level)), self.num_classes))
            deltas.append(_by_anchor(self.boxes(_through(self.box_tower, level)), 4))
        return logits, deltas


class RPNHead(nnx.Module):
    """Where there is something at all, and its box: the region proposal network of Faster R-CNN (Ren et al. 2015).

    Args:
      channels: of the levels.
      anchors: at each place.
      dtype: compute type.
    """

    def __init__(self, channels: int, anchors: int, *, dtype, rngs: nnx.Rngs):
        conv = partial(nnx.Conv, kernel_init=_normal, rngs=rngs)
        self.conv = conv(channels, channels, (3, 3), dtype=dtype)
        self.objectness = conv(channels, anchors, (1, 1))
        self.boxes = conv(channels, anchors * 4, (1, 1))

    def __call__(
        self, levels: Levels
    ) -> tuple[list[Float[Array, "batch _anchors"]], list[Float[Array, "batch _anchors 4"]]]:
        """Logits and box deltas of each level's anchors: row by row, and all of one place after each other."""
        logits, deltas = [], []
        for level in levels:
            x = _through([self.conv], level)
            logits.append(_by_anchor(self.objectness(x), 1)[..., 0])
            deltas.append(_by_anchor(self.boxes(x), 4))
        return logits, deltas


class BoxHead(nnx.Module):
    """What is in a region, and a better box for each class it may be: two linear layers with ReLU (Lin et al. 2017).

    Args:
      channels: of the regions.
      side: of the regions.
      width: of the two layers.
      num_classes: without the background, which is one more and the last.
      dtype: compute type.
    """

    def __init__(self, channels: int, side: int, width: int, num_classes: int, *, dtype, rngs: nnx.Rngs):
        linear = partial(nnx.Linear, kernel_init=nnx.initializers.xavier_uniform(), dtype=dtype, rngs=rngs)
        self.layers = nnx.List([linear(channels * side**2, width), linear(width, width)])
        self.classes = nnx.Linear(width, num_classes + 1, kernel_init=_normal, rngs=rngs)
        self.boxes = nnx.Linear(width, num_classes * 4, kernel_init=nnx.initializers.normal(0.001), rngs=rngs)

    def __call__(
        self, regions: Float[Array, "*regions side side channels"]
    ) -> tuple[Float[Array, "*regions logits"], Float[Array, "*regions classes 4"]]:
        """Logits, of which the background's is the last, and a box delta for every class."""
        x = _through(self.layers, regions.reshape(*regions.shape[:-3], -1))
        deltas = self.boxes(x)
        return self.classes(x), deltas.reshape(*deltas.shape[:-1], -1, 4)


class MaskHead(nnx.Module):
    """The shape of an object of each class it may be, in twice as many cells a side as a region has (He et al. 2017).

    Args:
      channels: of the regions, and of the convolutions.
      num_classes: whose masks are sigmoids.
      depth: 3×3 convolutions with ReLU before the enlargement.
      dtype: compute type.
    """

    def __init__(self, channels: int, num_classes: int, *, depth: int, dtype, rngs: nnx.Rngs):
        conv = partial(nnx.Conv, kernel_init=_he, rngs=rngs)
        self.convs = nnx.List([conv(channels, channels, (3, 3), dtype=dtype) for _ in range(depth)])
        self.enlarge = Enlarging(channels, dtype, rngs)
        self.masks = conv(channels, num_classes, (1, 1))

    def __call__(
        self, regions: Float[Array, "regions side side channels"]
    ) -> Float[Array, "regions 2*side 2*side classes"]:
        """Logits."""
        return self.masks(_through([*self.convs, self.enlarge], regions))


class Enlarging(nnx.Module):
    """A transposed convolution of stride 2, whose 2×2 taps do not overlap, as the product that it therefore is."""

    def __init__(self, channels: int, dtype, rngs: nnx.Rngs):
        self.kernel = nnx.Param(_he(rngs.params(), (2, 2, channels, channels)))
        self.bias = nnx.Param(jnp.zeros(channels))
        self.dtype = dtype

    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch 2*height 2*width channels"]:
        """The map at twice the resolution."""
        batch, height, width, channels = x.shape
        kernel, bias = self.kernel[...].astype(self.dtype), self.bias[...].astype(self.dtype)
        cells = jnp.einsum("nhwc,ijco->nhiwjo", x.astype(self.dtype), kernel) + bias
        return cells.reshape(batch, 2 * height, 2 * width, channels)


def _through(layers: Sequence[nnx.Module], x: Float[Array, "*shape"]) -> Float[Array, "*_shape"]:
    for layer in layers:
        x = nnx.relu(layer(x))
    return x


def _by_anchor(x: Float[Array, "batch height width outputs"], each: int) -> Float[Array, "batch _anchors {each}"]:
    return x.reshape(x.shape[0], -1, each)
