"""Sources of which every example belongs to one class: what classification trains on."""

from typing import Any

import numpy as np
from tqdm import tqdm

from posmlp_jax.data.sources.source import Source
from posmlp_jax.errors import DataError

# Of how many encoded images or videos all labels are read for the sake of a line.
_QUICK = {"image": 20_000, "video": 2_000}


class LabelledSource(Source):
    """Images or videos whose target is a label, the number of their class.

    Attributes:
      num_classes: labels are in [0, num_classes).
      class_names: their names in the order of the labels, or None where the data set has none.
    """

    num_classes: int
    class_names: tuple[str, ...] | None

    def read_labels(self) -> np.ndarray:
        """All labels, int64 [n], without decoding anything; a bar on stderr where that takes more than a second.

        Raises:
          DataError: when a label is outside [0, num_classes).
        """
        labels = np.empty(len(self), np.int64)
        with tqdm(total=len(self), desc="reading labels", unit=" labels", unit_scale=True, delay=1) as bar:
            for start in range(0, len(self), 256):
                indices = range(start, min(start + 256, len(self)))
                labels[start : indices.stop] = self._read_labels(indices)
                bar.update(len(indices))
        for index in np.flatnonzero((labels < 0) | (labels >= self.num_classes))[:1]:
            self._check_label(int(index), int(labels[index]))
        return labels

    def class_counts(self) -> np.ndarray | None:
        """How many examples each class has, int64 [num_classes]; None where much would have to be read to know."""
        quick = _QUICK[self.kind] >= len(self)
        return np.bincount(self.read_labels(), minlength=self.num_classes) if quick else None

    def __getitem__(self, index: int) -> tuple[Any, int]:
        """As `Source`'s. Raises a DataError when the label is outside [0, num_classes)."""
        encoded, label = super().__getitem__(index)
        self._check_label(index, label)
        return encoded, label

    def _read_labels(self, indices: range) -> list[int]:
        """The labels of some images; a source overrides this where it can do without reading the images."""
        return [self.read(index)[1] for index in indices]

    def _check_label(self, index: int, label: int) -> None:
        if not 0 <= label < self.num_classes:
            raise DataError(
                f"label {label} of {self.example_id(index)} is outside [0, {self.num_classes}) ({self.description})"
            )
