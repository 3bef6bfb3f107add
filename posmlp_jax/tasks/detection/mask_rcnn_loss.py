"""Mask R-CNN's loss, with mmdetection's conventions: of the proposals, and of what some of them are said to hold."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Float32, Int, Int32, Key, UInt8

from posmlp_jax.detection.boxes import encode
from posmlp_jax.detection.losses import box_loss
from posmlp_jax.detection.masks import mask_targets
from posmlp_jax.detection.matching import IGNORED, match
from posmlp_jax.detection.sampling import sample
from posmlp_jax.models.detectors.detector import Level
from posmlp_jax.models.detectors.mask_rcnn import BOX_STD, PROPOSAL_STD, MaskRCNN
from posmlp_jax.tasks.detection.losses import Term, Terms, match_anchors, overlaps_of_objects
from posmlp_jax.tasks.objective import Batch

# At least this IoU with an object, or less than that with any: of anchors, and of regions, of which none is in between.
ANCHOR_POSITIVE, ANCHOR_NEGATIVE, ANCHOR_LOW_QUALITY = 0.7, 0.3, 0.3
REGION_POSITIVE = 0.5
# How many of what is sampled have an object, at most.
ANCHOR_SHARE, REGION_SHARE = 0.5, 0.25


@dataclass(frozen=True)
class Samples:
    """How much of each image Mask R-CNN learns from; the defaults are mmdetection's.

    Attributes:
      anchors: that the region proposal network learns from, at most half of them with an object.
      candidates: anchors of a level, at most, that go into the proposals' non-maximum suppression.
      proposals: that the regions are taken from, at most.
      regions: that the heads learn from, at most a quarter of them with an object, the mask head from these alone.
    """

    anchors: int = 256
    candidates: int = 2000
    proposals: int = 1000
    regions: int = 512


class Regions(NamedTuple):
    """The boxes of an image that its heads learn from, those with an object first.

    Attributes:
      boxes: zeros where there is none.
      objects: the number of each one's object, −1 where it has none, and −2 where there is no box.
    """

    boxes: Float32[Array, "*batch regions 4"]
    objects: Int32[Array, "*batch regions"]


def mask_rcnn_terms(
    model: MaskRCNN,
    levels: Sequence[Level],
    logits: list[Float[Array, "batch _anchors"]],
    deltas: list[Float[Array, "batch _anchors 4"]],
    proposals: Float32[Array, "batch proposals 4"],
    valid: Bool[Array, "batch proposals"],
    batch: Batch,
    keys: Key[Array, "batch"],
    samples: Samples,
) -> Terms:
    """`objectness` and `proposal`, `class`, `box` and `mask`, of each image: sums, and what they are divided by.

    Args:
      model: whose heads learn.
      levels: its pyramid.
      logits: of each level's anchors, by `head.rpn`, as the deltas.
      deltas: likewise.
      proposals: by `MaskRCNN.proposals`.
      valid: whether there is one, likewise.
      batch: `size`, `boxes`, `classes` and `masks` (`targets.DetectionTargets`).
      keys: of each image's samples.
      samples: how many there are.
    """
    anchors = np.concatenate(model.anchors([level.shape[1:3] for level in levels]))
    logits, deltas = (jnp.concatenate(each, axis=1) for each in (logits, deltas))
    boxes, classes = batch["boxes"], batch["classes"]
    of_anchors, of_regions = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
    of_proposals = partial(_proposal_terms, anchors=anchors, number=samples.anchors)
    terms = jax.vmap(of_proposals)(of_anchors, logits, deltas, boxes, classes, batch["size"])

    choose = partial(choose_regions, number=samples.regions)
    regions = jax.vmap(choose)(of_regions, proposals, valid, boxes, classes)
    said = model.head.box(model.regions(levels, regions.boxes, model.config.box_side))
    terms |= jax.vmap(_region_terms)(*said, regions, boxes, classes)

    objects = jax.tree.map(lambda x: x[:, : int(samples.regions * REGION_SHARE)], regions)
    cells = model.regions(levels, objects.boxes, model.config.mask_side)
    drawn = model.head.mask(cells.reshape(-1, *cells.shape[2:]))
    drawn = drawn.reshape(*cells.shape[:2], *drawn.shape[1:])
    return terms | {"mask": jax.vmap(_mask_term)(drawn, objects, boxes, classes, batch["masks"])}


def _proposal_terms(
    key: Key[Array, ""],
    logits: Float[Array, "anchors"],
    deltas: Float[Array, "anchors 4"],
    boxes: Float[Array, "objects 4"],
    classes: Int[Array, "objects"],
    size: Int[Array, "2"],
    *,
    anchors: Float32[np.ndarray, "anchors 4"],
    number: int,
) -> dict[str, Term]:
    """Whether sampled anchors have an object, and its box: both over the number of samples."""
    thresholds = {"positive": ANCHOR_POSITIVE, "negative": ANCHOR_NEGATIVE, "low_quality": ANCHOR_LOW_QUALITY}
    matches = match_anchors(boxes, classes, anchors, size, **thresholds)
    chosen, exist = sample(key, matches, number, ANCHOR_SHARE)
    own = matches[chosen]
    positive = exist & (own >= 0)
    wrong = optax.sigmoid_binary_cross_entropy(logits[chosen].astype(jnp.float32), positive.astype(jnp.float32))
    off = box_loss(deltas[chosen], encode(boxes[own.clip(0)], jnp.asarray(anchors)[chosen], PROPOSAL_STD))
    count = jnp.sum(exist).astype(jnp.float32)
    return {
        "objectness": Term(jnp.sum(jnp.where(exist, wrong, 0)), count),
        "proposal": Term(jnp.sum(jnp.where(positive, off, 0)), count),
    }


def choose_regions(
    key: Key[Array, ""],
    proposals: Float32[Array, "proposals 4"],
    valid: Bool[Array, "proposals"],
    boxes: Float[Array, "objects 4"],
    classes: Int[Array, "objects"],
    *,
    number: int,
) -> Regions:
    """Samples regions of one image, from its proposals and, as these are bad at first, the objects' own boxes.

    Args:
      key: decides alone.
      proposals: by falling score.
      valid: whether there is one.
      boxes: of the objects.
      classes: −1 where there is no object.
      number: how many.
    """
    overlaps = overlaps_of_objects(boxes, classes, jnp.concatenate([boxes, proposals]))
    matches = match(overlaps, REGION_POSITIVE, REGION_POSITIVE, False)
    # An object's own box is its own, also where another object has the same one.
    own, exists = jnp.arange(len(boxes)), jnp.diagonal(overlaps) >= 0
    matches = jnp.where(jnp.concatenate([exists, valid]), matches, IGNORED)
    matches = matches.at[: len(boxes)].set(jnp.where(exists, own, IGNORED))
    chosen, exist = sample(key, matches, number, REGION_SHARE)
    regions = jnp.concatenate([boxes.astype(jnp.float32), proposals])[chosen]
    return Regions(jnp.where(exist[:, None], regions, 0), jnp.where(exist, matches[chosen], IGNORED))


def _region_terms(
    logits: Float[Array, "regions classes_and_background"],
    deltas: Float[Array, "regions classes 4"],
    regions: Regions,
    boxes: Float[Array, "objects 4"],
    classes: Int[Array, "objects"],
) -> dict[str, Term]:
    """What is in regions, and the box as its class has it: both over the number of regions."""
    exist, positive, own = regions.objects != IGNORED, regions.objects >= 0, regions.objects.clip(0)
    labels = jnp.where(positive, classes[own], logits.shape[-1] - 1)
    wrong = optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), labels)
    delta = jnp.take_along_axis(deltas, classes[own].clip(0)[:, None, None], axis=1)[:, 0]
    off = box_loss(delta, encode(boxes[own], regions.boxes, BOX_STD))
    count = jnp.sum(exist).astype(jnp.float32)
    return {
        "class": Term(jnp.sum(jnp.where(exist, wrong, 0)), count),
        "box": Term(jnp.sum(jnp.where(positive, off, 0)), count),
    }


def _mask_term(
    logits: Float[Array, "regions side side classes"],
    regions: Regions,
    boxes: Float[Array, "objects 4"],
    classes: Int[Array, "objects"],
    masks: UInt8[Array, "objects _side _bytes"],
) -> Term:
    """Which cells of a region are its object's, by the mask of its class: over the number of cells."""
    side = logits.shape[1]
    positive, own = regions.objects >= 0, regions.objects.clip(0)
    crops = jnp.unpackbits(masks, axis=-1)[own]
    targets = mask_targets(crops, boxes[own], regions.boxes, side)
    of_class = jnp.take_along_axis(logits, classes[own].clip(0)[:, None, None, None], axis=-1)[..., 0]
    wrong = optax.sigmoid_binary_cross_entropy(of_class.astype(jnp.float32), targets)
    wrong = jnp.where(positive, jnp.sum(wrong, axis=(1, 2)), 0)
    return Term(jnp.sum(wrong), jnp.sum(positive).astype(jnp.float32) * side**2)
