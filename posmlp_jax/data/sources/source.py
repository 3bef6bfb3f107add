"""What every data set looks like from here on: random access to images or videos that are still encoded."""

import abc
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np


class Source(abc.ABC):
    """Images or videos with what is to be told from them, by index. Sources can be pickled, for loading processes.

    An example is `(encoded, target)`. Encoded, an image is bytes (JPEG, PNG, …) or a uint8 array [H, W, 3], a video an
    `EncodedVideo` or, of a film, a `Moment`. What the target is, the `Targets` know that put it into batches: of a
    `LabelledSource` it is a label, of files of which nothing is known None.

    Attributes:
      kind: which of the two.
      description: one line, what the examples are and where they lie.
      generated: whether they are made up; what they show then has neither left nor right.
      sizes: (height, width) of each image, or of each video's frames, as it is seen upright, int64 [n, 2], where
        that is known without reading any; else None.
    """

    kind: Literal["image", "video"] = "image"
    generated: bool = False
    sizes: np.ndarray | None = None
    description: str

    @abc.abstractmethod
    def __len__(self) -> int:
        """The number of images or videos."""

    @abc.abstractmethod
    def read(self, index: int) -> tuple[Any, Any]:
        """One image or video, and its target as the data set has it, unchecked."""

    @abc.abstractmethod
    def example_id(self, index: int) -> str:
        """A name by which a person can find the image or video: its file, or its split and index."""

    def identity(self) -> Iterator[str]:
        """Texts that are others where the data are, and cheap to make (`fingerprint`): none where nothing is."""
        yield from ()

    def to_check(self) -> Sequence[int]:
        """The examples that can all be decoded if the data set can: all, where it does not know of files they share."""
        return range(len(self))

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """One example, `(encoded, target)`.

        Raises:
          IndexError: when `index` is outside [0, len).
          DataError: when it cannot be read, or the target cannot be.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} is outside [0, {len(self)})")
        return self.read(index)
