"""Training and testing on clips: mixing, views, meshes, and `main.py` on small real video files."""

import signal
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from runs import Process, assert_equal, classification, losses, metrics, run, saved_arrays, steps

from configs import moving_digits as moving_digits_config
from posmlp_jax.checkpoints.state import split_model
from posmlp_jax.data import eval_batches
from posmlp_jax.data.prepare.datasets import digits, moving_digits
from posmlp_jax.data.prepare.prepare import prepare
from posmlp_jax.errors import PosMLPError
from posmlp_jax.models import create_model
from posmlp_jax.tasks.classification.mixing import MixOptions, draw_mask, mix
from posmlp_jax.tasks.task import normalize_images
from posmlp_jax.training import evaluate, open_pretrained, train
from posmlp_jax.training.evaluation import Evaluator
from posmlp_jax.training.experiment import open_training
from posmlp_jax.training.step.step import make_eval_step

pytestmark = pytest.mark.heavy

TINY = {
    "model.num_frames": 4,
    "model.image_size": 16,
    "model.widths": (8, 16),
    "model.depths": (1, 1),
    "model.windows": (4, 2),
    "model.groups": (2, 4),
    "model.drop_path": 0.2,
    "data.name": "my_clips",
    "data.eval_split": "validation",
    "data.flip_label_pairs": (("left", "right"),),
    "data.repeats": 2,
    "data.sampling": "dense",
    "data.stride": 2,
    "data.threads": 1,
    "data.randaugment": "rand-m7-n4-mstd0.5-inc1",
    "mixing.mixup": 0.8,
    "mixing.cutmix": 1.0,
    "batch_size": 8,
    "length": "12 steps",
    "optimizer.warmup": "2 steps",
    "log_every": "1 steps",
    "eval_every": "6 steps",
    "checkpoint_every": "4 steps",
    "devices": 1,
}
FLAGS = ["--config=configs/moving_digits.py", *(f"--config.{name}={value}" for name, value in TINY.items())]


@pytest.fixture(scope="session")
def clips_dir(tmp_path_factory) -> Path:
    """A data_dir with `my_clips`: a folder of MP4 files that `video_folder` has prepared. One of them is broken off."""
    folder = tmp_path_factory.mktemp("clips")
    pixels, _ = digits.load()
    for split, count in (("train", 7), ("val", 5)):
        for motion in ("left", "right", "up"):
            (folder / split / motion).mkdir(parents=True)
            for number in range(count):
                rng = np.random.default_rng([count, number])
                clip = moving_digits.render(pixels[number], moving_digits.draw_path(motion, rng))
                (folder / split / motion / f"{number}.mp4").write_bytes(moving_digits.encode(clip[: 16 - 3 * number]))
    data_dir = tmp_path_factory.mktemp("prepared")
    prepare("video_folder", str(folder), str(data_dir), under="my_clips")
    return data_dir


@pytest.fixture
def tiny(clips_dir):
    def make(**changes) -> ConfigDict:
        config = moving_digits_config.get_config()
        config.update_from_flattened_dict({**TINY, "data.data_dir": str(clips_dir), **changes})
        return config

    return make


@pytest.mark.parametrize("options", [{"mixup": 1.0}, {"cutmix": 1.0}])
def test_all_frames_are_mixed_with_one_mask(options):
    random = np.random.default_rng(0)
    clips = random.normal(size=(4, 3, 12, 10, 3)).astype(np.float32)
    targets = np.eye(5)[[0, 1, 2, 4]].astype(np.float32)
    for key in jax.random.split(jax.random.key(1), 5):
        mask = np.asarray(draw_mask(key, (12, 10), MixOptions(**options)))
        mixed, mixed_targets = mix(clips, targets, mask)
        for frame in range(3):
            image, image_targets = mix(clips[:, frame], targets, mask)
            np.testing.assert_array_equal(mixed[:, frame], image)
            np.testing.assert_array_equal(mixed_targets, image_targets)
        for example, partner in ((0, 1), (1, 0), (2, 3), (3, 2)):
            wanted = mask[:, :, None] * clips[example] + (1 - mask[:, :, None]) * clips[partner]
            np.testing.assert_allclose(mixed[example], wanted, rtol=1e-5, atol=1e-6)


VIDEO = {"num_frames": 4, "image_size": 16, "widths": (8,), "depths": (1,), "windows": (4,), "groups": (2,)}


@pytest.mark.parametrize(("views", "average"), [(1, "softmax"), (6, "softmax"), (6, "logits")])
def test_views_are_averaged(views, average):
    model = create_model("posmlp_video_s", **VIDEO, num_classes=7)
    model.head.kernel[...] = jax.random.normal(jax.random.key(0), model.head.kernel.shape)
    random = np.random.default_rng(0)
    clips = random.integers(0, 256, (5, views, 4, 16, 16, 3), dtype=np.uint8)
    labels, weight = random.integers(0, 7, 5).astype(np.int32), np.float32([1, 1, 0, 1, 1])
    mean, std = (0.45,) * 3, (0.225,) * 3
    options = {"label_smoothing": 0.1, "data.mean": mean, "data.std": std, "data.test_average": average}
    step = jax.jit(make_eval_step(split_model(model)[0], classification(model.config, **options)))
    batch = {"image": clips[:, 0] if views == 1 else clips, "label": labels, "weight": weight, "index": np.arange(5)}
    sums, _ = step(split_model(model)[1], batch)
    logits = jax.jit(model.__call__)(normalize_images(clips.reshape(-1, 4, 16, 16, 3), mean, std))
    logits = np.asarray(logits, np.float64).reshape(5, views, 7)
    loss = top1 = top5 = 0
    for number in (0, 1, 3, 4):
        scores, mean = np.zeros(7), np.zeros(7)
        for view in range(views):
            odds = np.exp(logits[number, view] - logits[number, view].max())
            scores += odds / odds.sum() / views
            mean += logits[number, view] / views
        if average == "logits":
            scores = np.exp(mean) / np.exp(mean).sum()
        rank = int((scores > scores[labels[number]]).sum())
        loss, top1, top5 = loss - np.log(scores[labels[number]]), top1 + (rank < 1), top5 + (rank < 5)
    assert 0 < top1 < 4 or views == 1
    assert sums["loss"] == pytest.approx(loss, rel=1e-5)
    assert (sums["top1"], sums["top5"], sums["count"]) == (top1, top5, 4)


@pytest.fixture(scope="module")
def trained(clips_dir, tmp_path_factory) -> Path:
    """An unbroken run, as `main.py` makes it."""
    workdir = tmp_path_factory.mktemp("trained")
    result = run(*FLAGS, f"--config.data.data_dir={clips_dir}", f"--workdir={workdir}")
    assert result.code == 0, result.errors
    assert "clips/s" in result.output
    assert "(15 videos)" in result.output
    assert "images" not in result.output.split("next: ")[0]
    # 21 videos, two samples of each: 42 an epoch.
    assert f"step 12/12 (epoch {12 * 8 / 42:.1f})" in result.output
    return workdir


def test_a_killed_run_goes_on_to_the_same_bits(trained, clips_dir, tmp_path):
    arguments = [*FLAGS, f"--config.data.data_dir={clips_dir}", f"--workdir={tmp_path}"]
    killed = Process(*arguments)
    killed.wait_for("step 9/12")
    killed.send(signal.SIGKILL)
    assert killed.end() == -signal.SIGKILL
    assert 4 <= steps(tmp_path)[-1] < 12
    resumed = run(*arguments, "--config.data.threads=3")
    assert resumed.code == 0, resumed.errors
    assert_equal(saved_arrays(tmp_path, 12), saved_arrays(trained, 12))
    assert metrics(tmp_path) == metrics(trained)


def test_the_test_protocol_by_loops(trained, tiny, tmp_path):
    """2 clips × 3 crops through `main.py --mode=eval`, and each video's views one by one in float64."""
    config = tiny(**{"data.test_clips": 2, "data.test_crops": 3, "data.eval_crop": 0.8})
    experiment = open_training(config)
    arguments = [*FLAGS, f"--config.data.data_dir={config.data.data_dir}", "--mode=eval", "--config.data.eval_crop=0.8"]
    arguments += [f"--workdir={trained}", "--config.data.test_clips=2", "--config.data.test_crops=3"]
    result = run(*arguments, "--config.eval_batch_size=4")
    assert result.code == 0, result.errors
    assert "2 clips × 3 crops of each" in result.output
    model = open_pretrained(trained, weights="raw").model()
    score = jax.jit(lambda clips: model(normalize_images(clips, config.data.mean, config.data.std)))
    loss, top1 = [], []
    for batch in eval_batches(experiment.eval_source, config.data, (4, 16, 16), batch_size=1, clips=2, crops=3):
        logits = np.asarray(score(batch["image"][0]), np.float64)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        scores = (odds / odds.sum(axis=1, keepdims=True)).mean(axis=0)
        loss.append(-np.log(scores[batch["label"][0]]))
        top1.append(scores.argmax() == batch["label"][0])
    assert f"top-1 {100 * np.mean(top1):.2f} %" in result.output
    assert f"loss {np.mean(loss):.4f}  (15 videos)" in result.output
    plain = run(*arguments[:-2])
    assert "crops" not in plain.output
    assert plain.output.splitlines()[1:] != result.output.splitlines()[1:]


@pytest.mark.parametrize(("devices", "batch_size"), [(1, 3), (1, 15), (8, 16)])
def test_each_video_counts_once(trained, tiny, devices, batch_size):
    changes = {"data.test_clips": 3, "data.test_crops": 3, "devices": devices, "batch_size": 8}
    expected = evaluate(tiny(**changes, eval_batch_size=8), trained)
    results = evaluate(tiny(**changes, eval_batch_size=batch_size), trained)
    for split in ("eval", "ema"):
        assert results[split]["count"] == 15
        assert results[split] == pytest.approx(expected[split], rel=1e-5)


def test_eight_devices_train_as_one(tiny, tmp_path):
    # A larger ε: gradients near 0, whose sign is rounding, would become whole steps.
    changes = {"length": "5 steps", "eval_every": "5 steps", "optimizer.eps": 1e-3}
    for devices, workdir in ((1, tmp_path / "one"), (8, tmp_path / "eight")):
        train(tiny(devices=devices, **changes), workdir)
    for split in ("train", "eval", "ema"):
        np.testing.assert_allclose(losses(tmp_path / "eight", split), losses(tmp_path / "one", split), rtol=2e-5)


def test_evaluation_in_training_takes_one_view(trained, tiny):
    run_ = open_training(tiny(**{"data.test_clips": 2, "data.test_crops": 3}))
    weights = open_pretrained(trained, weights="raw").weights
    last = [line for line in metrics(trained) if line["split"] == "eval"][-1]
    assert Evaluator(run_)({"eval": weights})["eval"].metrics["loss"] == pytest.approx(last["loss"], rel=1e-6)


def test_bfloat16_trains(tiny, tmp_path):
    results = train(tiny(**{"model.dtype": "bfloat16", "length": "2 steps", "optimizer.warmup": "0 steps"}), tmp_path)
    assert np.isfinite(results["eval"]["loss"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.num_frames": 0, "model.block": "spatial"}, "the model takes images, but these are videos"),
        ({"data.stride": 0}, "data.stride is 0, and should be 1 or more"),
        ({"data.sampling": "segments"}, "unknown data.sampling 'segments': did you mean 'segment'?"),
        ({"data.test_crops": 2}, "data.test_crops is 2, and should be 1 or 3"),
        ({"data.test_clips": 0}, "data.test_clips is 0, and should be 1 or more"),
        ({"data.repeats": 3}, "batch_size 8 should be a multiple of 6, twice data.repeats"),
        ({"data.flip_label_pairs": (("left", "down"),)}, "no class of my_clips validation"),
        ({"model.num_frames": -1}, "num_frames -1 should be 0 (images) or more"),
        ({"data.name": "my_other_clips"}, "data set 'my_other_clips' is not prepared"),
    ],
)
def test_mistakes_are_one_line(tiny, tmp_path, changes, message):
    with pytest.raises(PosMLPError) as error:
        train(tiny(**changes), tmp_path / "run")
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()
