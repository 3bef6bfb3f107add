"""A task that the engine has never heard of goes through all of it: docs/adding_a_task.md is of this one."""

import dataclasses
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import outputs
from runs import assert_equal, metrics, save_model, saved_arrays, steps

from posmlp_jax import tasks
from posmlp_jax.checkpoints.evaluations import Metric
from posmlp_jax.data import eval_batches, evaluation_sizes
from posmlp_jax.data.sources.synthetic import SyntheticSource
from posmlp_jax.data.targets import NoTargets
from posmlp_jax.errors import CheckpointError, ConfigError
from posmlp_jax.models import PosMLP, PosMLPConfig, registry
from posmlp_jax.tasks.task import Task, normalize_images
from posmlp_jax.training import default_config, evaluate, from_pretrained, loop, open_pretrained, train
from posmlp_jax.training.experiment import open_training
from posmlp_jax.training.stopping import Stopped

pytestmark = pytest.mark.heavy


reported = []


class Shaped(SyntheticSource):
    """Images of three shapes in turns, whose sizes are known."""

    shapes = ((40, 36), (24, 40), (32, 32))

    def __init__(self, num_examples, num_classes, **options):
        super().__init__(num_examples, num_classes, **options)
        self.sizes = np.array([self.shapes[index % 3] for index in range(num_examples)])

    def read(self, index):
        image, label = super().read(index)
        height, width = self.sizes[index]
        return image[:height, :width], label


class MeanColour(Task):
    """Regresses the mean of each of an image's three channels; the largest error of any image decides."""

    metrics = (Metric("worst", "worst error", percent=False, higher_is_better=False),)

    @classmethod
    def open_source(cls, config, split, kind, model=None):
        return Shaped(config.num_examples, config.num_classes, offset=1000 * (split == "eval"))

    @classmethod
    def model_fields(cls, source):
        return {"num_classes": 3}

    def _errors(self, model, batch, **mode):
        pixels = normalize_images(batch["image"], self.config.data.mean, self.config.data.std)
        return jnp.abs(model(pixels, **mode) - pixels.mean(axis=(1, 2))).mean(axis=-1)

    def loss(self, model, batch, drawn, rngs):
        errors = self._errors(model, batch, train=True, rngs=rngs)
        return errors.mean(), {"worst": errors.max()}

    def evaluate(self, model, batch):
        errors = self._errors(model, batch)
        return {"loss": jnp.sum(errors * batch["weight"])}, {"error": errors}

    def score(self, means, rows):
        # On the devices, as a library of its own may.
        return {"worst": jnp.max(rows["error"])}, rows["error"]

    def report(self, workdir, step, evaluations, protocol=""):
        reported.append(evaluations["eval"].details)


@pytest.fixture
def colour_config(tiny_config, monkeypatch):
    """A config of the task, which is registered for the time of a test."""
    monkeypatch.setitem(tasks.TASKS, "mean_colour", MeanColour)

    def make(**changes):
        return tiny_config("mean_colour", **{"keep_best": "ema/worst"} | changes)

    return make


def test_it_trains_on_several_devices_and_resumes_bit_by_bit(colour_config, tiny_config, tmp_path, monkeypatch, capsys):
    """On whole images in canvases of two sizes, of which each step has one, and so have the batches of evaluations.

    Those of a third are for no image.
    """
    config = colour_config(devices=2, **{"data.crop": "fit", "data.canvases": (16, (16, 24), (8, 64))})
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    compiled, before = [], []
    monkeypatch.setattr(loop, "report", lambda line: (print(line), before.append((line, len(compiled)))))
    jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: compiled.append(event))
    config.profile = "2:4"
    results = train(config, whole)
    config.profile = ""
    # Nothing is compiled once there has been an evaluation.
    (counts,) = [compiled[count:] for line, count in before if line.startswith("step 4  evaluation of the moving")]
    assert not [event for event in counts if "compile" in event]
    assert [event for event in compiled if "compile" in event]
    reported.clear()
    lines = capsys.readouterr().out.splitlines()
    first, last = (line["loss"] for line in metrics(whole) if line["split"] == "train" and line["step"] in (1, 9))
    assert last < first
    assert results["eval"].keys() == {"loss", "worst", "count"}
    # Lines, records and the best checkpoint go by its metric, of which less is better.
    worst = {line["step"]: line["worst"] for line in metrics(whole) if line["split"] == "ema"}
    best = min(worst, key=worst.get)
    assert f"best moving average: worst error {worst[best]:.4f} at step {best} (epoch {best * 16 / 40:.1f})" in lines
    assert any(f"step 9/9 (epoch 3.6)  loss {last:.4f}  worst error 0." in line for line in lines)
    assert open_pretrained(whole, step="best").step == best
    assert not any("top-1" in line for line in lines)
    assert sum(line.startswith("compiled the training step for 2 sizes in ") for line in lines) == 1
    assert sum(line.startswith("the first step ended ") for line in lines) == 1
    # What TensorBoard and Perfetto open, of two steps.
    assert f"wrote the profile of steps 2 to 3 to {whole}/profile" in lines
    for kind in ("xplane.pb", "perfetto_trace.json.gz"):
        assert len(list((whole / "profile").rglob(f"*{kind}"))) == 1

    def stop_after_step_6(line):
        if line.startswith("step 6/9"):
            # What the loop sends to the devices without saying so would be a wait in every step.
            with pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed host-to-device transfer"):
                jnp.sin(np.ones(3))
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(loop, "report", stop_after_step_6)
    with pytest.raises(Stopped, match="SIGTERM after step 6"):
        train(config, stopped)
    assert steps(stopped) == [4, 6]
    with pytest.raises(CheckpointError, match=r"holds a different experiment \(task: mean_colour -> classification; "):
        train(tiny_config(devices=2), stopped)
    assert train(config, stopped) == results
    assert_equal(saved_arrays(stopped, 9), saved_arrays(whole, 9))
    assert metrics(stopped) == metrics(whole)
    assert evaluate(None, whole) == results

    # What it ends with is of every example once, in order: as NumPy has it of the images, one by one.
    model, source = open_pretrained(whole, weights="raw").model(), open_training(config).eval_source
    sizes, errors = evaluation_sizes(config.data, (16, 16)), np.zeros(40)
    for batch in eval_batches(source, config.data, sizes, targets=NoTargets(), batch_size=40):
        pixels = (batch["image"][batch["weight"] > 0] / 255 - np.array(config.data.mean)) / np.array(config.data.std)
        own = np.abs(np.asarray(outputs(model, jnp.float32(pixels))[1]) - pixels.mean(axis=(1, 2))).mean(axis=-1)
        errors[batch["index"][batch["weight"] > 0]] = own
    assert len(reported) == 2
    for found in reported:
        np.testing.assert_allclose(found, errors, rtol=1e-4)
    assert results["eval"]["worst"] == pytest.approx(errors.max(), rel=1e-4)
    assert results["eval"]["loss"] == pytest.approx(errors.mean(), rel=1e-4)


@dataclasses.dataclass(frozen=True)
class ColourConfig(PosMLPConfig):
    """PosMLP with a hidden layer in its head."""

    hidden: int = 6


class ColourModel(PosMLP):
    """Three colours by two layers, from what a PosMLP without a head gives."""

    def __init__(self, config, *, rngs):
        super().__init__(config, rngs=rngs)
        self.hidden = nnx.Linear(config.widths[-1], config.hidden, rngs=rngs)
        self.colour = nnx.Linear(config.hidden, 3, rngs=rngs)

    def __call__(self, images, *, train=False, rngs=None):
        return self.colour(nnx.gelu(self.hidden(super().__call__(images, train=train, rngs=rngs))))


def test_a_model_with_a_head_of_its_own_is_a_family(colour_config, tmp_path, monkeypatch):
    """Its config's fields are the config file's, and its checkpoints are read like any other's."""
    monkeypatch.setattr(registry, "_FAMILIES", dict(registry._FAMILIES))
    monkeypatch.setattr(registry, "_PRESETS", dict(registry._PRESETS))
    registry.register(ColourModel, {"colour": ColourConfig()})
    with pytest.raises(ConfigError, match="there is a family of ColourConfig already"):
        registry.register(PosMLP, {"posmlp_t": ColourConfig()})
    tiny = colour_config()
    config = default_config("colour", "mean_colour")
    config.model.update({name: value for name, value in tiny.model.to_dict().items() if name != "name"})
    config.model.update(hidden=4, num_classes=0)
    config.data.update(tiny.data)
    run = open_training(config)
    model = run.bind(jax.device_get(run.new_state().weights))
    assert (run.model.hidden, model.colour.kernel.shape) == (4, (4, 3))
    save_model(tmp_path, "colour", model)
    images = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype(np.float32)
    assert_equal(outputs(from_pretrained(tmp_path), images), outputs(model, images))


def test_its_config_has_its_fields_and_no_others(colour_config, tiny_config, tmp_path):
    assert "label_smoothing" not in colour_config()
    config = tiny_config()
    config.task = "mean_colour"
    with pytest.raises(ConfigError, match="unknown config field 'label_smoothing' of task 'mean_colour': it is"):
        train(config, tmp_path)
    with pytest.raises(ConfigError, match=r"keep_best is eval/top1, and should be '' .* eval/worst, eval/loss, ema/"):
        train(colour_config(keep_best="eval/top1"), tmp_path)
    with pytest.raises(ConfigError, match="unknown task 'mean_color'; did you mean 'mean_colour'"):
        tiny_config("mean_color")
    assert not list(tmp_path.glob("[!l]*"))  # But for the lock.
