"""What a model says of clips, as it is kept of each fold and put together in the end: a CSV table, a row for each clip.

Its columns: the subject, the clip, its class, the class that it was taken for, then the score of each class, as many
digits of it as tell float32 numbers apart.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from posmlp_jax.data.sources.clip_index import ClipInfo
from posmlp_jax.errors import CheckpointError
from posmlp_jax.tasks.classification.outcomes import Outcomes
from posmlp_jax.tasks.micro_expressions.scoring import PooledScores, score_predictions
from posmlp_jax.tasks.reporting import csv_table

_COLUMNS = ("subject", "clip", "label", "prediction")


@dataclass(frozen=True)
class Predictions:
    """What a model says of some clips.

    Attributes:
      subjects: who each clip shows, as 'casme2/sub01'.
      clips: each one's name, as 'casme2/sub01/EP02_01f'.
      labels: each one's class, int64 [n].
      predictions: the class that it was taken for, int64 [n].
      scores: of each class, float32 [n, K].
      class_names: K names.
    """

    subjects: tuple[str, ...]
    clips: tuple[str, ...]
    labels: np.ndarray
    predictions: np.ndarray
    scores: np.ndarray
    class_names: tuple[str, ...]

    @property
    def datasets(self) -> tuple[str, ...]:
        """Which data set each clip is of, as 'casme2'."""
        return tuple(subject.partition("/")[0] for subject in self.subjects)

    @property
    def outcomes(self) -> Outcomes:
        """The labels and what clips were taken for, as they are counted class by class."""
        return Outcomes(self.labels, self.predictions, self.class_names)

    def judged(self) -> PooledScores:
        """How good they are, all of them together."""
        return score_predictions(self.labels, self.predictions, len(self.class_names))

    def of_dataset(self, name: str) -> "Predictions":
        """Those of one data set's clips."""
        indices = np.flatnonzero([dataset == name for dataset in self.datasets])
        subjects, clips = (tuple(each[index] for index in indices) for each in (self.subjects, self.clips))
        arrays = (each[indices] for each in (self.labels, self.predictions, self.scores))
        return Predictions(subjects, clips, *arrays, self.class_names)

    def table(self) -> str:
        """The CSV table."""
        rows = [(*_COLUMNS, *self.class_names)]
        for subject, clip, label, prediction, scores in zip(
            self.subjects, self.clips, self.labels, self.predictions, self.scores, strict=True
        ):
            classes = self.class_names[label], self.class_names[prediction]
            rows.append((subject, clip, *classes, *map(str, scores.astype(np.float32))))
        return csv_table(rows)


def read_table(text: str, name: str) -> Predictions:
    """Predictions from their CSV table.

    Args:
      text: of one or more clips.
      name: the file's, for the message.

    Raises:
      CheckpointError: if it is damaged.
    """
    try:
        head, *rows = csv.reader(io.StringIO(text))
        if tuple(head[: len(_COLUMNS)]) != _COLUMNS or not rows or any(len(row) != len(head) for row in rows):
            raise ValueError
        class_names = tuple(head[len(_COLUMNS) :])
        subjects, clips, labels, predictions, *scores = zip(*rows, strict=True)
        numbers = {class_name: number for number, class_name in enumerate(class_names)}
        classes = [np.array([numbers[each] for each in column], np.int64) for column in (labels, predictions)]
        return Predictions(subjects, clips, *classes, np.array(scores, np.float32).T, class_names)
    except (ValueError, KeyError, csv.Error):
        raise CheckpointError(
            f"{name} is damaged: it should be a table of predictions, a row for each clip; delete it, and its fold is "
            "trained again"
        ) from None


def check_clips(tables: Mapping[str, Predictions], clips: Sequence[ClipInfo]) -> None:
    """Makes sure that predictions are of these clips, each once.

    Args:
      tables: the predictions, by the names of their files.
      clips: all that the data set has.

    Raises:
      CheckpointError: if there is another clip, or one more or less.
    """
    left = {clip.id: clip for clip in clips}
    for name, found in tables.items():
        for clip, subject, label in zip(found.clips, found.subjects, found.labels, strict=True):
            one = left.pop(clip, None)
            if one is None or (one.subject, one.label) != (subject, label):
                raise CheckpointError(
                    f"{name} has the clip {clip} as {found.class_names[label]}, and the data have no such clip, or no "
                    "second one: delete that file, and its fold is trained again"
                )
    if left:
        first = next(iter(left.values()))
        raise CheckpointError(
            f"the predictions of the folds lack {first.id}, and {len(left) - 1} other clips of the data: delete those "
            f"without {first.subject}, and that fold is trained again"
        )


def joined(parts: Sequence[Predictions]) -> Predictions:
    """The predictions of several folds as those of one model."""
    first = parts[0]
    subjects, clips = (tuple(each for part in parts for each in getattr(part, of)) for of in ("subjects", "clips"))
    arrays = (np.concatenate([getattr(part, of) for part in parts]) for of in ("labels", "predictions", "scores"))
    return Predictions(subjects, clips, *arrays, first.class_names)
