"""Detectors of a few hundred weights, all random, for images whose sides are multiples of 128."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from flax import nnx
from helpers import randomized

from posmlp_jax import create_detector

TINY = {
    "num_classes": 3,
    "widths": (8, 16, 32, 64),
    "depths": (1, 1, 1, 1),
    "expansions": (2, 2, 2, 2),
    "windows": (4, 4, 4, 4),
    "groups": (1, 2, 2, 4),
    "fpn_width": 8,
    "candidates": 60,
    "max_detections": 20,
}
OF_MASKS = {"box_width": 16, "box_side": 3, "mask_side": 4, "mask_depth": 1, "proposals": 40}
IMAGES = np.random.default_rng(0).standard_normal((2, 128, 256, 3)).astype(np.float32)


def fields(name: str) -> dict:
    return TINY | (OF_MASKS if name.startswith("mask_rcnn") else {"tower_depth": 4})


@functools.cache
def tiny(name: str, **overrides) -> nnx.Module:
    return randomized(lambda: create_detector(name, **fields(name) | overrides), scale=0.1)


class Seen(NamedTuple):
    """What a detector makes of images: the backbone's maps, the pyramid's levels, and what it finds."""

    maps: list[jax.Array]
    levels: list[jax.Array]
    found: NamedTuple


@functools.cache
def _compiled(graph: nnx.GraphDef) -> Callable:
    def call(state, images, sizes) -> Seen:
        detector = nnx.merge(graph, state)
        return Seen(detector.features(images), detector.pyramid(images), detector(images, sizes))

    return jax.jit(call)


def see(detector: nnx.Module, sizes=((128, 256), (128, 256))) -> Seen:
    """`IMAGES` as a detector sees them: those of one architecture share a compiled call."""
    graph, state = nnx.split(detector)
    return _compiled(graph)(nnx.to_pure_dict(state), IMAGES, np.array(sizes))
