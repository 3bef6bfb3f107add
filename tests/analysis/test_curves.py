import hashlib
import io
import json

import numpy as np
import pytest

from posmlp_jax.analysis import curves
from posmlp_jax.analysis.curves import compare, draw_curves, main, read_metrics
from posmlp_jax.analysis.published_logs import published_log
from posmlp_jax.checkpoints.evaluations import LOSS
from posmlp_jax.errors import ConfigError, DataError


@pytest.fixture
def workdir(tmp_path):
    """A run of three logged steps, the second with a loss that is not finite, and one evaluation."""
    rows = [
        {"step": step, "split": "train", "loss": loss, "top1": 0.1 * step, "learning_rate": 0.01}
        for step, loss in ((1, 3.0), (2, None), (3, 1.0))
    ]
    rows.append({"step": 3, "split": "eval", "loss": 2.0, "top1": 0.25})
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_lines_are_the_metrics(workdir):
    loss, top1, rate = draw_curves([workdir]).axes
    assert [line.get_xydata().tolist() for line in loss.get_lines()] == [[[1, 3], [3, 1]], [[3, 2]]]
    assert top1.get_lines()[1].get_xydata().tolist() == [[3, 25]]
    assert rate.get_lines()[0].get_xydata().tolist() == [[1, 0.01], [3, 0.01]]
    # A point alone would make no line.
    assert {line.get_marker() for axes in (loss, top1, rate) for line in axes.get_lines()} == {"."}


def test_a_line_that_a_kill_cut(workdir, capsys):
    """At the end, or glued to the line that a run which went on wrote next: it is named, and the others are drawn."""
    file = workdir / "metrics.jsonl"
    rows, text = read_metrics(workdir), file.read_text()
    assert len(rows) == 4
    assert not capsys.readouterr().err
    first, rest = text.split("\n", 1)
    for cut in range(1, len(first)):
        file.write_text(text + first[:cut])
        assert read_metrics(workdir) == rows
    assert "metrics.jsonl: line 5 is not whole and is passed over" in capsys.readouterr().err
    file.write_text(f"{first}\n{first[:20]}{rest}")
    assert read_metrics(workdir) == [rows[0], *rows[2:]]
    assert "metrics.jsonl: line 2 is not whole and is passed over" in capsys.readouterr().err
    loss, *_ = draw_curves([workdir]).axes
    assert [line.get_xydata().tolist() for line in loss.get_lines()] == [[[1, 3], [3, 1]], [[3, 2]]]
    file.write_bytes(text.encode() + b"\xff\xfe\x00\n")
    assert read_metrics(workdir) == rows


@pytest.mark.parametrize("content", ["", "null\n"])
def test_a_run_that_has_logged_nothing(workdir, content):
    (workdir / "metrics.jsonl").write_text(content)
    assert read_metrics(workdir) == []
    with pytest.raises(DataError, match=r"metrics\.jsonl has no metrics yet"):
        draw_curves([workdir])


@pytest.mark.parametrize(
    "line",
    [
        "5",
        "null",
        "[]",
        '"step"',
        "{}",
        '{"step": 3, "spkit": "train"}',
        '{"step": null, "split": "train"}',
        '{"step": 3, "split": "tr"}',
        '{"step": 3, "split": ["train"]}',
        '{"step": "3", "split": "train"}',
        '{"step": 3, "split": "train", "loss": "1.0"}',
    ],
)
def test_a_line_of_something_else(workdir, line, capsys):
    file = workdir / "metrics.jsonl"
    rows = read_metrics(workdir)
    file.write_text(f"{line}\n{file.read_text()}")
    assert read_metrics(workdir) == rows
    assert "metrics.jsonl: line 1 is not whole and is passed over" in capsys.readouterr().err


def test_a_line_without_loss_or_rate(workdir):
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "split": "train", "loss": 0.5}\n{"step": 4, "split": "eval", "top1": 0.5}\n')
    loss, _, rate = draw_curves([workdir]).axes
    assert [line.get_xydata().tolist() for line in loss.get_lines()] == [[[1, 3], [3, 1], [4, 0.5]], [[3, 2]]]
    assert rate.get_lines()[0].get_xydata().tolist()[:2] == [[1, 0.01], [3, 0.01]]


def test_names_of_folders_are_texts(workdir):
    """Neither is one mathematics, nor is one that begins with _ left out."""
    names = ["a$_{$b", "_c"]
    for name in names:
        (workdir / name).mkdir()
        (workdir / name / "metrics.jsonl").write_bytes((workdir / "metrics.jsonl").read_bytes())
    figure = draw_curves([workdir / name for name in names])
    figure.savefig(io.BytesIO())
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        f"{name}, {split}" for name in names for split in ("training", "evaluation")
    ]


@pytest.mark.parametrize(
    ("model", "epochs", "best", "best_epoch", "last", "best_weights"),
    [("posmlp_t", 300, "81.976", 254, "81.676", "81.694"), ("posmlp_s", 310, "82.958", 264, "82.568", "82.544")],
)
def test_published_logs(model, epochs, best, best_epoch, last, best_weights):
    """The numbers of docs/recipes.md, whose epochs count from 0, as the logs' do."""
    log = published_log(model)
    for curve in log.values():
        assert curve.epochs.tolist() == [*range(1, epochs + 1)]
        assert curve.loss.shape == (epochs,)
    average = 100 * log["ema"].top1
    assert (f"{average.max():.3f}", average.argmax(), f"{average[-1]:.3f}") == (best, best_epoch, last)
    assert f"{100 * log['eval'].top1.max():.3f}" == best_weights
    # What each loss begins with is that of guessing among 1000 classes, ln 1000.
    assert [log[split].loss[0] for split in log] == pytest.approx([6.908] * 3, rel=0.08)


@pytest.mark.parametrize(
    ("model", "digest"),
    [
        ("posmlp_t", "f69ddfdfb648de782fc30cf40c02ea007d5bca381abb0b4eec620435da194962"),
        ("posmlp_s", "f1b9b4e14bb34f67210f224b4a9394e9cd9735915897ef734c72efda052ab616"),
    ],
)
def test_published_logs_value_by_value(model, digest):
    """Written as the authors' numbers were, losses with four digits and top-1 in % with three, all give their hash."""
    log = published_log(model)
    lines = ["epoch,train_loss,eval_loss,eval_top1,ema_loss,ema_top1"]
    for row in range(len(log["train"].epochs)):
        values = [f"{log['train'].epochs[row] - 1:.0f}", f"{log['train'].loss[row]:.4f}"]
        for split in ("eval", "ema"):
            values += [f"{log[split].loss[row]:.4f}", f"{100 * log[split].top1[row]:.3f}"]
        lines.append(",".join(values))
    assert hashlib.sha256("\n".join([*lines, ""]).encode()).hexdigest() == digest


@pytest.fixture
def run_of_epochs(tmp_path):
    """Four epochs of five steps each, evaluated at the end of the second and in the middle of the fourth."""
    rows = [
        {"step": step, "split": "train", "epoch": step / 5, "loss": 6.0, "top1": 0.1, "learning_rate": 0.01}
        for step in (5, 10, 18)
    ]
    rows += [{"step": step, "split": "eval", "loss": 5.0, "top1": 0.01 * step} for step in (10, 18)]
    rows += [{"step": 18, "split": "ema", "loss": 7.0, "top1": 0.002}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_a_run_over_a_published_log(run_of_epochs, capsys):
    figure = draw_curves([run_of_epochs], "posmlp_t")
    loss, top1, rate = figure.axes
    assert [axis.get_xlabel() for axis in figure.axes] == ["epoch"] * 3
    lines = {line.get_label(): line.get_xydata().tolist() for line in loss.get_lines()}
    assert lines[f"{run_of_epochs.name}, training"] == [[1, 6], [2, 6], [3.6, 6]]
    # Of the log, half as much again as the run has, or a few epochs.
    assert lines["posmlp_t as published, training"] == [[1, 6.8666], [2, 6.6367], [3, 6.4534], [4, 6.2501], [5, 5.9691]]
    of_weights = {line.get_label(): line.get_xydata().tolist() for line in top1.get_lines()}
    assert of_weights[f"{run_of_epochs.name}, evaluation"] == [[2, 10], [3.6, 18]]
    np.testing.assert_allclose(
        of_weights["posmlp_t as published, evaluation"][:3], [[1, 0.95], [2, 3.312], [3, 6.362]], rtol=1e-9
    )
    assert "posmlp_t as published, training" not in of_weights  # Of which the log has no top-1.
    assert rate.get_lines()[0].get_xydata()[:, 0].tolist() == [1, 2, 3.6]
    # 0.4 of the third epoch's and 0.6 of the fourth's.
    there = 0.4 * 6.362 + 0.6 * 11.746
    average = 0.4 * 0.098 + 0.6 * 0.094
    assert list(compare(run_of_epochs, "posmlp_t")) == [
        f"{run_of_epochs.name}, epoch 3.6: weights 18.00 %, posmlp_t as published {there:.2f} % (+{18 - there:.2f})",
        f"{run_of_epochs.name}, epoch 3.6: moving average 0.20 %, posmlp_t as published {average:.2f} % (+0.10)",
    ]
    lines = list(compare(run_of_epochs, "posmlp_t"))
    for classes, first in (
        (range(1000), []),
        (None, []),
        ("ab", [f"{run_of_epochs.name} tells 2 classes apart, and posmlp_t as published the 1000 of ImageNet"]),
    ):
        named = None if classes is None else [str(each) for each in classes]
        (run_of_epochs / "data.json").write_text(json.dumps({"training": {"classes": named}}))
        assert list(compare(run_of_epochs, "posmlp_t")) == first + lines
    main([str(run_of_epochs), f"--output={run_of_epochs}/curves.png", "--published=posmlp_s"])
    assert "weights 18.00 %, posmlp_s as published" in capsys.readouterr().out


def test_outside_a_published_log_nothing_is_compared(tmp_path):
    rows = [{"step": 1, "split": "train", "epoch": 0.5}, {"step": 1, "split": "eval", "top1": 0.5}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (line,) = compare(tmp_path, "posmlp_t")
    assert line == f"{tmp_path.name}, epoch 0.5: weights 50.00 %; the log of posmlp_t is of epochs 1 to 300"


def test_mistakes_about_published_logs(run_of_epochs, workdir, monkeypatch):
    with pytest.raises(ConfigError, match="no published log of 'posmlp_tt'; did you mean 'posmlp_t'"):
        draw_curves([run_of_epochs], "posmlp_tt")
    (workdir / "metrics.jsonl").write_text('{"step": 1, "split": "eval", "loss": 1.0, "top1": 0.5}\n')
    with pytest.raises(DataError, match="no line of training yet that says how many steps its epochs have"):
        draw_curves([workdir], "posmlp_t")
    monkeypatch.setattr(curves, "deciding_metric", lambda workdir: LOSS)
    with pytest.raises(ConfigError, match=f"the published logs have top-1, and {workdir} is judged by loss"):
        draw_curves([workdir], "posmlp_t")


def test_the_program_writes_a_picture(workdir, capsys):
    main([str(workdir), f"--output={workdir}/new/curves.png"])
    assert (workdir / "new/curves.png").read_bytes().startswith(b"\x89PNG")
    assert "wrote" in capsys.readouterr().out


def test_mistakes(workdir, tmp_path):
    with pytest.raises(ConfigError, match="the ending should be one of"):
        main([str(workdir), "--output=curves.txt"])
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write"):
        main([str(workdir), f"--output={tmp_path}/file/curves.png"])
    with pytest.raises(DataError, match=r"has no metrics\.jsonl"):
        main([str(tmp_path / "nothing")])
