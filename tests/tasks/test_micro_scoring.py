"""UF1 and UAR are scikit-learn's macro averages over the predictions of all folds, which tables keep to the bit."""

import json

import numpy as np
import pytest
from sklearn import metrics

from posmlp_jax.checkpoints.evaluations import WHOSE
from posmlp_jax.data.sources.clip_index import ClipInfo
from posmlp_jax.errors import CheckpointError
from posmlp_jax.tasks.micro_expressions.predictions import Predictions, check_clips, joined, read_table
from posmlp_jax.tasks.micro_expressions.report import report_fold, report_folds
from posmlp_jax.tasks.micro_expressions.scoring import score_predictions
from posmlp_jax.tasks.task import Evaluation

CLASSES = ("negative", "positive", "surprise, sudden")


def made_up(seed: int, count: int = 60, *, subjects: int = 6, shift: int = 0) -> Predictions:
    """Clips of two data sets, whose people have the same numbers."""
    rng = np.random.default_rng(seed)
    names = [f"{('casme2', 'samm')[index % 2]}/sub{1 + index // 2}" for index in range(subjects)]
    of = tuple(names[index % subjects] for index in range(count))
    scores = rng.dirichlet(np.ones(3), count).astype(np.float32)
    return Predictions(
        of,
        tuple(f"{subject}/EP{index + shift}" for index, subject in enumerate(of)),
        rng.choice(3, count, p=(0.6, 0.3, 0.1)),
        scores.argmax(axis=1),
        scores,
        CLASSES,
    )


@pytest.mark.filterwarnings("ignore::UserWarning")  # Of classes without clips.
@pytest.mark.parametrize("seed", range(20))
def test_scores_are_those_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    classes, count = int(rng.integers(2, 6)), rng.integers(1, 30)
    labels, predictions = rng.integers(0, classes, count), rng.integers(0, classes, count)
    uf1, uar, accuracy = score_predictions(labels, predictions, classes)
    assert uf1 == pytest.approx(metrics.f1_score(labels, predictions, average="macro"), rel=1e-14)
    assert uar == pytest.approx(metrics.recall_score(labels, predictions, average="macro", zero_division=0), rel=1e-14)
    assert accuracy == pytest.approx(metrics.accuracy_score(labels, predictions), rel=1e-14)


def test_the_equations():
    labels, predictions = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 0, 2])
    scores = score_predictions(labels, predictions, 3)
    assert scores.uf1 == pytest.approx((4 / 6 + 2 / 4 + 1) / 3)
    assert scores.uar == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert scores.accuracy == pytest.approx(4 / 6)


def test_a_table_gives_the_same_bits_and_damage_is_told():
    found = made_up(0)
    read = read_table(found.table(), "predictions.csv")
    assert (read.subjects, read.clips, read.class_names) == (found.subjects, found.clips, CLASSES)
    for name in ("labels", "predictions", "scores"):
        np.testing.assert_array_equal(getattr(read, name), getattr(found, name))
    text = found.table()
    for broken in (
        "",
        "\0" * 140_000,
        "a,b\n",
        text[: len(text) // 2],
        text.replace("negative", "positiv", 2),
        text.splitlines()[0],
    ):
        with pytest.raises(CheckpointError, match=r"^predictions\.csv is damaged: it should be a table of predictions"):
            read_table(broken, "predictions.csv")


def test_predictions_are_of_the_clips_of_the_data():
    """All of them, each once, with the class that it has: or a fold is of other data, or of part of them."""
    found = made_up(4, 12)
    clips = [ClipInfo(*row, 1, 2) for row in zip(found.clips, found.subjects, found.labels, found.labels, strict=True)]
    check_clips({"one": found}, clips)
    head, *rows = found.table().splitlines(keepends=True)
    parts = [read_table(head + "".join(rows[of]), "") for of in (slice(0, 5), slice(5, 12))]
    check_clips({"one": parts[0], "two": parts[1]}, clips[::-1])
    other = clips[3]._replace(label=(clips[3].label + 1) % 3)
    for tables, listed, message in (
        ({"one": parts[0], "two": found}, clips, "two has the clip casme2/sub1/EP0 as .*, and the data have no such"),
        ({"one": found}, clips[1:], "one has the clip casme2/sub1/EP0 as .*: delete that file, and its fold"),
        ({"one": found}, [*clips[:3], other, *clips[4:]], "one has the clip samm/sub2/EP3 as "),
        ({"one": parts[0]}, clips, "lack samm/sub3/EP5, and 6 other clips of the data: delete those without samm/sub3"),
    ):
        with pytest.raises(CheckpointError, match=message):
            check_clips(tables, listed)


def test_what_all_folds_come_to_is_of_their_clips_put_together(tmp_path, capsys):
    """Not a mean over folds or data sets; people of two data sets with one number are two."""
    found = made_up(1)
    head, *rows = found.table().splitlines(keepends=True)
    folds = [
        read_table(head + "".join(row for row in rows if row.startswith(f"{subject},")), subject)
        for subject in dict.fromkeys(found.subjects)
    ]
    whole = report_folds(tmp_path / "leave_one_out", joined(folds))
    wanted = metrics.f1_score(found.labels, found.predictions, average="macro")
    assert whole.uf1 == pytest.approx(wanted, rel=1e-14)
    means = [metrics.f1_score(fold.labels, fold.predictions, average="macro", zero_division=0) for fold in folds]
    assert abs(np.mean(means) - wanted) > 1e-3
    scores = json.loads((tmp_path / "leave_one_out" / "scores.json").read_text())
    assert (scores["subjects"], scores["clips"], scores["uf1"]) == (6, 60, whole.uf1)
    for name in ("casme2", "samm"):
        own = np.array([subject.startswith(f"{name}/") for subject in found.subjects])
        of = {"y_true": found.labels[own], "y_pred": found.predictions[own]}
        assert scores["datasets"][name] == {
            "subjects": 3,
            "clips": 30,
            "uf1": pytest.approx(metrics.f1_score(**of, average="macro"), rel=1e-14),
            "uar": pytest.approx(metrics.balanced_accuracy_score(**of), rel=1e-14),
            "accuracy": pytest.approx(metrics.accuracy_score(**of), rel=1e-14),
        }
    printed = capsys.readouterr().out
    rows = [line.split() for line in printed.splitlines()]
    assert ["all", "6", "60", f"{100 * whole.uf1:.2f}", "%", f"{100 * whole.uar:.2f}", "%"] in [row[:7] for row in rows]
    assert (tmp_path / "leave_one_out" / "confusion.png").read_bytes().startswith(b"\x89PNG")
    table = (tmp_path / "leave_one_out" / "predictions.csv").read_text()
    assert sorted(table.splitlines()) == sorted(found.table().splitlines())


def test_a_fold_goes_by_the_moving_average_however_good_it_is(tmp_path, capsys):
    """The better one of the two, chosen by the person who is left out, would be too good."""
    found, worse = made_up(2, subjects=1), made_up(3, subjects=1)
    best = Evaluation({"top1": 1.0, "loss": 0.0}, found)
    report_fold(tmp_path, 7, {"eval": best, "ema": Evaluation({"top1": 0.0, "loss": 9.0}, worse)})
    assert (tmp_path / "evaluation/step7_ema/predictions.csv").read_text() == worse.table()
    right = (worse.labels == worse.predictions).sum()
    assert f"casme2/sub1, left out: {right} of 60 clips right ({WHOSE['ema']} of step 7)" in capsys.readouterr().out
    report_fold(tmp_path, 8, {"eval": best})
    assert (tmp_path / "evaluation/step8_eval/predictions.csv").read_text() == found.table()
