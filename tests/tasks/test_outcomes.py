"""Results by class: the numbers against scikit-learn's, and what is printed, written and drawn of them."""

import csv
import io
import os

import matplotlib.pyplot as plt
import numpy as np
import pytest
from rich.cells import cell_len
from sklearn import metrics

from posmlp_jax.checkpoints.evaluations import better_split
from posmlp_jax.tasks.classification.confusion import MOST_CLASSES, draw_confusion
from posmlp_jax.tasks.classification.counts import describe_counts, is_unbalanced
from posmlp_jax.tasks.classification.outcomes import (
    METRICS,
    Outcomes,
    class_names,
    class_table,
    confusion_table,
    format_table,
)
from posmlp_jax.tasks.classification.report import report_by_class
from posmlp_jax.tasks.task import Evaluation


def random_outcomes(classes: int, count: int = 400, names=None) -> Outcomes:
    """Of unequal classes, the last without an example; about half of them are right."""
    random = np.random.default_rng(classes)
    labels = (classes - 1) * random.beta(1, 2, count) // 1
    predictions = np.where(random.random(count) < 0.5, labels, random.integers(0, classes, count))
    return Outcomes(labels.astype(np.int64), predictions.astype(np.int64), class_names(names, classes))


@pytest.mark.parametrize("classes", [2, 7, 30])
def test_numbers_are_those_of_scikit_learn(classes):
    outcomes = random_outcomes(classes)
    truth, predictions, every = outcomes.labels, outcomes.predictions, range(classes)
    np.testing.assert_array_equal(
        outcomes.confusion_matrix(), metrics.confusion_matrix(truth, predictions, labels=every)
    )
    recalls = metrics.recall_score(truth, predictions, labels=every, average=None, zero_division=np.nan)
    np.testing.assert_allclose(outcomes.accuracies, recalls, rtol=1e-12)
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        balanced = metrics.balanced_accuracy_score(truth, predictions)
    assert outcomes.balanced_accuracy == pytest.approx(balanced, rel=1e-12)
    rows = list(csv.DictReader(io.StringIO(class_table(outcomes))))
    precisions = metrics.precision_score(truth, predictions, labels=every, average=None, zero_division=np.nan)
    for column, wanted in (("accuracy", recalls), ("precision", precisions)):
        numbers = [float(row[column] or "nan") for row in rows]
        np.testing.assert_allclose(numbers, wanted, rtol=1e-5)


def test_the_confusion_table_survives_any_name():
    names = ["a, b", 'the "c"', "鸟", "$x$"]
    outcomes = random_outcomes(5, names=names)
    head, *rows = csv.reader(io.StringIO(confusion_table(outcomes)))
    assert head[1:] == [row[0] for row in rows] == [*names, "4"]
    assert [[int(cell) for cell in row[1:]] for row in rows] == outcomes.confusion_matrix().tolist()


def test_the_terminal_shows_all_of_few_classes():
    outcomes = Outcomes(
        np.array([0, 0, 0, 1, 1, 3]), np.array([0, 3, 3, 1, 1, 0]), ("cat", "鸟", "none", "line\nbreak")
    )
    assert format_table(outcomes, "image").splitlines() == [
        "  class        images  accuracy  most often taken for",
        "  cat               3    33.3 %  line\\nbreak (2)",
        "  鸟                2   100.0 %",
        "  line\\nbreak       1     0.0 %  cat (1)",
    ]


def test_the_terminal_shows_the_worst_of_many_classes():
    outcomes = random_outcomes(30)
    head, *rows = format_table(outcomes, "video").splitlines()
    assert head.split()[:4] == ["worst", "10", "classes", "videos"]
    worst = sorted(np.flatnonzero(outcomes.counts), key=lambda label: outcomes.accuracies[label])[:10]
    assert [int(row.split()[0]) for row in rows] == worst


@pytest.mark.parametrize("width", [50, 80, 200])
def test_the_table_fits_the_terminal(monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    names = (
        "great white shark, white shark, man-eater, man-eating shark",
        "日本語の写真クラスの長い長い名前です本当に",
        "[b]x",
    )
    outcomes = Outcomes(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 0]), names)
    lines = format_table(outcomes, "image").splitlines()
    assert max(map(cell_len, lines)) <= width
    # The numbers stand below each other, in columns of the terminal: letters of Chinese take two.
    rows = {number: [line for line in lines if f" {number} %" in line] for number in ("50.0", "100.0", "0.0")}
    assert [len(found) for found in rows.values()] == [1, 1, 1]
    assert len({cell_len(found[0][: found[0].index(" %")]) for found in rows.values()}) == 1
    # A name of more than 40 columns is cut, and of no name is more lost.
    letters = "".join("".join(lines).split())
    assert ("man-eat…" in letters, "man-eater" in letters, "[b]x" in letters) == (True, False, True)


def evaluation(classes: int, top1: float, loss: float = 1.0) -> Evaluation:
    outcomes = random_outcomes(classes)
    return Evaluation({"top1": top1, "loss": loss, "balanced_accuracy": outcomes.balanced_accuracy}, outcomes)


def test_the_better_weights_are_those_reported(tmp_path, capsys):
    report_by_class(tmp_path, 9, {"eval": evaluation(7, 0.4), "ema": evaluation(7, 0.5)}, "image")
    over = "(over the 6 of 7 classes that there are images of)"
    assert f"% {over}, moving average of step 9, class by class:\n  class  images" in capsys.readouterr().out
    folder = tmp_path / "evaluation" / "step9_ema"
    assert sorted(path.name for path in folder.iterdir()) == ["classes.csv", "confusion.csv", "confusion.png"]
    assert (folder / "confusion.csv").read_text() == confusion_table(random_outcomes(7))
    assert (folder / "confusion.png").read_bytes().startswith(b"\x89PNG")
    equal = {"eval": {"top1": 0.5, "loss": 1.0}, "ema": {"top1": 0.5, "loss": 0.9}}
    assert [better_split(equal, METRICS[0]), better_split({"eval": equal["eval"]}, METRICS[0])] == ["ema", "eval"]


@pytest.mark.parametrize(
    ("classes", "files", "said"),
    [
        (MOST_CLASSES + 1, ["classes.csv", "confusion.csv"], "; no confusion.png of 101 classes"),
        (1001, ["classes.csv"], "; no confusion.csv and no confusion.png of 1001 classes"),
    ],
)
def test_many_classes_have_no_picture_and_very_many_no_matrix(tmp_path, capsys, classes, files, said):
    report_by_class(tmp_path, 9, {"eval": evaluation(classes, 0.4)}, "image")
    assert sorted(path.name for path in (tmp_path / "evaluation" / "step9_eval").iterdir()) == files
    assert capsys.readouterr().out.endswith(f"wrote {', '.join(files)} to {tmp_path}/evaluation/step9_eval{said}\n")


def test_a_class_folder_whose_name_is_no_utf8(tmp_path, capsys):
    names = (os.fsdecode(b"caf\xe9"), "鸟")
    outcomes = Outcomes(np.array([0, 0, 1]), np.array([0, 1, 1]), names)
    report_by_class(
        tmp_path, 9, {"eval": Evaluation({"top1": 2 / 3, "loss": 1.0, "balanced_accuracy": 0.75}, outcomes)}, "image"
    )
    assert "caf\\udce9  " in capsys.readouterr().out
    lines = (tmp_path / "evaluation" / "step9_eval" / "classes.csv").read_bytes().splitlines()
    assert lines[1] == b"caf\xe9,2,1,0.5,1"


def test_where_nothing_can_be_written_the_terminal_still_has_it(tmp_path, capsys):
    (tmp_path / "evaluation").write_text("a file")
    report_by_class(tmp_path, 9, {"eval": evaluation(7, 0.4)}, "image")
    *table, last = capsys.readouterr().out.splitlines()
    assert len(table) == 8
    assert last.startswith("the results by class are not kept: cannot write to the working directory")


@pytest.mark.filterwarnings("error")
def test_the_picture(tmp_path):
    names = ("$5", "鸟", "a name that would take half of the picture", "line\nbreak", "e")
    outcomes = random_outcomes(5, names=names)
    figure = draw_confusion(outcomes.confusion_matrix(), outcomes.class_names, "title")
    figure.savefig(tmp_path / "confusion.png")
    axes = figure.axes[0]
    shown = ["$5", "class 1", "a name that would take …", "line\\nbreak", "e"]
    assert [text.get_text() for text in axes.get_yticklabels()] == shown
    matrix = np.zeros((5, 5), int)
    for text in axes.texts:
        column, row = text.get_position()
        matrix[row, column] = int(text.get_text())
    np.testing.assert_array_equal(matrix, outcomes.confusion_matrix())
    assert not draw_confusion(np.eye(30, dtype=int), class_names(None, 30), "title").axes[0].texts
    plt.close("all")


def test_classes_are_counted_in_a_line():
    assert describe_counts(np.array([3, 0, 12]), ("cat", "line\nbreak", "dog")) == "cat: 3, line\\nbreak: 0, dog: 12"
    alone = describe_counts(np.array([3]), ("cat",))
    assert alone == "cat: 3 (the only class: accuracy is 100 % whatever a model has learned, and says nothing)"
    many = describe_counts(np.arange(100)[::-1], class_names(None, 100))
    assert many == "100 classes, from 0: 99, 1: 98, 2: 97 to 97: 2, 98: 1, 99: 0"


def test_which_classes_are_unequal():
    assert is_unbalanced(np.array([10, 0, 5]))
    assert not is_unbalanced(np.array([10, 0, 6]))
