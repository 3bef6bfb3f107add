"""What an evaluation says of each class: accuracies by class, their mean, and which classes are taken for which."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.table import Table

from posmlp_jax.checkpoints.evaluations import Metric
from posmlp_jax.tasks.reporting import csv_table, shortened
from posmlp_jax.terminal import as_text

# What is measured besides the loss; the first decides. Of five classes or fewer there is no top-5. Balanced accuracy is
# the mean of the classes' own top-1.
METRICS = (
    Metric("top1", "top-1"),
    Metric("top5", "top-5"),
    Metric("balanced_accuracy", "balanced accuracy", brief=False),
)
# A table has all classes where there are no more than so many, and else so many of the worst.
_LISTED, _WORST = 20, 10


@dataclass(frozen=True)
class Outcomes:
    """The label and the likeliest class of every example that was evaluated.

    Attributes:
      labels: int64 [n], in [0, K).
      predictions: int64 [n], likewise.
      class_names: K names; where the model tells more classes apart than the data has, its numbers stand for names.
    """

    labels: np.ndarray
    predictions: np.ndarray
    class_names: tuple[str, ...]

    @property
    def counts(self) -> np.ndarray:
        """How many examples each class has, int64 [K]."""
        return np.bincount(self.labels, minlength=len(self.class_names))

    @property
    def correct(self) -> np.ndarray:
        """How many of each class were recognised, int64 [K]."""
        return np.bincount(self.labels[self.labels == self.predictions], minlength=len(self.class_names))

    @property
    def accuracies(self) -> np.ndarray:
        """The share of each class's examples that were recognised, its recall: float64 [K], NaN of a class without."""
        return np.divide(self.correct, self.counts, out=np.full(len(self.counts), np.nan), where=self.counts > 0)

    @property
    def balanced_accuracy(self) -> float:
        """The mean of the classes' accuracies, over those that have examples: a class counts as much as any other."""
        return float(np.nanmean(self.accuracies)) if len(self.labels) else float("nan")

    def confusion_matrix(self) -> np.ndarray:
        """How many examples of class i were taken for class j: int64 [K, K]."""
        classes = len(self.class_names)
        return np.bincount(self.labels * classes + self.predictions, minlength=classes**2).reshape(classes, classes)

    def taken_for(self, label: int) -> tuple[int, int] | None:
        """The class that another is most often taken for wrongly, and how often; None where it never is."""
        wrong = np.bincount(self.predictions[(self.labels == label) & (self.predictions != label)])
        return (int(wrong.argmax()), int(wrong.max())) if wrong.size else None


def class_names(names: Sequence[str] | None, classes: int) -> tuple[str, ...]:
    """The names of `classes` classes: those that there are, then the classes' numbers."""
    names = tuple(names or ())
    return (*names, *map(str, range(len(names), classes)))


def format_table(outcomes: Outcomes, kind: str) -> str:
    """A table for the terminal: examples of a `Source.kind`, accuracy and the commonest mistake, class by class."""
    shown = np.flatnonzero(outcomes.counts)
    head = "class"
    if len(shown) > _LISTED:
        shown = shown[np.argsort(outcomes.accuracies[shown], kind="stable")][:_WORST]
        head = f"worst {len(shown)} classes"
    table = Table(box=None, header_style="none", padding=(0, 0, 0, 2), pad_edge=True)
    table.add_column(head, overflow="fold")
    table.add_column(f"{kind}s", justify="right", no_wrap=True)
    table.add_column("accuracy", justify="right", no_wrap=True)
    table.add_column("most often taken for", overflow="fold")
    for label in shown:
        mistake = outcomes.taken_for(label)
        taken_for = shortened(outcomes.class_names[mistake[0]]).append(f" ({mistake[1]})") if mistake else ""
        accuracy = f"{100 * outcomes.accuracies[label]:.1f} %"
        table.add_row(shortened(outcomes.class_names[label]), str(outcomes.counts[label]), accuracy, taken_for)
    return as_text(table)


def class_table(outcomes: Outcomes) -> str:
    """CSV: class, examples, correct, accuracy (empty where there are no examples), precision (where none was taken)."""
    predicted = np.bincount(outcomes.predictions, minlength=len(outcomes.class_names))
    rows = [("class", "examples", "correct", "accuracy", "precision")]
    columns = (outcomes.class_names, outcomes.counts, outcomes.correct, predicted)
    for name, count, correct, taken in zip(*columns, strict=True):
        rows.append((name, count, correct, *(f"{correct / n:.6g}" if n else "" for n in (count, taken))))
    return csv_table(rows)


def confusion_table(outcomes: Outcomes) -> str:
    """CSV: a row for each true class, a column for each that it was taken for."""
    matrix = outcomes.confusion_matrix().tolist()
    rows = [("true class", *outcomes.class_names)]
    return csv_table(rows + [(name, *row) for name, row in zip(outcomes.class_names, matrix, strict=True)])
