"""Detectors that start from a backbone trained on ImageNet, and from a detector of other classes."""

from functools import partial

import jax
import numpy as np
import pytest
from helpers import randomized
from runs import assert_equal, save_model
from tiny_detectors import TINY, fields, tiny

from posmlp_jax import create_model, from_pretrained
from posmlp_jax.checkpoints.resizing import resize_bias
from posmlp_jax.checkpoints.state import create_weights, module_weights
from posmlp_jax.checkpoints.transfer import transfer
from posmlp_jax.errors import CheckpointError
from posmlp_jax.models import model_config
from posmlp_jax.training import open_pretrained

pytestmark = pytest.mark.heavy

BACKBONE = {name: TINY[name] for name in ("widths", "depths", "expansions", "windows", "groups")}
RETINANET = "retinanet_posmlp_t"


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A classifier's weights and its working directory."""
    workdir = tmp_path_factory.mktemp("classifier")
    model = randomized(lambda: create_model("posmlp_t", **BACKBONE, num_classes=5))
    save_model(workdir, "posmlp_t", model, ("a", "b", "c", "d", "e"))
    return module_weights(model), open_pretrained(workdir)


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """A detector's weights and its working directory."""
    workdir = tmp_path_factory.mktemp("detector")
    save_model(workdir, RETINANET, tiny(RETINANET), ("a", "b", "c"))
    return module_weights(tiny(RETINANET)), workdir


@pytest.mark.parametrize("name", [RETINANET, "mask_rcnn_posmlp_t"])
def test_from_a_classifier(classifier, name):
    """Its windows are not shifted and those of the detector are: all but the head is taken, and the head is new."""
    weights, pretrained = classifier
    config = model_config(name, **fields(name))
    assert (config.shift_windows, pretrained.config.shift_windows) == (True, False)
    transferred = transfer(pretrained, config, task="detection", class_names=("x", "y", "z"), seed=3)
    taken, head = dict(transferred.weights.params), transferred.weights.params["head"]
    assert_equal(
        {k: v for k, v in taken.items() if k != "head"}, {k: v for k, v in weights.params.items() if k != "head"}
    )
    assert_equal(transferred.weights.batch_stats, weights.batch_stats)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-6), head, create_weights(config, 3).params["head"])
    total, new = (len(jax.tree.leaves(tree)) for tree in (taken, head))
    assert transferred.summary == f"{total - new} of {total} parameters taken; new: {new} in head"


def test_from_a_classifier_with_other_windows(classifier):
    weights, pretrained = classifier
    config = model_config(RETINANET, **fields(RETINANET) | {"windows": (6, 4, 4, 4), "tower_depth": 1})
    transferred = transfer(pretrained, config, task="detection")
    before, after = (
        params["stages"][0]["blocks"][0]["gate"]["bias"] for params in (weights.params, transferred.weights.params)
    )
    np.testing.assert_array_equal(after, resize_bias(np.asarray(before), (4, 4), (6, 6)))
    assert transferred.resized == ("stages.0.blocks.0.gate.bias",)


def test_of_another_architecture(classifier):
    _, pretrained = classifier
    with pytest.raises(CheckpointError, match=r"another architecture than the .*: covariance 'psd' there, 'free' here"):
        transfer(pretrained, model_config(RETINANET, **fields(RETINANET), covariance="free"))
    with pytest.raises(
        CheckpointError, match="of a posmlp_t, another family than the model's: PosMLPConfig there, GMLPC"
    ):
        transfer(pretrained, model_config(RETINANET, backbone="gmlp_s", first_map=0))


def test_the_data_sets_numbers_of_classes_are_kept(detector, tmp_path):
    """COCO's have gaps, and what is found is written with them."""
    assert open_pretrained(detector[1]).class_ids is None
    save_model(tmp_path, RETINANET, tiny(RETINANET), ("a", "b", "c"), (1, 3, 90))
    assert open_pretrained(tmp_path).class_ids == (1, 3, 90)


def test_as_it_was_but_for_what_it_finds(detector):
    weights, workdir = detector
    loaded = from_pretrained(workdir, score_threshold=0.5, max_detections=3, candidates=10)
    assert loaded.config.replace(score_threshold=0.05, max_detections=20, candidates=60) == tiny(RETINANET).config
    assert_equal(module_weights(loaded), weights)
    with pytest.raises(CheckpointError, match=r"another architecture .* anchor_scale 4.0 there, 2.0 here"):
        from_pretrained(workdir, anchor_scale=2.0)


def test_other_classes(detector):
    """Only the layers that speak of classes are new."""
    weights, workdir = detector
    other = from_pretrained(workdir, num_classes=7)
    assert other.head.dense.classes.kernel.shape == (3, 3, 8, 9 * 7)
    np.testing.assert_allclose(jax.nn.sigmoid(other.head.dense.classes.bias[...]), 0.01, rtol=1e-5)
    params, before = module_weights(other).params, jax.tree.map(lambda x: x, weights.params)
    del params["head"]["dense"]["classes"], before["head"]["dense"]["classes"]
    assert_equal(params, before)
    same_number = transfer(open_pretrained(workdir), tiny(RETINANET).config, class_names=("a", "b", "x"))
    assert same_number.new == ("head.dense.classes.bias", "head.dense.classes.kernel")


def test_classes_of_mask_rcnn(tmp_path):
    name = "mask_rcnn_posmlp_t"
    save_model(tmp_path, name, tiny(name), ("a", "b", "c"))
    transferred = transfer(open_pretrained(tmp_path), tiny(name).config, class_names=("a", "b", "x"))
    of_classes = [
        f"head.{layer}.{kind}" for layer in ("box.boxes", "box.classes", "mask.masks") for kind in ("bias", "kernel")
    ]
    assert sorted(transferred.new) == of_classes
