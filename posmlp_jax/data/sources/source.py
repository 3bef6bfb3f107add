"""What every data set looks like from here on: random access to labelled images or videos that are still encoded."""

import abc
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from posmlp_jax.errors import DataError

# Of how many encoded images or videos all labels are read for the sake of a line.
_QUICK = {"image": 20_000, "video": 2_000}


class Source(abc.ABC):
    """Labelled images or videos, by index. Sources can be pickled, so that loading processes can be given one.

    Attributes:
      kind: which of the two.
      num_classes: labels are in [0, num_classes).
      class_names: their names in the order of the labels, or None where the data set has none.
      description: one line, what the images are and where they lie.
      generated: whether they are made up; their classes then show nothing that has a left and a right.
    """

    kind: Literal["image", "video"] = "image"
    generated: bool = False
    num_classes: int
    class_names: tuple[str, ...] | None
    description: str

    @abc.abstractmethod
    def __len__(self) -> int:
        """The number of images or videos."""

    @abc.abstractmethod
    def read(self, index: int) -> tuple[Any, int]:
        """One image or video, and its label as the data set has it, unchecked.

        An image is encoded bytes or a uint8 array [H, W, 3], a video an `EncodedVideo`.
        """

    @abc.abstractmethod
    def example_id(self, index: int) -> str:
        """A name by which a person can find the image or video: its file, or its split and index."""

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

    def identity(self) -> Iterator[str]:
        """Texts that are others where the data are, and cheap to make (`fingerprint`): none where nothing is."""
        yield from ()

    def class_counts(self) -> np.ndarray | None:
        """How many examples each class has, int64 [num_classes]; None where much would have to be read to know."""
        quick = _QUICK[self.kind] >= len(self)
        return np.bincount(self.read_labels(), minlength=self.num_classes) if quick else None

    def _read_labels(self, indices: range) -> list[int]:
        """The labels of some images; a source overrides this where it can do without reading the images."""
        return [self.read(index)[1] for index in indices]

    def _check_label(self, index: int, label: int) -> None:
        if not 0 <= label < self.num_classes:
            raise DataError(
                f"label {label} of {self.example_id(index)} is outside [0, {self.num_classes}) ({self.description})"
            )

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One example.

        Returns:
          `{'image': bytes (JPEG, PNG, …) or uint8 [H, W, 3], 'label': int}`, or
          `{'video': EncodedVideo, 'label': int}`.

        Raises:
          IndexError: when `index` is outside [0, len).
          DataError: when the label is outside [0, num_classes).
        """
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} is outside [0, {len(self)})")
        encoded, label = self.read(index)
        self._check_label(index, label)
        return {self.kind: encoded, "label": label}
