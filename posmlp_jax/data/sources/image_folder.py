"""Anyone's own images: one folder per class, and a held-out part for evaluation."""

import os
from collections.abc import Iterator
from typing import Literal

import numpy as np

from posmlp_jax.data.sources.class_folders import (
    IMAGES,
    enough_to_hold_out,
    find_eval_folder,
    find_train_folder,
    hold_out,
    links_left_out,
    list_classes,
    list_known_classes,
)
from posmlp_jax.data.sources.labelled import LabelledSource
from posmlp_jax.errors import ConfigError, DataError, refusal
from posmlp_jax.paths import as_path, file_size, in_bucket, relative_name

# Of how many files the sizes are looked at: on a network, one takes a fraction of a millisecond.
_SIZED = 20_000


class ImageFolderSource(LabelledSource):
    """Images in `directory/{train,val or test}/CLASS/`, or in `directory/CLASS/` with a held-out share.

    The classes are the sub-folders of the training folder in sorted order. Hidden files and folders are ignored.

    Args:
      directory: the folder, on this machine or in a bucket.
      split: the images to train on, or those to evaluate with.
      train_folder: the training folder's name; '' is train/, or the directory itself when that does not exist.
      eval_folder: the evaluation folder's name; '', 'val', 'validation' and 'test' are each the folder of that name or
        else the first of val/, validation/ and test/.
      holdout: without an evaluation folder, the share of each class that is held out. Which images these are depends
        on their paths alone; every class keeps at least one for training.

    Raises:
      ConfigError: when `holdout` is outside [0, 1).
      DataError: when there is no such folder, no class, a class without images, or a class for evaluation that is not
        there for training.
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        split: Literal["train", "eval"],
        *,
        train_folder: str = "",
        eval_folder: str = "",
        holdout: float = 0.0,
    ):
        root = as_path(directory)
        if not 0 <= holdout < 1:
            raise ConfigError(f"holdout must be a share in [0, 1), not {holdout}")
        if not root.is_dir():
            raise DataError(f"no folder {root}: images are expected in {IMAGES.layout}")
        train = find_train_folder(root, IMAGES, train_folder)
        evaluation = find_eval_folder(root, eval_folder)
        if evaluation == train:
            raise ConfigError(f"{train} cannot be both the training and the evaluation folder")
        if evaluation is not None and train == root:
            raise DataError(f"{root} has {evaluation.name}/ but no train/: images are expected in {IMAGES.layout}")
        if evaluation is None and holdout == 0:
            raise DataError(
                f"{root} has no evaluation images: add val/, or hold some out with --config.data.holdout=0.1"
            )
        self._root = root
        self.class_names, files = list_classes(train, IMAGES)
        # Both parts are found whichever is wanted, so that a mistake in the other shows before training, not after.
        if evaluation is None:
            files, held_out = hold_out(root, files, holdout)
            if not any(held_out):
                raise DataError(
                    f"holdout {holdout} holds out no image of {train}: its classes are too small, of which the largest "
                    f"has {max(map(len, files))}; {enough_to_hold_out(holdout)} images would do, or a larger share"
                )
        else:
            held_out = list_known_classes(evaluation, IMAGES, self.class_names)
        if split == "eval":
            files = held_out
        self._files = [relative_name(path, root) for paths in files for path in paths]
        self._labels = np.repeat(np.arange(len(files), dtype=np.int32), [len(paths) for paths in files])
        self.num_classes = len(self.class_names)
        where = evaluation if evaluation is not None and split == "eval" else train
        left_out = links_left_out(where, IMAGES)
        self.description = f"{len(self._files)} images of {self.num_classes} classes in {where}{left_out}"

    def __len__(self) -> int:
        """The number of images."""
        return len(self._files)

    def read(self, index: int) -> tuple[bytes, int]:
        """The file's bytes, and its label."""
        try:
            return (self._root / self._files[index]).read_bytes(), int(self._labels[index])
        except Exception as error:
            if (reason := refusal(error)) is None:
                raise
            raise DataError(f"cannot read {self.example_id(index)}: {reason}") from error

    def identity(self) -> Iterator[str]:
        """The files' names, and their sizes where they are not too many to be looked at."""
        sized = len(self) <= _SIZED and not in_bucket(self._root)
        for name in self._files:
            yield f"{name} {file_size(self._root / name)}" if sized else name

    def class_counts(self) -> np.ndarray:
        """How many images each class has; the files' places say it."""
        return np.bincount(self._labels, minlength=self.num_classes)

    def _read_labels(self, indices: range) -> np.ndarray:
        return self._labels[indices.start : indices.stop]

    def example_id(self, index: int) -> str:
        """The file's path."""
        return str(self._root / self._files[index])
