"""The parts of Mask R-CNN's loss against loops in float64; who is sampled; and that all of it is one for a batch."""

from functools import partial

import jax
import jax.numpy as jnp
import naive_detection as naive
import numpy as np
import pytest

from posmlp_jax.detection.anchors import pyramid_anchors
from posmlp_jax.tasks.detection import mask_rcnn_loss as loss
from posmlp_jax.tasks.detection.mask_rcnn_loss import Regions, choose_regions

SIZE = np.array([64, 70], np.int32)
ANCHORS = np.concatenate(pyramid_anchors(((12, 16), (6, 8)), (8, 16), (2.0,), (0.5, 1.0, 2.0)))
# Rows without an object say so by their class alone; the two last objects have one box.
BOXES = np.array([[0, 0, 50, 50], [10, 12, 50, 60], [5, 5, 20, 25], [30, 2, 62, 40], [30, 2, 62, 40]], np.float32)
CLASSES = np.array([-1, 2, 0, 1, 0], np.int32)
NONE = np.full(5, -1, np.int32)
random = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return random.normal(0, 1, shape).astype(np.float32)


@pytest.mark.parametrize("classes", [CLASSES, NONE], ids=["objects", "none"])
def test_of_proposals(classes):
    """So many samples that every anchor within the image is one that may be: then their loss is no matter of chance."""
    logits, deltas = normal(len(ANCHORS)), normal(len(ANCHORS), 4)
    terms = jax.jit(partial(loss._proposal_terms, anchors=ANCHORS, number=4 * len(ANCHORS)))(
        jax.random.key(0), logits, deltas, BOXES, classes, SIZE
    )
    objects = BOXES[classes >= 0].astype(float)
    numbers = naive.assigned(ANCHORS.astype(float), objects, SIZE, 0.7, 0.3, 0.3)
    chosen = [index for index, number in enumerate(numbers) if number != naive.IGNORED]
    positive = [index for index in chosen if numbers[index] >= 0]
    assert len(chosen) < len(ANCHORS)
    assert bool(positive) == any(classes >= 0)
    wrong = sum(naive.cross_entropy(float(logits[index]), index in positive) for index in chosen)
    off = sum(np.abs(deltas[i] - naive.encode(objects[numbers[i]], ANCHORS[i].astype(float))).sum() for i in positive)
    assert terms["objectness"].sums == pytest.approx(wrong, rel=1e-5)
    assert terms["proposal"].sums == pytest.approx(off, rel=1e-5, abs=1e-9)
    assert terms["objectness"].counts == terms["proposal"].counts == len(chosen)


def test_so_many_anchors_are_sampled():
    """As many as asked for, at most half of them with an object, and others for other keys."""
    of_image = jax.jit(partial(loss._proposal_terms, anchors=ANCHORS, number=16))
    logits, deltas = normal(len(ANCHORS)), normal(len(ANCHORS), 4)
    values = [of_image(jax.random.key(key), logits, deltas, BOXES, CLASSES, SIZE) for key in (0, 1, 0)]
    assert [float(each["objectness"].counts) for each in values] == [16, 16, 16]
    first, other, again = (float(each["objectness"].sums) for each in values)
    assert first == again != other


def regions(key: int, number: int, classes=CLASSES) -> Regions:
    proposals = np.array([[10, 10, 50, 60], [0, 0, 9, 9], [29, 2, 62, 41], [40, 40, 60, 60], [0, 0, 0, 0]], np.float32)
    valid = np.array([True, True, True, True, False])
    choose = jax.jit(partial(choose_regions, number=number))
    return jax.device_get(choose(jax.random.key(key), proposals, valid, BOXES, classes))


def test_regions_are_proposals_and_the_objects_themselves():
    """An object's box is its own even where another has the same; a proposal is of the first that it overlaps most."""
    boxes, objects = regions(0, 40)
    found = sorted((int(number), *map(float, box)) for box, number in zip(boxes, objects, strict=True) if number != -2)
    assert found == [
        (-1, 0.0, 0.0, 9.0, 9.0),
        (-1, 40.0, 40.0, 60.0, 60.0),
        (1, 10.0, 10.0, 50.0, 60.0),
        (1, 10.0, 12.0, 50.0, 60.0),
        (2, 5.0, 5.0, 20.0, 25.0),
        (3, 29.0, 2.0, 62.0, 41.0),
        (3, 30.0, 2.0, 62.0, 40.0),
        (4, 30.0, 2.0, 62.0, 40.0),
    ]
    assert not np.any(boxes[objects == -2])
    # Those with an object come first.
    assert np.all(np.diff((objects >= 0).astype(int)) <= 0)


def test_a_quarter_of_the_regions_has_an_object():
    several = [regions(key, 8).objects for key in range(8)]
    assert all(np.sum(objects >= 0) == 2 for objects in several)
    assert len({tuple(objects) for objects in several}) > 3
    assert sorted(regions(0, 8, NONE).objects) == [-2] * 4 + [-1] * 4


def test_of_regions():
    """Softmax with the background last, and the deltas of an object's class alone: over all regions there are."""
    boxes = np.array([[12, 10, 52, 61], [3, 5, 18, 25], [0, 0, 20, 20], [0, 0, 0, 0]], np.float32)
    objects = np.array([1, 2, -1, -2], np.int32)
    logits, deltas = normal(4, 4), normal(4, 3, 4)
    terms = jax.jit(loss._region_terms)(logits, deltas, Regions(boxes, objects), BOXES, CLASSES)
    wrong = off = 0.0
    for index, number in enumerate(objects[:3]):
        label = CLASSES[number] if number >= 0 else 3
        row = logits[index].astype(float)
        wrong += np.log(np.exp(row).sum()) - row[label]
        if number >= 0:
            wanted = naive.encode(BOXES[number].astype(float), boxes[index].astype(float), (0.1, 0.1, 0.2, 0.2))
            off += np.abs(deltas[index, label] - wanted).sum()
    assert terms["class"].sums == pytest.approx(wrong, rel=1e-5)
    assert terms["box"].sums == pytest.approx(off, rel=1e-5)
    assert terms["class"].counts == terms["box"].counts == 3


def test_of_masks():
    """The object fills the right half of its box; regions that are the box, its upper left part, and nothing."""
    crops = np.zeros((5, 112, 112), np.uint8)
    crops[1, :, 56:] = 1
    crops[2] = 1
    boxes = np.array([[10, 12, 50, 60], [10, 12, 30, 36], [0, 0, 20, 20], [0, 0, 0, 0]], np.float32)
    objects = np.array([1, 1, -1, -2], np.int32)
    logits = normal(4, 28, 28, 3)
    term = jax.jit(loss._mask_term)(logits, Regions(boxes, objects), BOXES, CLASSES, np.packbits(crops, axis=-1))
    right = np.zeros((28, 28))
    right[:, 14:] = 1
    targets = [right, np.zeros((28, 28))]
    wrong = sum(
        naive.cross_entropy(float(logits[index, row, column, 2]), targets[index][row, column])
        for index in range(2)
        for row, column in np.ndindex(28, 28)
    )
    assert term.sums == pytest.approx(wrong, rel=1e-5)
    assert term.counts == 2 * 28**2


def test_gradients_without_objects_are_finite():
    """Of huge numbers, too: what is thrown away gives no NaN back."""

    def total(logits, deltas, masks):
        nothing = Regions(np.zeros((4, 4), np.float32), np.array([-1, -1, -2, -2], np.int32))
        packed = np.zeros((5, 112, 14), np.uint8)
        terms = jax.jit(loss._region_terms)(logits, deltas, nothing, BOXES, NONE)
        mask = jax.jit(loss._mask_term)(masks, nothing, BOXES, NONE, packed)
        return sum(term.sums / jnp.maximum(term.counts, 1) for term in (*terms.values(), mask))

    values = 1e4 * normal(4, 4), 1e4 * normal(4, 3, 4), 1e4 * normal(4, 8, 8, 3)
    value, gradients = jax.value_and_grad(total, (0, 1, 2))(*values)
    assert np.isfinite(value)
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    assert [bool(np.any(gradient)) for gradient in gradients] == [True, False, False]
