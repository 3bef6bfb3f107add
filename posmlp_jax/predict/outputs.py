"""What the command makes of all predictions together, besides the lines of its own: files that are asked for."""

import json
from collections.abc import Sequence
from typing import Protocol

from posmlp_jax.checkpoints.pretrained import Pretrained
from posmlp_jax.errors import ConfigError
from posmlp_jax.figures import check_figure_path, save_figure
from posmlp_jax.paths import as_path
from posmlp_jax.predict.drawn import names_below
from posmlp_jax.predict.loading import takes
from posmlp_jax.predict.picture import MOST_FILES, draw_predictions
from posmlp_jax.tasks.predictor import Annotations, FilePrediction
from posmlp_jax.writing import check_result, write_result


class Output(Protocol):
    """Files that are made of predictions. What cannot be written shows before there are any.

    Attributes:
      failed: how many of the files that were read once could not be read again.
    """

    failed: int

    def add(self, prediction: FilePrediction) -> None:
        """Takes what is said of a file that could be read."""

    def finish(self) -> list[str]:
        """Writes what is not yet written; lines that say what was, and what could not be."""

    def close(self) -> None:
        """Ends what is under way, without writing any more."""


class GridPicture:
    """One picture of the first files (`draw_predictions`).

    Args:
      path: where it goes.
      pretrained: what makes the predictions.
      crops: as `predict` is told.
      files: the names of all files, none of which it may replace.
    """

    def __init__(self, path: str, pretrained: Pretrained, crops: int | None, files: Sequence[str]):
        check_figure_path(path, files)
        self.failed = 0
        self._path, self._pretrained, self._crops = path, pretrained, crops
        self._shown, self._count = [], 0

    def add(self, prediction: FilePrediction) -> None:
        """Keeps the first ones."""
        self._count += 1
        if len(self._shown) < MOST_FILES:
            self._shown.append(prediction)

    def finish(self) -> list[str]:
        """Draws and writes it, unless no file could be read."""
        if not self._shown:
            return []
        figure, lines = draw_predictions(self._pretrained, self._shown, crops=self._crops), []
        save_figure(figure, self._path, lines.append)
        if len(figure.axes) < self._count:
            lines.append(f"it shows the first {len(figure.axes)} of {self._count} {takes(self._pretrained).noun}")
        return lines

    def close(self) -> None:
        """Nothing is under way."""


class CocoFile:
    """All that was found as one JSON file.

    Args:
      path: where it goes. Nothing may be there: it may well be the annotations that people have made.
      annotations: what collects the predictions.
      files: the names of all files, which are called by what follows the folder that they share.
    """

    def __init__(self, path: str, annotations: Annotations, files: Sequence[str]):
        file = as_path(path)
        if file.suffix.lower() != ".json":
            raise ConfigError(f"cannot write {path} as JSON; the ending should be .json")
        if file.exists() or file.is_dir():
            raise ConfigError(f"{path} is there already; choose another --coco, or delete it")
        check_result(path)
        self.failed = 0
        self._path, self._annotations = path, annotations
        self._names = dict(zip(files, names_below(files), strict=True))

    def add(self, prediction: FilePrediction) -> None:
        """Adds an image and its objects."""
        self._annotations.add(prediction, self._names[prediction.file])

    def finish(self) -> list[str]:
        """Writes it, also when no file could be read."""
        found = self._annotations.to_json()
        write_result(self._path, json.dumps(found) + "\n")
        return [f"wrote {self._path} (images: {len(found['images'])}, objects: {len(found['annotations'])})"]

    def close(self) -> None:
        """Nothing is under way."""
