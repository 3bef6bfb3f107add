"""Leaving out one person after the other, on made-up faces: what is shared, resumed, skipped and refused."""

import csv
import json
import os
import re
import signal
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from runs import Process, assert_equal, run, steps
from sklearn.metrics import f1_score, recall_score

from configs.micro_expressions import micro_motions as micro_motions_config
from posmlp_jax.data.prepare.datasets import micro_motions
from posmlp_jax.data.prepare.prepare import prepare
from posmlp_jax.errors import CheckpointError, ConfigError, DataError
from posmlp_jax.paths import as_path
from posmlp_jax.tasks.micro_expressions.predictions import read_table
from posmlp_jax.training import default_config, evaluate, leave_one_out, loop, train
from posmlp_jax.training.experiment import open_training

pytestmark = pytest.mark.heavy

# One block: each fold traces its step anew.
TINY = {
    "model.num_frames": 2,
    "model.image_size": 16,
    "model.widths": (8,),
    "model.depths": (1,),
    "model.windows": (4,),
    "model.groups": (2,),
    "model.drop_path": 0.2,
    "data.frame_side": 16,
    "data.threads": 1,
    "init_from": "",
    "batch_size": 8,
    "eval_batch_size": 4,
    "length": "6 steps",
    "optimizer.peak_rate": 3e-3,
    "optimizer.warmup": "1 steps",
    "log_every": "1 steps",
    "eval_every": "6 steps",
    "checkpoint_every": "6 steps",
    "devices": 1,
}


def prepare_faces(folder: Path, people: int) -> Path:
    """Prepares micro_motions of some people, of whom the first has 4 clips, and the others have 8 each."""
    with pytest.MonkeyPatch.context() as patch:
        listed = [each for each in micro_motions._listed(people, 2) if each[2] < (4 if each[0] == 1 else 8)]
        patch.setattr(micro_motions, "_listed", lambda *_: listed)
        prepare("micro_motions", data_dir=str(folder))
    return folder


@pytest.fixture(scope="module")
def faces_dir(tmp_path_factory) -> Path:
    """A data_dir with two people."""
    return prepare_faces(tmp_path_factory.mktemp("faces"), 2)


@pytest.fixture
def tiny(faces_dir):
    def make(**changes) -> ConfigDict:
        config = micro_motions_config.get_config()
        config.update_from_flattened_dict({**TINY, "data.data_dir": str(faces_dir), **changes})
        return config

    return make


def fold(workdir: Path, person: str) -> Path:
    return workdir / "folds" / "micro_motions" / person


def pooled(workdir: Path) -> str:
    return (workdir / "leave_one_out" / "predictions.csv").read_text()


def test_folds_share_what_is_compiled_and_pool_their_predictions(tiny, tmp_path, capsys):
    compiled, counts = [], []
    real = loop.train_to_end

    def counting(*arguments):
        result = real(*arguments)
        counts.append(len(compiled))
        return result

    config, workdir = tiny(), tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("posmlp_jax.training.folds.train_to_end", counting)
        jax.monitoring.register_event_duration_secs_listener(
            lambda event, *_, **__: compiled.append(event) if "backend_compile" in event else None
        )
        results = leave_one_out(config, workdir)
    # The step, the evaluation and the first state, and what JAX itself compiles for them: all in the first fold.
    assert counts[0] >= 3
    assert counts == [counts[0]] * 2
    output = capsys.readouterr().out
    assert output.count("compiled the training step in ") == 1
    assert output.count("the training step is that of before") == 1
    # As many steps in each, though people have 4 or 8 clips.
    assert output.count("step 6/6 (epoch 4.0)") == 2
    assert "best" not in output
    assert (fold(workdir, "sub02") / "evaluation/step6_ema/predictions.csv").exists()

    rows = list(csv.DictReader(pooled(workdir).splitlines()))
    assert [row["subject"] for row in rows] == ["micro_motions/sub01"] * 4 + ["micro_motions/sub02"] * 8
    labels, predictions = ([row[name] for row in rows] for name in ("label", "prediction"))
    assert results["uf1"] == pytest.approx(f1_score(labels, predictions, average="macro"), rel=1e-14)
    assert results["uar"] == pytest.approx(
        recall_score(labels, predictions, average="macro", zero_division=0), rel=1e-14
    )
    scores = json.loads((workdir / "leave_one_out/scores.json").read_text())
    assert (scores["uf1"], scores["clips"], scores["subjects"]) == (results["uf1"], 12, 2)
    for row in rows:
        values = {name: float(row[name]) for name in ("negative", "positive", "surprise")}
        assert max(values, key=values.get) == row["prediction"]
        assert sum(values.values()) == pytest.approx(1, abs=1e-6)

    # What has ended is not trained again; a checkpoint that a kill has left of it goes.
    (left := fold(workdir, "sub01") / "checkpoints").mkdir()
    assert leave_one_out(config, workdir) == results
    assert "fold " not in capsys.readouterr().out
    assert not left.exists()
    # All folds are of one experiment, and begin alike.
    for changes, message in (
        ({"optimizer.peak_rate": 1.0}, "holds a different experiment (optimizer.peak_rate: 0.003 -> 1.0); choose"),
        ({"init_from": "runs/other"}, "begin with init_from='', and all should begin alike: here it is 'runs/other'"),
    ):
        with pytest.raises(CheckpointError, match=re.escape(message)):
            leave_one_out(tiny(**changes), workdir)
    with loop.locked(as_path(workdir)), pytest.raises(CheckpointError, match="run is in use by process"):
        leave_one_out(config, workdir)
    # One that is lacking is trained to the same bits by what is compiled for it alone, and evaluated again if kept.
    kept, before = fold(workdir, "sub02"), pooled(workdir)
    table = (kept / "predictions.csv").read_text()
    (kept / "predictions.csv").unlink()
    config.keep_folds = True
    leave_one_out(config, workdir)
    assert pooled(workdir) == before
    evaluate(None, kept, output=tmp_path / "again")
    (again,) = (tmp_path / "again").rglob("predictions.csv")
    assert again.read_text() == table
    for folder in (workdir, fold(workdir, "sub01")):
        with pytest.raises(CheckpointError, match="a run that has one, as folds of --mode=leave_one_out have with"):
            evaluate(None, folder)
    # Who looks at the scores again does not lose it.
    config.keep_folds = False
    leave_one_out(config, workdir)
    assert steps(kept) == [6]
    (kept / "predictions.csv").write_text(table.rpartition(",")[0])
    with pytest.raises(CheckpointError, match=r"sub02/predictions\.csv is damaged: .* delete it, and its fold is"):
        leave_one_out(config, workdir)


def test_another_program_is_not_taken_for_the_same(tiny):
    """Whatever a config says: what is compiled decides."""
    first = open_training(tiny(**{"data.left_out": "micro_motions/sub01"}))
    second = open_training(tiny(**{"data.left_out": "micro_motions/sub02"}), programs=first.programs)
    third = open_training(tiny(**{"data.left_out": "micro_motions/sub02", "seed": 1}), programs=first.programs)
    assert_equal(first.new_state(), second.new_state())
    assert len(first.programs) == 1
    kernels = [np.asarray(run.new_state().weights.params["head"]["kernel"]) for run in (second, third)]
    assert len(first.programs) == 2
    assert np.abs(kernels[0] - kernels[1]).max() > 0.001


@pytest.mark.slow
def test_eight_devices_say_what_one_says(tiny, tmp_path):
    # Biases before BatchNorm have gradients of rounding errors alone, of which Adam without an epsilon takes the sign.
    config = tiny(**{"eval_batch_size": 8, "length": "3 steps", "optimizer.eps": 1e-3})
    for devices in (1, 8):
        config.devices = devices
        leave_one_out(config, tmp_path / str(devices))
    one, eight = (read_table(pooled(tmp_path / str(devices)), "").scores for devices in (1, 8))
    np.testing.assert_allclose(eight, one, rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.usefixtures("optimized_programs")
def test_killed_and_stopped_folds_go_on_to_the_same_bits(tmp_path):
    """A kill in one fold, a signal in the next; finished ones are not trained again."""
    fields = {**TINY, "data.data_dir": str(prepare_faces(tmp_path, 3)), "checkpoint_every": "2 steps"}
    command = ["--config=configs/micro_expressions/micro_motions.py", "--mode=leave_one_out"]
    command += [f"--config.{name}={value}" for name, value in fields.items()]
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    assert run(*command, f"--workdir={unbroken}").code == 0
    command.append(f"--workdir={broken}")
    killed = Process(*command)
    killed.wait_until(lambda: "step 4/6" in killed.output.partition("fold 2 of 3")[2])
    killed.send(signal.SIGKILL)
    assert killed.end() == -signal.SIGKILL
    assert (fold(broken, "sub01") / "predictions.csv").exists()
    assert not (fold(broken, "sub01") / "checkpoints").exists()
    assert not (fold(broken, "sub02") / "predictions.csv").exists()
    stopped = Process(*command)
    stopped.wait_until(lambda: "step 3/6" in stopped.output.partition("fold 3 of 3")[2])
    stopped.send(signal.SIGTERM)
    assert stopped.end() == 143, stopped.errors
    assert "fold 1 of 3" not in stopped.output
    assert re.match(r"stopped by SIGTERM after step \d; the same command goes on from there", stopped.errors)
    assert steps(fold(broken, "sub03"))
    resumed = run(*command)
    assert resumed.code == 0, resumed.errors
    assert "fold 2 of 3" not in resumed.output
    assert pooled(broken) == pooled(unbroken)


def test_what_is_wrong_is_told(tiny, tmp_path):
    for changes, message in (
        ({"keep_best": "ema/uf1"}, "keep_best is ema/uf1, and should be '' for micro-expressions: it would choose an"),
        ({"data.left_out": "micro_motions/sub01"}, "data.left_out is 'micro_motions/sub01', and should be '' with --m"),
    ):
        with pytest.raises(ConfigError, match=re.escape(message)):
            leave_one_out(tiny(**changes), tmp_path)
    with pytest.raises(ConfigError, match="--mode=leave_one_out is for data of several people, as a config of"):
        leave_one_out(default_config(), tmp_path)
    with pytest.raises(ConfigError, match=r"data\.left_out is '', and should be the subject that is evaluated"):
        train(tiny(), tmp_path)
    assert not os.listdir(tmp_path)
    leaking = open_training(tiny(**{"data.left_out": "micro_motions/sub01"}))
    leaking.train_source.clips = (*leaking.train_source.clips, leaking.eval_source.clips[2])
    with pytest.raises(DataError, match="micro_motions/sub01/EP02 is a clip of the left-out micro_motions/sub01, and"):
        leaking.task.check_training(leaking.train_source)
    # Neither does a fold start from what has seen the person.
    start = {"name": "micro_motions", "left_out": "micro_motions/sub02"}
    with pytest.raises(ConfigError, match="init_from's weights of x were trained on micro_motions, and so on micro_mo"):
        leaking.task.check_start(SimpleNamespace(source="weights of x", data=start))
    for changes in ({"left_out": "micro_motions/sub01"}, {"name": "moving_digits"}):
        leaking.task.check_start(SimpleNamespace(source="weights of x", data=start | changes))
