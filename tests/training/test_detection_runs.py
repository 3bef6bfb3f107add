"""Detectors through the whole engine: canvases, eight devices, stopping and going on, COCO's metric, bfloat16."""

import json
import os
import re
import signal
from collections.abc import Callable

import jax
import jax.numpy as jnp
import naive
import numpy as np
import pytest
from flax import nnx
from runs import assert_equal, losses, metrics, saved_arrays, steps
from tiny_scenes import CATEGORIES, scenes_config, write_scenes

from posmlp_jax.checkpoints.state import Weights, bind_model, create_weights
from posmlp_jax.devices.mesh import batch_sharding, create_mesh
from posmlp_jax.errors import ConfigError, DataError
from posmlp_jax.training import evaluate, loop, open_pretrained, train
from posmlp_jax.training.experiment import open_training
from posmlp_jax.training.stopping import Stopped

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder)
    return folder


def test_it_trains_on_several_devices_and_resumes_bit_by_bit(scenes, tmp_path, monkeypatch, capsys):
    """Of two canvases each step has one; the metric decides which checkpoint is the best."""
    config = scenes_config(scenes, "retinanet_posmlp_t", devices=2, ema_decay=0.9)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    after_evaluation = watch_compilations(monkeypatch, "step 4  evaluation of the moving average")
    results = train(config, whole)
    assert after_evaluation() == []
    lines = capsys.readouterr().out.splitlines()
    # There are no objects of more than 32².
    names = {"box_ap", "box_ap50", "box_ap75", "box_ap_s"}
    assert results["eval"].keys() == results["ema"].keys() == {"loss", "count"} | names
    assert any(line.startswith("compiled the training step for 2 sizes in ") for line in lines)
    (line,) = [line for line in lines if line.startswith("step 8  evaluation of the weights: ")]
    shown = r".*: box AP [\d.]+ % \(AP50 [\d.]+, AP75 [\d.]+, S [\d.]+\)  loss [\d.]+  \(10 images\)"
    assert re.fullmatch(shown, line)
    assert "  7 more images have no object, or a side below 32 pixels, and are left out" in lines
    assert open_pretrained(whole, step="best").step in (4, 8)

    def stop_after_step_6(line):
        if line.startswith("step 6/8"):
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(loop, "report", stop_after_step_6)
    with pytest.raises(Stopped, match="SIGTERM after step 6"):
        train(config, stopped)
    assert steps(stopped) == [4, 6]
    assert train(config, stopped) == results
    assert_equal(saved_arrays(stopped, 8), saved_arrays(whole, 8))
    assert metrics(stopped) == metrics(whole)


def test_masks_are_trained_and_scored(scenes, tmp_path):
    """By one program, in two parts of a batch; what is written has the data set's own numbers of classes."""
    config = scenes_config(scenes, "mask_rcnn_posmlp_t", length="3 steps", accumulate=2)
    config.data.canvases = ((64, 64),)
    config.model.score_threshold = 0.0
    results = train(config, tmp_path)
    assert {"box_ap", "box_ap50", "mask_ap", "mask_ap75", "mask_ap_s"} < results["eval"].keys()
    first = metrics(tmp_path)[0]
    parts = ("class_loss", "box_loss", "mask_loss", "objectness_loss", "proposal_loss")
    assert first["loss"] == pytest.approx(sum(first[part] for part in parts), rel=1e-6)
    pretrained = open_pretrained(tmp_path, step="best")
    assert pretrained.class_names == tuple(category.name for category in CATEGORIES)
    assert pretrained.class_ids == tuple(category.id for category in CATEGORIES)
    folder = tmp_path / "evaluation" / "step3_eval"
    found = [json.loads((folder / name).read_text()) for name in ("detections.json", "masks.json")]
    assert {each["category_id"] for each in found[0]} <= set(pretrained.class_ids)
    assert {each["image_id"] for each in found[1]} <= set(range(140, 150))
    assert len(found[0]) == len(found[1]) > 0
    assert evaluate(None, tmp_path) == results


@pytest.mark.parametrize("detector", ["retinanet_posmlp_t", "mask_rcnn_posmlp_t"])
def test_one_device_and_eight_compute_the_same(scenes, detector):
    """The loss and its gradient: the samples of an image are its own wherever it is."""
    config = scenes_config(scenes, detector, **{"model.dropout": 0.0, "model.drop_path": 0.0})
    run = open_training(config)
    batches = run.batches(0)
    batch = next(batches)
    batches.close()
    weights = create_weights(run.model, seed=3)
    bind = bind_model(run.model)

    @jax.jit
    def compute(weights, batch):
        drawn_batch, drawn = run.task.draw(jax.random.key(7), batch)

        def loss(params):
            return run.task.loss(bind(Weights(params, weights.batch_stats)), drawn_batch, drawn, nnx.Rngs(0))[0]

        value, gradients = jax.value_and_grad(loss)(weights.params)
        # As one: of a bias that a norm takes out there is but rounding.
        flat = jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(gradients)])
        return value, flat

    columns = {name: value for name, value in batch.items() if name != "index"}
    one = compute(weights, columns)
    eight = compute(weights, jax.device_put(columns, batch_sharding(create_mesh(8))))
    for alone, shared in zip(*map(jax.tree.leaves, (one, eight)), strict=True):
        naive.assert_close(shared, alone, 1e-5)
    nothing = compute(weights, columns | {"classes": np.full_like(columns["classes"], -1)})
    assert all(np.isfinite(values).all() for values in nothing)
    assert nothing[0] > 0


@pytest.mark.slow
@pytest.mark.parametrize("detector", ["retinanet_posmlp_t", "mask_rcnn_posmlp_t"])
def test_200_steps_in_half_precision_stay_finite_and_compile_nothing(scenes, tmp_path, detector, monkeypatch):
    """Among 40 images are some that have no object but a crowd, and of a step's eight often most have few."""
    config = scenes_config(scenes, detector, **{"model.dtype": "bfloat16", "length": "200 steps"})
    config.update(eval_every="100 steps", checkpoint_every="200 steps")
    after_evaluation = watch_compilations(monkeypatch, "step 100  evaluation of the weights")
    train(config, tmp_path)
    assert after_evaluation() == []
    values = losses(tmp_path)
    assert len(values) == 200
    assert np.isfinite(values).all()
    assert np.mean(values[-20:]) < np.mean(values[:20])


def watch_compilations(monkeypatch, line: str) -> Callable[[], list[str]]:
    """What gives the events of compilation since a run has printed a line that starts so."""
    events, printed = [], []
    monkeypatch.setattr(loop, "report", lambda text: (print(text), printed.append((text, len(events)))))
    jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: events.append(event))

    def since() -> list[str]:
        (count,) = [count for text, count in printed if text.startswith(line)]
        assert any("compile" in event for event in events)
        return [event for event in events[count:] if "compile" in event]

    return since


@pytest.mark.parametrize(
    ("detector", "changes", "message"),
    [
        ("posmlp_t", {}, "model 'posmlp_t' is no detector, and detection takes one of list_detectors"),
        ("posmlp_video_s", {}, "detection takes images, and the model takes clips"),
        ("retinanet_posmlp_t", {"model.num_classes": 2}, "num_classes is 2, but tiny_scenes has 3 cl"),
        ("retinanet_posmlp_t", {"keep_best": "eval/mask_ap"}, "RetinaNet has no masks; try eval/box_ap"),
        ("retinanet_posmlp_t", {"data.crop": "pad", "data.canvases": ()}, "detection takes 'fit'"),
        ("retinanet_posmlp_t", {"max_objects": 0}, "max_objects is 0, and should be 1 or more"),
        ("mask_rcnn_posmlp_t", {"mask_rcnn.regions": 3}, r"mask_rcnn.regions is 3, and should be 4 or m"),
    ],
    ids=str,
)
def test_mistakes(scenes, tmp_path, detector, changes, message):
    config = scenes_config(scenes, "retinanet_posmlp_t")
    config.model = scenes_config(scenes, "mask_rcnn_posmlp_t").model if detector.startswith("mask") else config.model
    if not detector.startswith(("retinanet", "mask")):
        config.model.update({name: None for name in config.model if name != "name"})
    config.model.name = detector
    config.update_from_flattened_dict(changes)
    with pytest.raises(ConfigError, match=message) as raised:
        train(config, tmp_path)
    assert "\n" not in str(raised.value)


def test_masks_that_are_missing(tmp_path, monkeypatch):
    import tiny_scenes

    made = tiny_scenes._image
    monkeypatch.setattr(tiny_scenes, "_image", lambda random, number: _without_masks(*made(random, number)))
    write_scenes(tmp_path, 4, 2)
    with pytest.raises(DataError, match=r"not all objects have masks, .* as --config.model.name=retinanet_posmlp_t"):
        train(scenes_config(tmp_path, "mask_rcnn_posmlp_t"), tmp_path / "run")
    assert not list((tmp_path / "run").glob("[!l]*"))  # But for the lock.


def _without_masks(image, content):
    for each in image.annotations:
        each["segmentation"] = None
    return image, content
