"""The same part of each class, for experiments with less data."""

import hashlib
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from posmlp_jax.data.sources.labelled import LabelledSource
from posmlp_jax.errors import ConfigError


class Subset(LabelledSource):
    """Some images of a source.

    Args:
      source: the images.
      indices: which, int [n]; image i of the subset is image indices[i] of the source.
      description: one line, what the subset is.
    """

    def __init__(self, source: LabelledSource, indices: np.ndarray, description: str):
        self._source, self._indices = source, indices
        self.kind, self.num_classes, self.class_names = source.kind, source.num_classes, source.class_names
        self.description, self.generated = description, source.generated

    def __len__(self) -> int:
        """The number of images."""
        return len(self._indices)

    def read(self, index: int) -> tuple[Any, int]:
        """The image and its label, as the source has them."""
        return self._source.read(int(self._indices[index]))

    def read_labels(self) -> np.ndarray:
        """Those of the source, which has read them all before."""
        return self._source.read_labels()[self._indices]

    def identity(self) -> Iterator[str]:
        """That of the source; the number of images tells of which share it is."""
        return self._source.identity()

    def example_id(self, index: int) -> str:
        """The name that the source has for it."""
        return self._source.example_id(int(self._indices[index]))


def stratified_subset(source: LabelledSource, fraction: float) -> LabelledSource:
    """The share `fraction` of each class: the paper's ImageNet-1k^0.5 (Figure 1(f)) is 0.5.

    Which images these are depends on their places in the source alone, never on a seed; a smaller share is a part of
    every larger one. Each class has `fraction` of its images, rounded, and at least one.

    Args:
      source: the images. All labels are read (`LabelledSource.read_labels`).
      fraction: in (0, 1]; 1 is `source` itself.

    Raises:
      ConfigError: when `fraction` is outside (0, 1].
    """
    if not 0 < fraction <= 1:
        raise ConfigError(f"data.train_fraction must be a share in (0, 1], not {fraction}")
    if fraction == 1:
        return source
    start = time.perf_counter()
    labels = source.read_labels()
    seconds = time.perf_counter() - start
    # NumPy does not promise that its generators draw the same in later versions; this hash does.
    ranks = np.argsort([hashlib.sha256(b"%d" % index).digest() for index in range(len(source))], kind="stable")
    by_class = ranks[np.argsort(labels[ranks], kind="stable")]
    counts = np.bincount(labels)
    classes = np.split(by_class, np.cumsum(counts))
    kept = [members[: max(1, round(fraction * len(members)))] for members in classes]
    indices = np.sort(np.concatenate(kept))
    return Subset(
        source,
        indices,
        f"{len(indices)} images, a share of {fraction:g} of each class, of {source.description} "
        f"(labels read in {seconds:.0f} s)",
    )
