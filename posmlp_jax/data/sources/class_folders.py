"""Folders of class folders: DIR/train/CLASS/FILES and DIR/val/CLASS/FILES, or DIR/CLASS/FILES."""

import dataclasses
import hashlib
import itertools
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from etils import epath

from posmlp_jax.errors import DataError
from posmlp_jax.paths import dangling_links, in_bucket, list_folder, relative_name

# What is prepared lies on this machine; what is trained on may be in a bucket.
AnyPath = Path | epath.Path

_EVAL_FOLDERS = ("val", "validation", "test")
# Names that leave the choice to us where they are not there: configs made for other data sets have them.
_ANY_EVAL_FOLDER = ("", *_EVAL_FOLDERS)


@dataclasses.dataclass(frozen=True)
class Kind:
    """What lies in the class folders.

    Attributes:
      noun: in messages, 'images'.
      suffixes: of the files' names, in lower case; other files are passed over.
      layout: where the files are expected, for messages.
    """

    noun: str
    suffixes: tuple[str, ...]
    layout: str


IMAGES = Kind(
    "images",
    (".jpg", ".jpeg", ".png", ".webp"),
    "DIR/train/CLASS/*.jpg and DIR/val/CLASS/*.jpg, or DIR/CLASS/*.jpg with --config.data.holdout=0.1",
)
VIDEOS = Kind(
    "videos",
    (".mp4", ".webm", ".avi", ".mkv", ".mov"),
    "DIR/train/CLASS/*.mp4 and DIR/val/CLASS/*.mp4, or DIR/CLASS/*.mp4",
)


def find_train_folder(root: AnyPath, kind: Kind, name: str = "") -> AnyPath:
    """The folder with the classes to train on: root/name, root/train, or root itself."""
    if name not in ("", "train") and not (root / name).is_dir():
        raise DataError(f"no folder {root / name} (train_split is '{name}'): {kind.noun} are expected in {kind.layout}")
    folder = root / (name or "train")
    return folder if folder.is_dir() else root


def find_eval_folder(root: AnyPath, name: str = "") -> AnyPath | None:
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


def list_classes(folder: AnyPath, kind: Kind) -> tuple[tuple[str, ...], list[list[AnyPath]]]:
    """The classes of a folder in sorted order, and each one's files in sorted order."""
    classes = _folders(folder)
    if not classes:
        raise DataError(f"no class folders in {folder}: {kind.noun} are expected in {kind.layout}")
    files = [_files(path, kind) for path in classes]
    empty = [path.name for path, found in zip(classes, files, strict=True) if not found]
    if empty:
        suffixes = ", ".join(kind.suffixes)
        raise DataError(
            f"class '{empty[0]}' has no {kind.noun} ({suffixes}) in {folder}: add some or delete the folder"
            f"{links_left_out(folder, kind)}"
        )
    return tuple(path.name for path in classes), files


def list_known_classes(folder: AnyPath, kind: Kind, class_names: Sequence[str]) -> list[list[AnyPath]]:
    """The files of an evaluation folder, in the order of the training classes, each of which may be absent."""
    unknown = sorted({path.name for path in _folders(folder)} - set(class_names))
    if unknown:
        raise DataError(
            f"class '{unknown[0]}' of {folder} is not among the {len(class_names)} training classes: "
            f"add it to the training folder or delete it"
        )
    files = [_files(folder / name, kind) for name in class_names]
    if not any(files):
        suffixes = ", ".join(kind.suffixes)
        raise DataError(
            f"no {kind.noun} in {folder}: expected {folder}/CLASS/*{kind.suffixes[0]} ({suffixes})"
            f"{links_left_out(folder, kind)}"
        )
    return files


def hold_out(
    root: AnyPath, files: Sequence[Sequence[AnyPath]], share: float
) -> tuple[list[list[AnyPath]], list[list[AnyPath]]]:
    """Divides the files of each class into those that are kept and those that are held out, each in sorted order.

    Which are held out depends on their paths relative to `root` alone: those with the smallest hashes. Every class
    keeps at least one.
    """
    held_out = [_held_out(root, paths, share) for paths in files]
    kept = [sorted(set(paths) - set(held)) for paths, held in zip(files, held_out, strict=True)]
    return kept, held_out


def enough_to_hold_out(share: float) -> int:
    """How many files a class needs, at least, for `hold_out` to hold one of them out."""
    return next(count for count in itertools.count(max(2, int(0.5 / share))) if round(share * count) >= 1)


def links_left_out(folder: AnyPath, kind: Kind) -> str:
    """In words, for the end of a line, the links in the class folders of `folder` that lead nowhere; '' without any.

    A class folder may be such a link itself.
    """
    names = [name for name in dangling_links(folder) if name[0] != "."]
    for path in _folders(folder):
        images = [name for name in dangling_links(path) if name.lower().endswith(kind.suffixes) and name[0] != "."]
        names += [f"{path.name}/{name}" for name in images]
    if not names:
        return ""
    count = "a link that leads" if len(names) == 1 else f"{len(names)} links that lead"
    listed = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    return f"; {count} nowhere left out: {listed}"


def warn_of_links(folders: Iterable[AnyPath | None], kind: Kind) -> None:
    """Logs those of each folder, if there are any."""
    for folder in folders:
        if folder is not None and (left_out := links_left_out(folder, kind)):
            logging.warning("%s%s", folder, left_out)


def _folders(folder: AnyPath) -> list[AnyPath]:
    if not folder.is_dir():
        return []
    names, _ = list_folder(folder)
    return [folder / name for name in names if not name.startswith(".")]


def _files(folder: AnyPath, kind: Kind) -> list[AnyPath]:
    if not folder.is_dir():
        return []
    _, names = list_folder(folder)
    # Millions of paths are made faster by pathlib.
    folder = folder if in_bucket(folder) else Path(folder)
    return [folder / name for name in names if name.lower().endswith(kind.suffixes) and name[0] != "."]


def _held_out(root: AnyPath, files: Sequence[AnyPath], share: float) -> list[AnyPath]:
    by_hash = sorted(files, key=lambda path: hashlib.sha256(relative_name(path, root).encode()).digest())
    return sorted(by_hash[: min(round(share * len(files)), len(files) - 1)])
