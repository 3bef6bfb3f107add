import shutil

import pytest
from runs import metrics, steps

from posmlp_jax.errors import CheckpointError
from posmlp_jax.training import evaluate, from_pretrained, train
from posmlp_jax.training.checkpoints import Checkpoints, score


@pytest.fixture(scope="module")
def trained(tiny_config, tmp_path_factory):
    """Evaluated after every other step, the best moving average kept beside the two newest: config and workdir."""
    workdir = tmp_path_factory.mktemp("trained")
    # The rate falls to nothing: what is best is not simply what is last.
    config = tiny_config(eval_every="1 steps", checkpoint_every="3 steps", keep_checkpoints=2, keep_best="ema/loss")
    train(config, workdir)
    return config, workdir


def evaluations(workdir, split="ema") -> dict[int, dict]:
    return {line["step"]: line for line in metrics(workdir) if line["split"] == split}


def test_the_newest_and_the_best_are_kept(trained):
    _, workdir = trained
    lines = evaluations(workdir)
    best = min(lines, key=lambda step: lines[step]["loss"])
    assert best not in (6, 9)  # Or this test says nothing.
    assert steps(workdir) == sorted({best, 6, 9})
    checkpoints = Checkpoints(workdir)
    assert checkpoints.select("best") == best
    assert checkpoints.select("latest") == 9
    assert checkpoints.select("6") == checkpoints.select(6) == 6
    with pytest.raises(CheckpointError, match=r"no checkpoint of step 7 in .*; there are \[") as error:
        checkpoints.select("7")
    assert "\n" not in str(error.value)


def test_the_best_can_be_evaluated_and_loaded(trained):
    config, workdir = trained
    best = Checkpoints(workdir).select("best")
    line = evaluations(workdir)[best]
    assert {"step": best, "split": "ema", **evaluate(config, workdir, "best")["ema"]} == line
    model = from_pretrained(workdir, checkpoint="best")
    same = from_pretrained(workdir, checkpoint=best)
    assert (model.head.kernel[...] == same.head.kernel[...]).all()
    assert (model.head.kernel[...] != from_pretrained(workdir).head.kernel[...]).any()


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("weights", "damaged: its weights cannot be read"),
        ("ema", "damaged: its moving average is gone"),
        ("run", "damaged: its run cannot be read"),
        ("run/metadata", "damaged: its run cannot be read"),
    ],
)
def test_a_damaged_checkpoint_is_an_error(trained, tmp_path, part, message):
    _, workdir = trained
    shutil.copytree(workdir, tmp_path / "copy")
    path = tmp_path / "copy" / "checkpoints" / "9" / part
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.write_text(path.read_text()[:50])
    with pytest.raises(CheckpointError, match=message) as error:
        from_pretrained(tmp_path / "copy", ema=part == "ema")
    assert "\n" not in str(error.value)


def test_cut_array_files_are_an_error(trained, tmp_path):
    _, workdir = trained
    shutil.copytree(workdir, tmp_path / "copy")
    for file in (tmp_path / "copy" / "checkpoints" / "9" / "ema").rglob("*"):
        if file.is_file() and "/d/" in str(file):
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(CheckpointError, match="damaged: its ema cannot be read") as error:
        from_pretrained(tmp_path / "copy")
    assert "\n" not in str(error.value)


def test_what_was_best_is_known_when_a_run_goes_on(trained):
    _, workdir = trained
    best = min(line["loss"] for line in evaluations(workdir).values())
    checkpoints = Checkpoints(workdir, keep=2, keep_best="ema/loss")
    assert checkpoints.is_best({"ema/loss": best - 1e-6})
    assert not checkpoints.is_best({"ema/loss": best})
    assert not checkpoints.is_best({"eval/loss": 0.0})
    assert not checkpoints.is_best({})
    checkpoints.close()


@pytest.mark.parametrize(
    ("metric", "better", "worse"),
    [
        ("eval/top1", {"eval/top1": 0.5}, {"eval/top1": 0.4}),
        ("ema/loss", {"ema/loss": 0.4}, {"ema/loss": 0.5}),
        ("ema/loss", {"ema/loss": 0.4}, {"ema/loss": float("nan")}),
        ("ema/top1", {"ema/top1": 0.0}, {"eval/top1": 0.5}),
        ("ema/top1", {"ema/top1": 0.0}, None),
    ],
)
def test_scores(metric, better, worse):
    assert score(metric, better) > score(metric, worse)
