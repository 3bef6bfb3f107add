"""`configs/own_images.py` and its twins take a folder of class folders, and nothing else has to be said."""

import importlib

import pytest
from PIL import Image

from posmlp_jax.training.experiment import open_training


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Five classes of ten photos."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(50):
        path = folder / f"class {number % 5}" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (120, 80), (number, 0, 0)).save(path)
    return folder


def test_nothing_but_the_folder_has_to_be_said(folder):
    config = importlib.import_module("configs.own_images").get_config()
    config.data.data_dir = str(folder)
    config.devices = 1
    run = open_training(config)
    assert run.train_source.class_counts().tolist() == [8] * 5
    assert run.eval_source.class_counts().tolist() == [2] * 5
    assert (run.epoch, run.lengths.total) == (40, 60 * 40 // 32)
    # The moving average is far shorter than the run.
    assert run.options.ema_decay**run.lengths.total < 1e-6


@pytest.mark.parametrize("name", ["own_images", "finetune", "linear_probe"])
def test_the_twins_hold_out_the_same_photos(name):
    config = importlib.import_module(f"configs.{name}").get_config()
    assert (config.data.name, config.data.holdout) == ("image_folder", 0.2)
