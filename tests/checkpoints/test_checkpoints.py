import hashlib
import json
import math
import shutil
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from runs import assert_equal, metrics, saved_arrays, steps

from posmlp_jax.checkpoints.evaluations import LOSS, Criterion, Evaluations, Metric, criteria, deciding, score
from posmlp_jax.checkpoints.pretrained import open_together
from posmlp_jax.checkpoints.selection import choose_weights, select_step
from posmlp_jax.checkpoints.state import TrainState, Weights, create_weights
from posmlp_jax.checkpoints.store import Checkpoints
from posmlp_jax.errors import CheckpointError, ConfigError, DamagedCheckpointError
from posmlp_jax.models import model_config
from posmlp_jax.models.registry import NamedModel
from posmlp_jax.tasks.classification.outcomes import METRICS
from posmlp_jax.training import evaluate, from_pretrained, open_pretrained, train
from posmlp_jax.training.experiment import open_init
from posmlp_jax.training.first_state import first_state

pytestmark = pytest.mark.heavy


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
    assert select_step(checkpoints, "best") == best
    assert select_step(checkpoints, "latest") == 9
    assert select_step(checkpoints, "6") == select_step(checkpoints, 6) == 6
    with pytest.raises(CheckpointError, match=r"no checkpoint of step 7 in .*; there are \[") as error:
        select_step(checkpoints, "7")
    assert "\n" not in str(error.value)


def test_the_best_can_be_evaluated_and_loaded(trained):
    config, workdir = trained
    best = select_step(Checkpoints(workdir), "best")
    line = evaluations(workdir)[best]
    assert {"step": best, "split": "ema", **evaluate(config, workdir, "best", "ema")["ema"]} == line
    model = from_pretrained(workdir, step="best", weights="ema")
    same = from_pretrained(workdir, step=best, weights="ema")
    assert (model.head.kernel[...] == same.head.kernel[...]).all()
    assert (model.head.kernel[...] != from_pretrained(workdir, weights="ema").head.kernel[...]).any()


def test_only_the_weights_asked_for_are_evaluated(trained, capsys):
    config, workdir = trained
    both = evaluate(config, workdir)
    assert list(both) == ["eval", "ema"]
    better = min(both, key=lambda split: both[split]["loss"])  # What keep_best goes by.
    assert evaluate(config, workdir, weights="raw") == {"eval": both["eval"]}
    assert evaluate(config, workdir, 9, "ema") == {"ema": both["ema"]}
    capsys.readouterr()
    assert evaluate(config, workdir, weights="best") == {better: both[better]}
    assert "better: loss " in capsys.readouterr().out


def test_what_has_not_the_metric_is_never_best(trained, tmp_path):
    _, workdir = trained
    copy = shutil.copytree(workdir, tmp_path / "copy")
    (copy / "metrics.jsonl").unlink()
    (copy / "evaluations.json").write_text('{"9": {"eval": {"top1": 0.5}}}')
    with pytest.raises(
        CheckpointError, match=r"no evaluation on record of the checkpoints \[.*\] in .* has ema/loss"
    ) as error:
        select_step(Checkpoints(copy), "best")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("record", ["", '{"6": {"eval": {"lo', "[]", '{"6": 5, "x": {}}'])
def test_without_its_record_a_run_is_known_by_its_log(trained, tmp_path, record):
    """Which is all that runs of earlier versions have."""
    _, workdir = trained
    copy = shutil.copytree(workdir, tmp_path / "copy")
    (copy / "evaluations.json").write_text(record)
    before, after = Evaluations(workdir), Evaluations(copy)
    for step in range(1, 10):
        assert after[step] == before[step]
    # Earlier versions kept what keep_best needed in the checkpoints as well.
    (copy / "metrics.jsonl").write_bytes(
        b'5\n[]\n{"step": [], "split": "ema"}\n\xff\n{"step": 9, "split": "ema", "loss"'
    )
    for step in steps(copy):
        (copy / "checkpoints" / str(step) / "metrics").mkdir()
        flat = {f"{split}/{name}": x for split, result in before[step].items() for name, x in result.items()}
        (copy / "checkpoints" / str(step) / "metrics" / "metrics").write_text(json.dumps(flat))
    assert select_step(Checkpoints(copy), "best") == select_step(Checkpoints(workdir), "best")
    assert open_pretrained(copy).reason == open_pretrained(workdir).reason
    (copy / "checkpoints" / "9" / "metrics" / "metrics").write_text('{"eval/')
    assert open_pretrained(copy, weights="raw").step == 9


EVALUATED = {
    4: {"eval": {"top1": 0.761, "loss": 1.0}, "ema": {"top1": 0.4175, "loss": 2.0}},
    8: {"eval": {"top1": 0.5, "loss": 1.0}, "ema": {"top1": 0.5, "loss": 0.5}},
    12: {"eval": {"top1": 0.5, "loss": math.nan}, "ema": {"top1": math.nan, "loss": math.nan}},
    16: {"eval": {"top1": 0.9, "top5": 0.9, "loss": 1.0}, "ema": {"top1": 0.8, "top5": 0.95, "loss": 1.1}},
    20: {"eval": {"top1": 0.9}},
    24: {split: {"top1": math.nan, "loss": math.nan, "count": 8} for split in ("eval", "ema")},
}


def test_a_run_that_begins_again_forgets_evaluations_of_the_attempt_before(tmp_path):
    Evaluations(tmp_path).record(4, EVALUATED[4])
    (tmp_path / "metrics.jsonl").write_text('{"step": 2, "split": "eval", "top1": 1.0}\n')
    checkpoints = Checkpoints(tmp_path, keep=1, keep_best="eval/top1", metrics=METRICS)
    run = SimpleNamespace(
        new_state=lambda first: "new",
        config=SimpleNamespace(optimizer=SimpleNamespace(standardize_head=False)),
    )
    assert first_state(run, checkpoints, None) == "new"
    checkpoints.close()
    assert checkpoints.evaluations.best(Criterion("eval", METRICS[0])) is None
    assert json.loads((tmp_path / "evaluations.json").read_text()) == {}


@pytest.mark.parametrize(
    ("weights", "step", "keep_best", "item", "reason"),
    [
        ("raw", 8, "", "weights", "as asked for"),
        ("ema", 4, "", "ema", "as asked for"),
        ("best", 4, "", "weights", "the run's evaluation found the raw weights better: top-1 76.10 against 41.75 %"),
        (
            "best",
            7,
            "",
            "weights",
            "the run's evaluation at step 4 found the raw weights better: top-1 76.10 against 41.75 %",
        ),
        ("best", 8, "", "ema", "the run's evaluation found it better: loss 0.5000 against 1.0000"),
        ("best", 12, "", "weights", "the run's evaluation found the raw weights better: top-1 50.00 against nan %"),
        ("best", 16, "ema/top5", "ema", "the run's evaluation found it better: top-5 95.00 against 90.00 %"),
        (
            "best",
            16,
            "eval/loss",
            "weights",
            "the run's evaluation found the raw weights better: loss 1.0000 against 1.1000",
        ),
        ("best", 3, "", "ema", "no evaluation that compares it with the raw weights is on record"),
        ("best", 20, "", "ema", "no evaluation that compares it with the raw weights is on record"),
        ("best", 24, "", "ema", "no evaluation that compares it with the raw weights is on record"),
    ],
)
def test_which_weights(tmp_path, weights, step, keep_best, item, reason):
    evaluations, metric = Evaluations(tmp_path), deciding(METRICS, keep_best)
    for each, results in EVALUATED.items():
        evaluations.record(each, results)
    # On disk as in memory.
    for known in (evaluations, Evaluations(tmp_path)):
        choice = choose_weights(weights, step, lambda item: True, known, metric)
        assert (choice.item, choice.reason) == (item, reason)
    for only in ("weights", "ema"):
        assert choose_weights("best", step, only.__eq__, evaluations, metric).item == only
    with pytest.raises(CheckpointError, match="no moving average; take weights 'raw' or 'best'"):
        choose_weights("ema", step, "weights".__eq__, evaluations, metric)
    with pytest.raises(CheckpointError, match="its moving average alone; take weights 'ema' or 'best'"):
        choose_weights("raw", step, "ema".__eq__, evaluations, metric)


def test_a_choice_and_one_that_there_is_not(trained, tiny_config):
    _, workdir = trained
    for arguments, message in (
        ({"step": "newest"}, "step is 'newest', and should be latest, best or a step"),
        ({"weights": "mean"}, "weights is 'mean', and should be raw, ema or best"),
    ):
        with pytest.raises(ConfigError, match=message):
            open_pretrained(workdir, **arguments)
    config = tiny_config(init_from=str(workdir), init_step="6", init_weights="raw")
    chosen = open_init(config)
    assert (chosen.step, chosen.item, chosen.reason) == (6, "weights", "as asked for")
    config.init_step = "newest"
    with pytest.raises(ConfigError, match="init_step is 'newest', and should be latest, best or a step"):
        open_init(config)
    assert open_pretrained(workdir / "checkpoints" / "6").step == open_pretrained(workdir, step="6").step == 6
    with pytest.raises(CheckpointError, match="is the checkpoint of step 6, and step 'best' asks for another"):
        open_pretrained(workdir / "checkpoints" / "6", step="best")


def array_file(folder: Path) -> Path:
    """The largest file of a checkpoint's item, which has its arrays."""
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def flip_bits(file: Path) -> None:
    data = bytearray(file.read_bytes())
    for place in (1, 2, 3):
        data[place * len(data) // 4] ^= 1
    file.write_bytes(data)


def empty(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.parametrize(
    ("item", "damage", "what"),
    [
        ("weights", flip_bits, "is not what was written"),
        ("ema", empty, "is not what was written"),
        ("ema", Path.unlink, "is missing"),
        ("run", flip_bits, "is not what was written"),
    ],
)
def test_a_file_that_is_not_what_was_written_is_named(trained, tmp_path, item, damage, what):
    _, workdir = trained
    copy = shutil.copytree(workdir, tmp_path / "copy")
    folder = copy / "checkpoints" / "9"
    file = array_file(folder / item)
    damage(file)
    others = [step for step in steps(copy) if step != 9]
    message = (
        f"the checkpoint {folder} is damaged: {file.relative_to(folder)} {what}; "
        f"delete that folder and take one of the steps {others}"
    )
    which = "ema" if item == "ema" else "raw"
    for load in (
        lambda: from_pretrained(copy, weights=which),
        lambda: from_pretrained(copy, step=9, weights=which),
        lambda: evaluate(None, copy, weights=which),
    ):
        with pytest.raises(DamagedCheckpointError) as error:
            load()
        assert str(error.value) == message
    if item != "run":
        # The other item has nothing to do with it, and nor has another checkpoint.
        from_pretrained(copy, weights={"ema": "raw", "raw": "ema"}[which])
    from_pretrained(copy, step=others[0], weights=which)


def test_checksums_are_of_all_files(trained):
    """By another program's hand, as it were."""
    _, workdir = trained
    for step in steps(workdir):
        folder = workdir / "checkpoints" / str(step)
        files = [path for path in folder.glob("*/**/*") if path.is_file()]
        expected = {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
        assert json.loads((folder / "checksums.json").read_text()) == {"sha256": expected}
        assert {name.split("/")[0] for name in expected} == {"weights", "ema", "optimizer", "run"}


def as_an_earlier_version(workdir, step: int) -> None:
    """Takes from a checkpoint what one had not before there were checksums, and other tasks than classification."""
    folder = workdir / "checkpoints" / str(step)
    run = json.loads((folder / "run" / "metadata").read_text())
    assert run.pop("has_checksums")
    # Of five classes there is no top-5.
    assert [metric["name"] for metric in run.pop("metrics")] == ["top1", "balanced_accuracy"]
    (folder / "run" / "metadata").write_text(json.dumps(run))
    (folder / "checksums.json").unlink()


def test_checksums_that_are_gone(trained, tmp_path):
    _, workdir = trained
    copy = shutil.copytree(workdir, tmp_path / "copy")
    (copy / "checkpoints" / "9" / "checksums.json").unlink()
    message = r"9 is damaged: its checksums.json is gone; delete that folder and take one of the steps"
    for load in (lambda: from_pretrained(copy), lambda: evaluate(None, copy)):
        with pytest.raises(DamagedCheckpointError, match=message):
            load()
    target = jax.eval_shape(lambda: create_weights(open_pretrained(workdir).config, 0))
    with closing(Checkpoints(copy)) as checkpoints, pytest.raises(DamagedCheckpointError, match=message):
        checkpoints.restore_weights(9, "weights", target)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"sha256": 3}'])
def test_damaged_checksums(trained, tmp_path, content):
    _, workdir = trained
    copy = shutil.copytree(workdir, tmp_path / "copy")
    (copy / "checkpoints" / "9" / "checksums.json").write_text(content)
    with pytest.raises(DamagedCheckpointError, match=r"9 is damaged: checksums.json is not what was written; delete"):
        open_pretrained(copy)


@pytest.mark.parametrize(
    ("item", "checksums"),
    [("weights", True), ("run", True), ("optimizer", False)],  # The last as an earlier version wrote it.
)
def test_a_run_goes_on_from_the_newest_whole_checkpoint(trained, tmp_path, capsys, item, checksums):
    config, workdir = trained
    copy = shutil.copytree(workdir, tmp_path / "copy")
    for step in () if checksums else steps(copy):
        as_an_earlier_version(copy, step)
    for file in (copy / "checkpoints" / "9" / item).rglob("*"):
        if file.is_file() and ("/d/" in str(file) or item == "run"):
            file.write_bytes(b"")
    (copy / "checkpoints" / "9.damaged").mkdir()  # Of another time.
    train(config, copy)
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "damaged" in line)
    assert line.startswith(f"the checkpoint {copy}/checkpoints/9 is damaged: ")
    assert line.endswith("; it is kept as 9.damaged1, and the run goes on from step 6")
    # What comes after step 6 is done again, to the same end.
    assert metrics(copy) == metrics(workdir)
    assert_equal(saved_arrays(copy, 9), saved_arrays(workdir, 9))
    assert open_pretrained(copy).reason == open_pretrained(workdir).reason
    assert select_step(Checkpoints(copy), "best") == select_step(Checkpoints(workdir), "best")


def test_a_run_whose_only_checkpoint_is_damaged_does_not_begin_again(trained, tmp_path):
    config, workdir = trained
    copy = shutil.copytree(workdir, tmp_path / "copy")
    for step in steps(copy):
        if step != 9:
            shutil.rmtree(copy / "checkpoints" / str(step))
    flip_bits(array_file(copy / "checkpoints" / "9" / "ema"))
    with pytest.raises(DamagedCheckpointError, match=r"9 is damaged: ema/.* was written; there is no other$"):
        train(config, copy)
    assert steps(copy) == [9]


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("weights", "damaged: its weights cannot be read"),
        ("ema", "damaged: its moving average is gone"),
        ("run", "damaged: its run cannot be read"),
        ("run/metadata", "damaged: its run cannot be read"),
    ],
)
def test_a_damaged_checkpoint_of_an_earlier_version_is_an_error(trained, tmp_path, part, message):
    _, workdir = trained
    shutil.copytree(workdir, tmp_path / "copy")
    as_an_earlier_version(tmp_path / "copy", 9)
    path = tmp_path / "copy" / "checkpoints" / "9" / part
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.write_text(path.read_text()[:50])
    with pytest.raises(CheckpointError, match=message) as error:
        from_pretrained(tmp_path / "copy", weights="ema" if part == "ema" else "raw")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("share", [0, 2])
def test_cut_array_files_of_an_earlier_version_are_an_error(trained, tmp_path, share):
    _, workdir = trained
    shutil.copytree(workdir, tmp_path / "copy")
    as_an_earlier_version(tmp_path / "copy", 9)
    for file in (tmp_path / "copy" / "checkpoints" / "9" / "ema").rglob("*"):
        if file.is_file() and "/d/" in str(file):
            file.write_bytes(file.read_bytes()[: share and file.stat().st_size // share])
    with pytest.raises(CheckpointError, match="damaged: its ema cannot be read") as error:
        from_pretrained(tmp_path / "copy", weights="ema")
    assert "\n" not in str(error.value)


def test_what_was_best_is_known_when_a_run_goes_on(trained, tmp_path):
    workdir = shutil.copytree(trained[1], tmp_path / "copy")
    best = min(line["loss"] for line in evaluations(workdir).values())
    checkpoints = Checkpoints(workdir, keep=2, keep_best="ema/loss", metrics=METRICS)
    assert not checkpoints.is_best(10)
    for results, is_best in (
        ({"eval": {"loss": 0.0}}, False),
        ({"ema": {"loss": best}}, False),
        ({"ema": {"loss": best - 1e-6}}, True),
    ):
        checkpoints.evaluations.record(10, results)
        assert checkpoints.is_best(10) == is_best
    checkpoints.close()


@pytest.mark.parametrize(
    ("criterion", "better", "worse"),
    [
        ("eval/top1", {"eval": {"top1": 0.5}}, {"eval": {"top1": 0.4}}),
        ("ema/loss", {"ema": {"loss": 0.4}}, {"ema": {"loss": 0.5}}),
        ("ema/loss", {"ema": {"loss": 0.4}}, {"ema": {"loss": math.nan}}),
        ("ema/top1", {"ema": {"top1": 0.0}}, {"eval": {"top1": 0.5}}),
        ("ema/top1", {"ema": {"top1": 0.0}}, None),
    ],
)
def test_scores(criterion, better, worse):
    criterion = criteria(METRICS)[criterion]
    assert score(criterion, better) > score(criterion, worse)


def test_numbers_as_they_are_shown():
    assert [Metric("iou", "IoU").format(0.76104, digits) for digits in (1, 2)] == ["76.1 %", "76.10 %"]
    assert [LOSS.format(value) for value in (2.30261, math.nan)] == ["2.3026", "nan"]


def test_metrics_of_another_task(tmp_path):
    """A checkpoint says what is measured, and in which direction that is better."""
    error = Metric("error", "mean error", percent=False, higher_is_better=False)
    model = NamedModel("posmlp_t", model_config("posmlp_t", image_size=32))
    config = {"keep_best": "ema/error", "data": {}}
    with closing(Checkpoints(tmp_path, keep=1, keep_best="ema/error", metrics=(error,))) as checkpoints:
        for step, (raw, average) in {2: (0.1, 0.3), 4: (0.5, 0.2), 6: (0.4, 0.6)}.items():
            weights = Weights({"kernel": np.ones(step)}, {})
            checkpoints.evaluations.record(step, {"eval": {"error": raw}, "ema": {"error": average}})
            checkpoints.save(TrainState(np.int32(step), weights, {"count": np.ones(1)}, weights), config, model, None)
    assert steps(tmp_path) == [4, 6]
    best = open_pretrained(tmp_path, step="best")
    assert (best.step, best.item) == (4, "ema")
    assert best.reason == "the run's evaluation found it better: mean error 0.2000 against 0.5000"
    newest = open_pretrained(tmp_path)
    assert (newest.step, newest.item) == (6, "weights")


def test_metrics_that_a_checkpoint_names_wrongly(trained, tmp_path):
    copy = shutil.copytree(trained[1], tmp_path / "copy")
    for step in steps(copy):
        as_an_earlier_version(copy, step)
    file = copy / "checkpoints" / "9" / "run" / "metadata"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"metrics": [{"title": "top1"}]}))
    for which in ("latest", "best"):
        with pytest.raises(DamagedCheckpointError, match="9 is damaged: its run cannot be read"):
            open_pretrained(copy, step=which)


def test_the_best_of_an_earlier_version(trained, tmp_path):
    copy = shutil.copytree(trained[1], tmp_path / "copy")
    for step in steps(copy):
        as_an_earlier_version(copy, step)
    assert select_step(Checkpoints(copy), "best") == select_step(Checkpoints(trained[1]), "best")
    assert open_pretrained(copy).reason == open_pretrained(trained[1]).reason


def test_hosts_take_what_the_first_one_chooses(trained, monkeypatch):
    """As on a second host, which sees a newer checkpoint than the first one did."""
    _, workdir = trained
    assert open_together(workdir) == open_pretrained(workdir)
    first = open_pretrained(workdir, step=min(steps(workdir)), weights="ema")
    assert first.step < open_pretrained(workdir).step
    monkeypatch.setattr("posmlp_jax.checkpoints.pretrained.jax", SimpleNamespace(process_count=lambda: 2))
    monkeypatch.setattr("posmlp_jax.checkpoints.pretrained.from_host_0", lambda _: [first.step, "ema", first.reason])
    monkeypatch.setattr("posmlp_jax.checkpoints.pretrained.together", lambda function: function())
    assert open_together(workdir) == first
