"""The same random weights in torchvision's networks, and its way from what these say to detections.

Its conventions differ from mmdetection's, which are ours, in what is overridden here: base anchors are rounded, P6 and
P7 have other inputs, RoIAlign is not aligned, and background is the first class.
"""

import functools
from collections import OrderedDict

import helpers
import jax.numpy as jnp
import naive
import numpy as np
import pytest
from flax import nnx
from helpers import randomized
from tiny_detectors import IMAGES, see, tiny

from posmlp_jax.detection.anchors import cell_anchors
from posmlp_jax.models.detectors.fpn import FPN
from posmlp_jax.models.detectors.heads import BoxHead, MaskHead, RetinaNetHead, RPNHead
from posmlp_jax.models.detectors.mask_rcnn import BOX_STD

pytestmark = pytest.mark.heavy
torch = pytest.importorskip("torch")
torchvision = helpers.torchvision()
faster_rcnn = torchvision.models.detection.faster_rcnn
generator = np.random.default_rng(0)


def tensor(x) -> "torch.Tensor":
    return torch.from_numpy(np.array(x))


def channels_first(x) -> "torch.Tensor":
    return tensor(np.moveaxis(np.asarray(x), -1, 1))


def channels_last(x: "torch.Tensor") -> np.ndarray:
    return np.moveaxis(x.detach().numpy(), 1, -1)


def fill(theirs, ours, kernel=lambda kernel: kernel.transpose(3, 2, 0, 1)) -> None:
    """Gives torch's layer the values of ours."""
    with torch.no_grad():
        theirs.weight.copy_(tensor(kernel(np.asarray(ours.kernel[...]))))
        theirs.bias.copy_(tensor(ours.bias[...]))


def levels(channels: int, sides=(16, 8, 4)) -> list[np.ndarray]:
    return [generator.standard_normal((2, side, side + 1, channels)).astype(np.float32) for side in sides]


def random(create):
    return randomized(create, scale=0.15)


@pytest.mark.parametrize("sizes", [((16, 24), (8, 12), (4, 6)), ((13, 17), (7, 9), (4, 5))], ids=str)
def test_fpn(sizes):
    """Also of maps with odd sides; P6 and P7 by torch's convolutions, with mmdetection's inputs and no ReLU between."""
    widths = (4, 6, 10)
    maps = [
        generator.standard_normal((2, *size, width)).astype(np.float32)
        for size, width in zip(sizes, widths, strict=True)
    ]
    ours = random(lambda: FPN(widths, 8, extra=2, extra_convs=True, dtype=jnp.float32, rngs=nnx.Rngs(0)))
    theirs = torchvision.ops.FeaturePyramidNetwork(widths, 8)
    for index in range(3):
        fill(theirs.inner_blocks[index][0], ours.laterals[index])
        fill(theirs.layer_blocks[index][0], ours.outputs[index])
    expected = list(theirs(OrderedDict((str(i), channels_first(m)) for i, m in enumerate(maps))).values())
    coarsest = channels_first(maps[-1])
    for inputs, conv in zip((10, 8), ours.extra_convs, strict=True):
        fill(halving := torch.nn.Conv2d(inputs, 8, 3, stride=2, padding=1), conv)
        coarsest = halving(coarsest)
        expected.append(coarsest)
    for actual, level in zip(ours([*map(jnp.asarray, maps)]), expected, strict=True):
        naive.assert_close(actual, channels_last(level), 1e-5)


def retinanet_head(ours: RetinaNetHead, channels: int, anchors: int, classes: int):
    theirs = torchvision.models.detection.retinanet.RetinaNetHead(channels, anchors, classes)
    for block, layer in zip(theirs.classification_head.conv, ours.class_tower, strict=True):
        fill(block[0], layer)
    for block, layer in zip(theirs.regression_head.conv, ours.box_tower, strict=True):
        fill(block[0], layer)
    fill(theirs.classification_head.cls_logits, ours.classes)
    fill(theirs.regression_head.bbox_reg, ours.boxes)
    return theirs


def test_retinanet_head():
    ours = random(lambda: RetinaNetHead(8, 6, 5, depth=4, dtype=jnp.float32, rngs=nnx.Rngs(0)))
    theirs = retinanet_head(ours, 8, 6, 5)
    maps = levels(8)
    logits, deltas = ours([*map(jnp.asarray, maps)])
    expected = theirs([*map(channels_first, maps)])
    naive.assert_close(jnp.concatenate(logits, axis=1), expected["cls_logits"].detach().numpy(), 1e-4)
    naive.assert_close(jnp.concatenate(deltas, axis=1), expected["bbox_regression"].detach().numpy(), 1e-4)


def rpn_head(ours: RPNHead, channels: int, anchors: int):
    theirs = torchvision.models.detection.rpn.RPNHead(channels, anchors)
    fill(theirs.conv[0][0], ours.conv)
    fill(theirs.cls_logits, ours.objectness)
    fill(theirs.bbox_pred, ours.boxes)
    return theirs


def test_rpn_head():
    ours = random(lambda: RPNHead(8, 3, dtype=jnp.float32, rngs=nnx.Rngs(0)))
    theirs = rpn_head(ours, 8, 3)
    maps = levels(8)
    logits, deltas = ours([*map(jnp.asarray, maps)])
    their_logits, their_deltas = theirs([*map(channels_first, maps)])
    for actual, expected in zip(logits, their_logits, strict=True):
        naive.assert_close(actual, channels_last(expected).reshape(2, -1), 1e-4)
    for actual, expected in zip(deltas, their_deltas, strict=True):
        naive.assert_close(actual, channels_last(expected).reshape(2, -1, 4), 1e-4)


def box_head(ours: BoxHead, channels: int, side: int, width: int, classes: int):
    """Background goes from the end to the beginning, where it has box deltas too, which nobody takes."""
    theirs = faster_rcnn.TwoMLPHead(channels * side**2, width)
    predictor = faster_rcnn.FastRCNNPredictor(width, classes + 1)

    def channels_before_places(kernel):
        kernel = kernel.reshape(side, side, channels, -1)
        return kernel.transpose(3, 2, 0, 1).reshape(kernel.shape[-1], -1)

    fill(theirs.fc6, ours.layers[0], channels_before_places)
    fill(theirs.fc7, ours.layers[1], np.transpose)
    with torch.no_grad():
        for layer, values in ((predictor.cls_score, ours.classes), (predictor.bbox_pred, ours.boxes)):
            kernel, bias = np.asarray(values.kernel[...]), np.asarray(values.bias[...])
            if values is ours.classes:
                kernel, bias = np.roll(kernel, 1, axis=1), np.roll(bias, 1)
            else:
                kernel, bias = np.pad(kernel, ((0, 0), (4, 0))), np.pad(bias, (4, 0))
            layer.weight.copy_(tensor(kernel.T))
            layer.bias.copy_(tensor(bias))
    return theirs, predictor


def test_box_head():
    ours = random(lambda: BoxHead(4, 3, 16, 5, dtype=jnp.float32, rngs=nnx.Rngs(0)))
    head, predictor = box_head(ours, 4, 3, 16, 5)
    regions = generator.standard_normal((2, 7, 3, 3, 4)).astype(np.float32)
    logits, deltas = ours(jnp.asarray(regions))
    their_logits, their_deltas = predictor(head(channels_first(regions.reshape(14, 3, 3, 4))))
    naive.assert_close(np.roll(logits.reshape(14, 6), 1, axis=1), their_logits.detach().numpy(), 1e-4)
    naive.assert_close(deltas.reshape(14, 20), their_deltas.detach().numpy()[:, 4:], 1e-4)


def mask_head(ours: MaskHead, channels: int, classes: int, depth: int):
    theirs = torchvision.models.detection.mask_rcnn.MaskRCNNHeads(channels, (channels,) * depth, 1)
    predictor = torchvision.models.detection.mask_rcnn.MaskRCNNPredictor(channels, channels, classes + 1)
    for block, layer in zip(theirs, ours.convs, strict=True):
        fill(block[0], layer)
    fill(predictor.conv5_mask, ours.enlarge, lambda kernel: kernel.transpose(2, 3, 0, 1))
    with torch.no_grad():
        predictor.mask_fcn_logits.weight[1:].copy_(tensor(ours.masks.kernel[...][0, 0].T[..., None, None]))
        predictor.mask_fcn_logits.bias[1:].copy_(tensor(ours.masks.bias[...]))
    return theirs, predictor


def test_mask_head():
    ours = random(lambda: MaskHead(8, 5, depth=4, dtype=jnp.float32, rngs=nnx.Rngs(0)))
    head, predictor = mask_head(ours, 8, 5, 4)
    regions = generator.standard_normal((3, 6, 6, 8)).astype(np.float32)
    expected = predictor(head(channels_first(regions)))[:, 1:]
    naive.assert_close(ours(jnp.asarray(regions)), channels_last(expected), 1e-4)


def anchor_generator(config):
    """With our anchors of a cell. Strides are the image's size over the map's: those of multiples of 128 are ours."""
    anchors = torchvision.models.detection.anchor_utils.AnchorGenerator(((1,),) * 5, (config.anchor_ratios,) * 5)
    anchors.cell_anchors = [
        tensor(cell_anchors(tuple(scale * stride for scale in config.anchor_scales), config.anchor_ratios))
        for stride in config.strides
    ]
    return anchors


class Pyramid(torch.nn.Module):
    """In the place of a backbone: the levels that a detector of ours makes of `IMAGES`."""

    def __init__(self, detector):
        super().__init__()
        self.out_channels = detector.config.fpn_width
        self.levels = [channels_first(level) for level in see(detector).levels]

    def forward(self, images):
        return OrderedDict((str(index), level) for index, level in enumerate(self.levels))


def images_and_sizes():
    return torchvision.models.detection.image_list.ImageList(
        channels_first(IMAGES), [tuple(image.shape[:2]) for image in IMAGES]
    )


def assert_same_detections(found, expected: list[dict], first_class: int) -> None:
    for image, theirs in enumerate(expected):
        count = len(theirs["boxes"])
        assert count > 5
        np.testing.assert_array_equal(found.valid[image], np.arange(len(found.valid[image])) < count)
        np.testing.assert_array_equal(found.classes[image][:count], theirs["labels"] - first_class)
        naive.assert_close(found.scores[image][:count], theirs["scores"].detach().numpy(), 1e-4)
        naive.assert_close(found.boxes[image][:count], theirs["boxes"].detach().numpy(), 1e-4)


def test_retinanet():
    detector = tiny("retinanet_posmlp_t")
    config = detector.config
    head = retinanet_head(detector.head.dense, config.fpn_width, 9, config.num_classes)
    theirs = torchvision.models.detection.RetinaNet(
        Pyramid(detector),
        config.num_classes,
        anchor_generator=anchor_generator(config),
        head=head,
        score_thresh=config.score_threshold,
        nms_thresh=config.nms_threshold,
        detections_per_img=config.max_detections,
        topk_candidates=config.candidates,
    ).eval()
    images = images_and_sizes()
    maps = list(theirs.backbone(images.tensors).values())
    outputs = theirs.head(maps)
    counts = [m.shape[-1] * m.shape[-2] * 9 for m in maps]
    outputs = {name: list(value.split(counts, dim=1)) for name, value in outputs.items()}
    anchors = [list(each.split(counts)) for each in theirs.anchor_generator(images, maps)]
    expected = theirs.postprocess_detections(outputs, anchors, images.image_sizes)
    assert_same_detections(see(detector).found, expected, 0)


class AlignedPool(torch.nn.Module):
    """RoIAlign as mmdetection has it, on the level that torchvision chooses."""

    def __init__(self, side: int):
        super().__init__()
        self.side = side
        self.level = torchvision.ops.poolers.LevelMapper(2, 5)

    def forward(self, features, boxes, image_shapes):
        pool = functools.partial(torchvision.ops.roi_align, sampling_ratio=-1, aligned=True)
        of_level = self.level(boxes)
        pooled = [pool(features[str(i)], boxes, self.side, 1 / 2 ** (i + 2)) for i in range(4)]
        return torch.stack(pooled)[of_level, torch.arange(len(of_level))]


def test_mask_rcnn():
    detector = tiny("mask_rcnn_posmlp_t")
    config, head = detector.config, detector.head
    rpn = torchvision.models.detection.rpn.RegionProposalNetwork(
        anchor_generator(config),
        rpn_head(head.rpn, config.fpn_width, 3),
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=256,
        positive_fraction=0.5,
        pre_nms_top_n={"training": 1, "testing": config.candidates},
        post_nms_top_n={"training": 1, "testing": config.proposals},
        nms_thresh=config.proposal_threshold,
    ).eval()
    box, predictor = box_head(head.box, config.fpn_width, config.box_side, config.box_width, config.num_classes)
    mask, mask_predictor = mask_head(head.mask, config.fpn_width, config.num_classes, config.mask_depth)
    heads = torchvision.models.detection.roi_heads.RoIHeads(
        AlignedPool(config.box_side),
        box,
        predictor,
        fg_iou_thresh=0.5,
        bg_iou_thresh=0.5,
        batch_size_per_image=512,
        positive_fraction=0.25,
        bbox_reg_weights=tuple(1 / std for std in BOX_STD),
        score_thresh=config.score_threshold,
        nms_thresh=config.nms_threshold,
        detections_per_img=config.max_detections,
        mask_roi_pool=AlignedPool(config.mask_side),
        mask_head=mask,
        mask_predictor=mask_predictor,
    ).eval()
    images = images_and_sizes()
    pyramid = Pyramid(detector)(images.tensors)
    with torch.no_grad():
        proposals, _ = rpn(images, pyramid)
        expected, _ = heads(pyramid, proposals, images.image_sizes)
    found = see(detector).found
    assert_same_detections(found, expected, 1)
    for image, theirs in enumerate(expected):
        naive.assert_close(found.masks[image][: len(theirs["masks"])], theirs["masks"][:, 0].numpy(), 1e-4)
