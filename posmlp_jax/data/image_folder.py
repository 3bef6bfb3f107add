"""Anyone's own images: one folder per class, and a held-out part for evaluation."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from posmlp_jax.data.source import Source
from posmlp_jax.errors import ConfigError, DataError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
_LAYOUT = "DIR/train/CLASS/*.jpg and DIR/val/CLASS/*.jpg, or DIR/CLASS/*.jpg with --config.data.holdout=0.1"
_EVAL_FOLDERS = ("val", "validation", "test")
# Names that leave the choice to us where they are not there: configs made for other data sets have them.
_ANY_EVAL_FOLDER = ("", *_EVAL_FOLDERS)


class ImageFolderSource(Source):
    """Images in `directory/{train,val or test}/CLASS/`, or in `directory/CLASS/` with a held-out share.

    The classes are the sub-folders of the training folder in sorted order. Hidden files and folders are ignored.

    Args:
      directory: the folder.
      split: the images to train on, or those to evaluate with.
      train_folder: the training folder's name; '' is train/, or the directory itself when that does not exist.
      eval_folder: the evaluation folder's name; '', 'val', 'validation' and 'test' are each the folder of that name or
        else the first of val/, validation/ and test/.
      holdout: without an evaluation folder, the share of each class that is held out. Which images these are depends
        on their paths alone; every class keeps at least one for training.

    Raises:
      ConfigError: when `holdout` is outside [0, 1), or given although there is an evaluation folder.
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
        root = Path(directory).expanduser().resolve()
        if not 0 <= holdout < 1:
            raise ConfigError(f"holdout must be a share in [0, 1), not {holdout}")
        if not root.is_dir():
            raise DataError(f"no folder {root}: images are expected in {_LAYOUT}")
        train = find_train_folder(root, train_folder)
        evaluation = find_eval_folder(root, eval_folder)
        if evaluation == train:
            raise ConfigError(f"{train} cannot be both the training and the evaluation folder")
        if evaluation is not None and train == root:
            raise DataError(f"{root} has {evaluation.name}/ but no train/: images are expected in {_LAYOUT}")
        if evaluation is not None and holdout > 0:
            raise ConfigError(f"holdout is {holdout}, but {evaluation} has the evaluation images: set holdout to 0")
        if evaluation is None and holdout == 0:
            raise DataError(
                f"{root} has no evaluation images: add val/, or hold some out with --config.data.holdout=0.1"
            )
        self._root = root
        self.class_names, files = list_classes(train)
        # Both parts are found whichever is wanted, so that a mistake in the other shows before training, not after.
        if evaluation is None:
            held_out = [_held_out(root, paths, holdout) for paths in files]
            files = [sorted(set(paths) - set(held)) for paths, held in zip(files, held_out, strict=True)]
            if not any(held_out):
                raise DataError(f"holdout {holdout} holds out no image of {train}: its classes are too small")
        else:
            held_out = list_known_classes(evaluation, self.class_names)
        if split == "eval":
            files = held_out
        self._files = [str(path.relative_to(root)) for paths in files for path in paths]
        self._labels = np.repeat(np.arange(len(files), dtype=np.int32), [len(paths) for paths in files])
        self.num_classes = len(self.class_names)
        where = evaluation if evaluation is not None and split == "eval" else train
        self.description = f"{len(self._files)} images of {self.num_classes} classes in {where}"

    def __len__(self) -> int:
        """The number of images."""
        return len(self._files)

    def read(self, index: int) -> tuple[bytes, int]:
        """The file's bytes, and its label."""
        try:
            return (self._root / self._files[index]).read_bytes(), int(self._labels[index])
        except OSError as error:
            raise DataError(f"cannot read {self.example_id(index)}: {error.strerror}") from error

    def _read_labels(self, indices: range) -> np.ndarray:
        return self._labels[indices.start : indices.stop]

    def example_id(self, index: int) -> str:
        """The file's path."""
        return str(self._root / self._files[index])


def find_train_folder(root: Path, name: str = "") -> Path:
    """The folder with the classes to train on: root/name, root/train, or root itself."""
    if name not in ("", "train") and not (root / name).is_dir():
        raise DataError(f"no folder {root / name} (train_split is '{name}'): images are expected in {_LAYOUT}")
    folder = root / (name or "train")
    return folder if folder.is_dir() else root


def find_eval_folder(root: Path, name: str = "") -> Path | None:
    """The folder with the classes to evaluate with, or None: root/name, else the first of val, validation and test."""
    if name not in _ANY_EVAL_FOLDER:
        if not (root / name).is_dir():
            there = [candidate for candidate in _EVAL_FOLDERS if (root / candidate).is_dir()]
            hint = f"--config.data.eval_split={there[0]}" if there else "--config.data.eval_split=''"
            raise DataError(f"no folder {root / name}: set {hint}")
        return root / name
    # A class may be called 'test': only a folder of class folders is an evaluation folder.
    candidates = [name, *_EVAL_FOLDERS] if name else _EVAL_FOLDERS
    return next((root / candidate for candidate in candidates if _folders(root / candidate)), None)


def list_classes(folder: Path) -> tuple[tuple[str, ...], list[list[Path]]]:
    """The classes of a folder in sorted order, and each one's images in sorted order."""
    classes = _folders(folder)
    if not classes:
        raise DataError(f"no class folders in {folder}: images are expected in {_LAYOUT}")
    files = [_images(path) for path in classes]
    empty = [path.name for path, images in zip(classes, files, strict=True) if not images]
    if empty:
        raise DataError(
            f"class '{empty[0]}' has no images ({', '.join(SUFFIXES)}) in {folder}: add some or delete the folder"
        )
    return tuple(path.name for path in classes), files


def list_known_classes(folder: Path, class_names: Sequence[str]) -> list[list[Path]]:
    """The images of an evaluation folder, in the order of the training classes, each of which may be absent."""
    unknown = sorted({path.name for path in _folders(folder)} - set(class_names))
    if unknown:
        raise DataError(
            f"class '{unknown[0]}' of {folder} is not among the {len(class_names)} training classes: "
            f"add it to the training folder or delete it"
        )
    files = [_images(folder / name) for name in class_names]
    if not any(files):
        raise DataError(f"no images in {folder}: expected {folder}/CLASS/*.jpg ({', '.join(SUFFIXES)})")
    return files


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())
    return [folder / name for name in names]


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_file()]
    return [folder / name for name in sorted(names) if name.lower().endswith(SUFFIXES) and not name.startswith(".")]


def _held_out(root: Path, files: list[Path], share: float) -> list[Path]:
    """The share of one class whose paths, relative to `root`, have the smallest hashes."""
    by_hash = sorted(files, key=lambda path: hashlib.sha256(path.relative_to(root).as_posix().encode()).digest())
    return sorted(by_hash[: min(round(share * len(files)), len(files) - 1)])
