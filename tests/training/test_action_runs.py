"""Detectors of actions through the whole engine: canvases, eight devices, stopping and going on, mistakes."""

import contextlib
import io
import os
import re
import signal

import jax
import jax.numpy as jnp
import naive
import numpy as np
import pytest
from flax import nnx
from runs import assert_equal, metrics, save_model, saved_arrays, steps
from tiny_actions import films_config, write_films

from posmlp_jax import create_model
from posmlp_jax.checkpoints.state import Weights, bind_model, create_weights, module_weights
from posmlp_jax.devices.mesh import batch_sharding, create_mesh
from posmlp_jax.errors import ConfigError
from posmlp_jax.preview import preview
from posmlp_jax.tasks.action_detection import frame_map
from posmlp_jax.tasks.action_detection.task import ActionDetection
from posmlp_jax.training import evaluate, loop, open_pretrained, train
from posmlp_jax.training.experiment import open_training
from posmlp_jax.training.saved_config import check_overrides, data_config, get_config, protocol
from posmlp_jax.training.stopping import Stopped

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films") / "ava"
    write_films(folder)
    return folder


@pytest.fixture(scope="module")
def whole(films, tmp_path_factory):
    """A run on two devices: its folder, results and lines."""
    folder, said = tmp_path_factory.mktemp("run") / "whole", io.StringIO()
    with contextlib.redirect_stdout(said):
        results = train(films_config(films, devices=2), folder)
    return folder, results, said.getvalue().splitlines()


def test_it_trains_on_several_devices(films, whole, capsys):
    """Evaluation is in two canvases; what it leaves is scored again to the same digits."""
    folder, results, lines = whole
    assert results["eval"].keys() == results["ema"].keys() == {"loss", "map", "count"}
    # Of nine key frames one is excluded.
    assert results["eval"]["count"] == 8
    (line,) = [line for line in lines if line.startswith("step 6  evaluation of the weights: ")]
    assert f"mAP {100 * results['eval']['map']:.2f} %  loss {results['eval']['loss']:.4f}  (8 videos)" in line
    pretrained = open_pretrained(folder)
    assert pretrained.class_names == ("red", "action 2", "blue")
    # Another dialect, and another score, are no other experiment, and have files of their own.
    other = get_config(str(folder))
    other.protocol, other.data.films.eval_score = "slowfast", 0.5
    check_overrides(["protocol", "data.films.eval_score"], other, str(folder))
    source = open_training(films_config(films, devices=2)).eval_source
    assert protocol(other, pretrained, source) == "eval_score=0.5_protocol=slowfast"
    (files,), annotations = (folder / "evaluation").iterdir(), films / "annotations"
    score_files = {
        "groundtruth": annotations / "ava_val_v2.2.csv",
        "detections": files / "detections.csv",
        "labelmap": annotations / "ava_action_list_v2.2_for_activitynet_2019.pbtxt",
        "excluded": annotations / "ava_val_excluded_timestamps_v2.2.csv",
    }
    frame_map.main([f"--{name}={path}" for name, path in score_files.items()])
    split = files.name.removeprefix("step6_")
    assert f"mAP {100 * results[split]['map']:.4f} %" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="needs boxes beside a video: write AVA's tables of your films"):
        ActionDetection.predictor(pretrained, data_config(pretrained))


@pytest.mark.slow
def test_it_resumes_bit_by_bit(films, whole, tmp_path, monkeypatch):
    """Which the engine does whatever the task is (`test_resume.py`); and it evaluates again to the same digits."""
    config, (folder, results, _), stopped = films_config(films, devices=2), whole, tmp_path / "stopped"

    def stop_after_step_4(line):
        if line.startswith("step 4/6"):
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(loop, "report", stop_after_step_4)
    with pytest.raises(Stopped, match="SIGTERM after step 4"):
        train(config, stopped)
    assert steps(stopped) == [3, 4]
    assert train(config, stopped) == results
    assert_equal(saved_arrays(stopped, 6), saved_arrays(folder, 6))
    assert metrics(stopped) == metrics(folder)
    assert evaluate(None, folder) == results


def test_one_device_and_eight_compute_the_same(films):
    """The loss and its gradient; without a box both are 0."""
    run = open_training(films_config(films, **{"model.box_dropout": 0.0, "model.drop_path": 0.0}))
    batches = run.batches(0)
    batch = next(batches)
    batches.close()
    weights, bind = create_weights(run.model, seed=3), bind_model(run.model)

    @jax.jit
    def compute(weights, batch):
        def loss(params):
            return run.task.loss(bind(Weights(params, weights.batch_stats)), batch, None, nnx.Rngs(0))[0]

        value, gradients = jax.value_and_grad(loss)(weights.params)
        return value, jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(gradients)])

    columns = {name: value for name, value in batch.items() if name != "index"}
    one = compute(weights, columns)
    eight = compute(weights, jax.device_put(columns, batch_sharding(create_mesh(8))))
    for alone, shared in zip(one, eight, strict=True):
        naive.assert_close(shared, alone, 1e-5)
    nothing = compute(weights, columns | {"valid": np.zeros_like(columns["valid"])})
    assert all(not np.any(values) for values in nothing)


def test_it_starts_from_a_video_classifier(films, tmp_path):
    """Every weight of the backbone is taken, and the head's layer is new."""
    config = films_config(films)
    own = {name: value for name, value in config.model.to_dict().items() if name != "name" and value is not None}
    classifier = create_model("posmlp_video_s", **own, num_classes=5)
    save_model(tmp_path, "posmlp_video_s", classifier, tuple("abcde"))
    config.init_from = str(tmp_path)
    first = open_training(config).first_weights()
    assert set(first.new) == {"head.classes.kernel", "head.classes.bias"}
    theirs, ours = module_weights(classifier), first.weights
    assert_equal({**theirs.params, "head": None}, {**ours.params, "head": None})
    assert_equal(theirs.batch_stats, ours.batch_stats)


def test_the_preview(films):
    figure = preview(films_config(films))
    assert len(figure.axes) == 4 * 3
    shown = {axis.get_title(loc="left") or axis.get_title() for axis in figure.axes} - {""}
    assert shown
    assert all(re.search(r"red|blue|action 2|\(no actions\)", text) for text in shown)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.name": "posmlp_video_s"}, "model 'posmlp_video_s' takes no boxes, .* action detector, as action_p"),
        ({"model.name": "retinanet_posmlp_t"}, "action_detection takes clips, and the model takes images: take an"),
        ({"model.num_classes": 2}, r"model.num_classes is 2, but the actions' ids go up to 3 \("),
        ({"data.crop": "random_resized", "data.canvases": ()}, "action_detection takes 'scaled' or 'fit', which sh"),
        ({"data.randaugment": "rand-m6-n3"}, "data.randaugment is 'rand-m6-n3', which turns and shears frames"),
        (
            {"data.scale_sides": (20, 44)},
            r"data.scale_sides is \(20, 44\), but crops of 32 pixels are cut out of what t",
        ),
        ({"max_boxes": 0}, "max_boxes is 0, and should be 1 or more"),
        ({"protocol": "oficial"}, "protocol is 'oficial'; did you mean 'official'"),
    ],
    ids=str,
)
def test_mistakes(films, tmp_path, changes, message):
    config = films_config(films)
    if name := changes.get("model.name"):
        config.model.update({field: None for field in config.model if field != "name"})
        config.model.name = name
        changes = {}
    config.update_from_flattened_dict(changes)
    with pytest.raises(ConfigError, match=message) as raised:
        train(config, tmp_path)
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.glob("[!l]*"))  # But for the lock.
