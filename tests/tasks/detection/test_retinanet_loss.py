"""RetinaNet's loss against loops in float64, and against torchvision's where the conventions agree."""

import functools

import helpers
import jax
import jax.numpy as jnp
import naive_detection as naive
import numpy as np
import pytest

from posmlp_jax.detection.anchors import pyramid_anchors
from posmlp_jax.tasks.detection.losses import of_batch, of_images
from posmlp_jax.tasks.detection.retinanet_loss import retinanet_terms

CLASSES, MOST = 3, 6
CANVAS = (96, 128)
# Full, padded at the right and below, without an object, and with one that no anchor overlaps enough.
SIZES = [(96, 128), (64, 70), (96, 100), (90, 128)]
OBJECTS = [
    [([10, 12, 50, 60], 2), ([15, 12, 55, 60], 0), ([80.5, 30, 110, 90], 1)],
    [([3, 5, 60, 62], 1)],
    [],
    [([40, 40, 47, 43], 0), ([0, 0, 127, 89], 2)],
]
ANCHORS = pyramid_anchors(((12, 16), (6, 8)), (8, 16), (4.0, 6.0), (0.5, 1.0, 2.0))


def batch(objects=OBJECTS, sizes=SIZES) -> dict:
    boxes, classes = np.zeros((len(objects), MOST, 4), np.float32), np.full((len(objects), MOST), -1, np.int32)
    for image, each in enumerate(objects):
        for row, (box, label) in enumerate(each):
            # Not the first rows: where there is none says the class alone, and whatever the box is.
            boxes[image, row + 1], classes[image, row + 1] = box, label
        boxes[image, 0] = (20, 20, 60, 60)
        boxes[image, -1] = np.nan
    return {"boxes": boxes, "classes": classes, "size": np.array(sizes, np.int32)}


@functools.cache
def predictions(images: int = len(SIZES)) -> tuple[list[np.ndarray], list[np.ndarray]]:
    random = np.random.default_rng(0)
    shapes = [(images, len(anchors)) for anchors in ANCHORS]
    logits = [random.normal(-2, 2, (*shape, CLASSES)).astype(np.float32) for shape in shapes]
    return logits, [random.normal(0, 1, (*shape, 4)).astype(np.float32) for shape in shapes]


@jax.jit
def terms(logits, deltas, batch):
    return retinanet_terms(logits, deltas, ANCHORS, batch)


def expected(image: int) -> tuple[float, float, int]:
    """The focal loss, L1, and anchors with an object of one image."""
    logits, deltas = (np.concatenate([level[image] for level in each]).astype(float) for each in predictions())
    anchors = np.concatenate(ANCHORS).astype(float)
    objects = OBJECTS[image]
    numbers = naive.assigned(anchors, [np.array(box, float) for box, _ in objects], SIZES[image], 0.5, 0.4, 0.0)
    wrong = off = 0.0
    for index, number in enumerate(numbers):
        if number == naive.IGNORED:
            continue
        wrong += naive.focal(logits[index], objects[number][1] if number >= 0 else -1)
        if number >= 0:
            off += np.abs(deltas[index] - naive.encode(objects[number][0], anchors[index])).sum()
    return wrong, off, sum(number >= 0 for number in numbers)


def test_against_loops():
    found = jax.device_get(terms(*predictions(), batch()))
    images = [expected(image) for image in range(len(SIZES))]
    wrong, off, counts = map(np.array, zip(*images, strict=True))
    assert counts.tolist()[2] == 0
    assert counts[3] >= 1  # The small one, by an anchor that overlaps it little.
    np.testing.assert_allclose(found["class"].sums, wrong, rtol=1e-5)
    np.testing.assert_allclose(found["box"].sums, off, rtol=1e-5, atol=1e-6)
    for term in found.values():
        np.testing.assert_array_equal(term.counts, np.maximum(counts, 1))
    divisor = np.maximum(counts, 1).sum()
    parts = of_batch(found)
    assert parts["class"] == pytest.approx(wrong.sum() / divisor, rel=1e-5)
    assert parts["box"] == pytest.approx(off.sum() / divisor, rel=1e-5)
    np.testing.assert_allclose(of_images(found), (wrong + off) / np.maximum(counts, 1), rtol=1e-5)


def test_against_torchvision():
    """Its loss is the mean of the images' own: that of an evaluation. It knows no padding."""
    torch, torchvision = pytest.importorskip("torch"), helpers.torchvision()
    sizes = [CANVAS] * len(SIZES)
    data = batch(sizes=sizes)
    logits, deltas = predictions()
    ours = of_images(terms(logits, deltas, data)).mean()
    retinanet = torchvision.models.detection.retinanet
    head = retinanet.RetinaNetHead(8, len(ANCHORS[0]) // (12 * 16), CLASSES)
    anchors = torch.from_numpy(np.concatenate(ANCHORS))
    matcher = torchvision.models.detection._utils.Matcher(0.5, 0.4, allow_low_quality_matches=True)
    targets, matched = [], []
    for objects in OBJECTS:
        boxes = torch.tensor([box for box, _ in objects], dtype=torch.float32).reshape(-1, 4)
        targets.append({"boxes": boxes, "labels": torch.tensor([label for _, label in objects], dtype=torch.int64)})
        overlaps = torchvision.ops.box_iou(boxes, anchors)
        none = torch.full((len(anchors),), -1, dtype=torch.int64)
        matched.append(matcher(overlaps) if len(boxes) else none)
    outputs = {
        "cls_logits": torch.from_numpy(np.concatenate(logits, axis=1)),
        "bbox_regression": torch.from_numpy(np.concatenate(deltas, axis=1)),
    }
    losses = head.compute_loss(targets, outputs, [anchors] * len(OBJECTS), matched)
    assert float(ours) == pytest.approx(sum(loss.item() for loss in losses.values()), rel=1e-5)


@pytest.mark.parametrize("objects", [OBJECTS, [[]] * len(OBJECTS)], ids=["objects", "none"])
def test_gradients_are_finite(objects):
    """Also without any object, of huge logits, and with a size of 0, as what fills up an evaluation's batch has."""

    def loss(logits, deltas):
        return sum(of_batch(terms(logits, deltas, batch(objects, [(0, 0), *SIZES[1:]]))).values())

    logits, deltas = predictions()
    value, gradients = jax.value_and_grad(loss, (0, 1))([10 * level for level in logits], deltas)
    assert np.isfinite(value)
    assert all(np.isfinite(gradient).all() for gradient in jax.tree.leaves(gradients))
    # Nothing is learned beyond the image.
    assert not any(np.any(level[0]) for level in gradients[0])
    assert np.any(gradients[1][0]) == any(objects)


def test_half_precision_is_summed_in_full():
    logits, deltas = (
        [jnp.asarray(level, jnp.bfloat16).astype(jnp.float32) for level in each] for each in predictions()
    )
    half = [[jnp.asarray(level, jnp.bfloat16) for level in each] for each in predictions()]
    whole, rounded = terms(logits, deltas, batch()), terms(*half, batch())
    for name, term in rounded.items():
        assert term.sums.dtype == jnp.float32
        np.testing.assert_allclose(term.sums, whole[name].sums, rtol=1e-6)
