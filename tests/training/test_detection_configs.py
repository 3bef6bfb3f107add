"""`configs/detection/`: Tables 8 and 9 with what the paper and mmdetection say of them, and one's own objects."""

import re
from pathlib import Path

import numpy as np
import pytest
from published_recipes import differing_fields, field_value, recipe_module

from posmlp_jax.data.canvases import Canvases
from posmlp_jax.errors import ConfigError
from posmlp_jax.models import parameter_count, registry
from posmlp_jax.training import default_config
from posmlp_jax.training.config import check_fields, check_values, resolve_model
from posmlp_jax.training.experiment import resolve_pretrained
from posmlp_jax.training.step.schedules import learning_rate

FOLDER = Path(__file__).parents[2] / "configs" / "detection"
# What is trained, token bias, absolute positions; what the paper prints: AP of boxes and, of Mask R-CNN, of masks.
TABLES = {
    "retinanet_t": ("retinanet_posmlp_t", True, False, ("41.9",)),
    "retinanet_s": ("retinanet_posmlp_s", True, False, ("42.4",)),
    "mask_rcnn_t": ("mask_rcnn_posmlp_t", True, False, ("41.6", "38.4", "38.5")),
    "mask_rcnn_s": ("mask_rcnn_posmlp_s", True, False, ("43.2", "39.4")),
    "mask_rcnn_t_no_bias": ("mask_rcnn_posmlp_t", False, False, ("41.6", "38.3")),
    "mask_rcnn_t_position_no_bias": ("mask_rcnn_posmlp_t", False, True, ("41.6", "38.4")),
    "mask_rcnn_t_position": ("mask_rcnn_posmlp_t", True, True, ("41.7", "38.4")),
}
# One's own objects, for either detector; and small ones on the built-in scenes, a file for each.
OWN = {"own_objects", "finetune"}
SCENES = {"digit_scenes": "retinanet_posmlp_t", "digit_scenes_masks": "mask_rcnn_posmlp_t"}
# Of the paper's section 5.5 and mmdetection's schedule_1x, coco_detection and mask-rcnn_swin-t-p4-w7_fpn_1x_coco.
PUBLISHED = {
    "model.shift_windows": True,
    "model.drop_path": 0.2,
    "data.name": "coco2017",
    "data.short_side": 800,
    "data.long_side": 1333,
    "data.flip": True,
    "batch_size": 16,
    "length": "12 epochs",
    "optimizer.schedule": "step",
    "optimizer.peak_rate": 1e-4,
    "optimizer.weight_decay": 0.067,
    "optimizer.milestones": ("8 epochs", "11 epochs"),
    "optimizer.decay": 0.1,
    "optimizer.warmup": "500 steps",
    "optimizer.clip_norm": 0.0,
    "max_objects": 100,
    "mask_rcnn.anchors": 256,
    "mask_rcnn.candidates": 2000,
    "mask_rcnn.proposals": 1000,
    "mask_rcnn.regions": 512,
}
OURS = {
    *("model.name", "model.token_bias", "model.absolute_position", "model.dropout", "data.crop", "data.canvases"),
    *("data.threads", "optimizer.warmup_rate", "optimizer.constant", "optimizer.eps", "ema_decay", "keep_best"),
}


def open_config(name: str):
    config = recipe_module(f"detection.{name}").get_config()
    check_fields(config)
    check_values(config)
    return config


def test_the_files():
    assert {path.stem for path in FOLDER.glob("*.py")} - {"recipe"} == {*TABLES, *OWN, *SCENES}


@pytest.mark.parametrize("name", TABLES)
def test_a_table(name):
    detector, token_bias, position, printed = TABLES[name]
    config = open_config(name)
    assert {field: field_value(config, field) for field in PUBLISHED} == PUBLISHED
    assert differing_fields(config, default_config(detector, "detection")) <= {*PUBLISHED, *OURS}
    model = resolve_model(config, {"num_classes": 80})
    assert (config.model.name, model.token_bias, model.absolute_position) == (detector, token_bias, position)
    text = recipe_module(f"detection.{name}").__doc__
    assert f"configs/detection/{name}.py" in text
    assert set(re.findall(r"AP (\d\d\.\d)", text)) == set(printed)
    if parameters := re.search(r"([\d.]+) M parameters", text):
        assert parameters[1] == f"{parameter_count(registry.abstract_model(model)) / 1e6:.1f}"
    # Every image has a canvas, however wide or high.
    sizes = np.random.default_rng(0).integers(32, 2000, (1000, 2))
    assert (Canvases(config.data.canvases, config.data)(sizes) >= 0).all()


def test_the_rate_of_coco():
    """117,266 images with objects, 16 a step: mmdetection's warm-up, and a tenth after 8 epochs and 11."""
    config = open_config("retinanet_t")
    rate = learning_rate(config.optimizer, config.length, batch_size=16, num_examples=117_266)
    epoch = 117_266 / 16
    rates = [float(rate(int(step))) for step in (0, 250, 500, 7.9 * epoch, 8.1 * epoch, 11.1 * epoch, 12 * epoch)]
    assert rates == pytest.approx([1e-7, 5.005e-5, 1e-4, 1e-4, 1e-5, 1e-6, 1e-6], rel=1e-4)


@pytest.mark.parametrize("name", sorted(OWN))
@pytest.mark.parametrize("detector", ["retinanet_posmlp_t", "mask_rcnn_posmlp_t"])
def test_one_file_is_of_both_detectors(name, detector):
    config = open_config(name)
    config.model.name = detector
    assert resolve_model(config, {"num_classes": 3}).num_classes == 3
    assert f"configs/detection/{name}.py" in recipe_module(f"detection.{name}").__doc__
    assert "mask_rcnn_posmlp_t" in recipe_module(f"detection.{name}").__doc__


@pytest.mark.parametrize(("name", "detector"), SCENES.items())
def test_the_built_in_scenes(name, detector):
    config = open_config(name)
    assert config.model.name == detector
    assert resolve_model(config, {"num_classes": 10}).image_size == (128, 128)
    assert f"configs/detection/{name}.py" in recipe_module(f"detection.{name}").__doc__


def test_fine_tuning_needs_something_to_start_from():
    with pytest.raises(ConfigError, match=r"data.mean is \(\), which means that of a checkpoint: set --config.init"):
        resolve_pretrained(open_config("finetune"))
