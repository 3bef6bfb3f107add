"""What the video data sets share: finding the files that lists name, their features, and files made examples."""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posmlp_jax.data.decoding.frames import probe
from posmlp_jax.data.decoding.images import decode
from posmlp_jax.data.prepare.builder import Example, Recipe, count_by_class, cut
from posmlp_jax.data.sources.class_folders import VIDEOS
from posmlp_jax.errors import BrokenExampleError

PER_SHARD = 256


@dataclasses.dataclass(frozen=True)
class Clip:
    """A labelled video: its file, or the folder with its frames; its label; a name by which a person can find it."""

    path: Path
    label: int
    id: str


class VideoFiles:
    """The video files in a folder and in all folders below it.

    Args:
      root: the folder.
    """

    def __init__(self, root: Path):
        self._root = root
        self._paths: set[Path] = set()
        self._named: dict[str, list[Path]] = {}
        for folder, folders, files in os.walk(root, followlinks=True):
            folders.sort()
            for file in sorted(files):
                if file.lower().endswith(VIDEOS.suffixes):
                    path = Path(folder) / file
                    self._paths.add(path)
                    for name in {file, path.stem}:
                        self._named.setdefault(name, []).append(path)

    def find(self, text: str) -> Path:
        """The file that a list calls `text`.

        `text` is a path below the root, an absolute path, or the name of a file anywhere below the root, with or
        without its suffix. Of several files of the same name the first is taken, but none when `text` says a folder
        that they are not in. A file that is not there has a path all the same: reading it says so.
        """
        path = self._root / text
        if path in self._paths or os.path.isabs(text):
            return path
        found = self._named.get(text)
        return found[0] if found else path


def features(classes: Sequence[str] | int, *, frames: bool = False) -> Any:
    """The features of a video data set.

    Args:
      classes: their names, or how many there are.
      frames: whether a video is a sequence of image files, instead of one video file.
    """
    import tensorflow_datasets as tfds

    encoded = tfds.features.Tensor(shape=(), dtype=np.object_)
    named = {"num_classes": classes} if isinstance(classes, int) else {"names": list(classes)}
    return tfds.features.FeaturesDict(
        {
            "id": tfds.features.Text(),
            "video": tfds.features.Sequence(encoded) if frames else encoded,
            "num_frames": tfds.features.Scalar(dtype=np.int32),
            "fps": tfds.features.Scalar(dtype=np.float32),
            "label": tfds.features.ClassLabel(**named),
        }
    )


def clips_recipe(
    name: str,
    classes: Sequence[str] | int,
    splits: Mapping[str, Sequence[Clip]],
    description: str,
    *,
    homepage: str = "",
    frames_fps: float | None = None,
) -> Recipe:
    """The recipe of a data set whose videos lie on the disk.

    The order is a fixed permutation, so that 'train[:90%]' and 'train[90%:]' are random parts.

    Args:
      name: the data set's name.
      classes: the names of the classes, or how many there are.
      splits: the clips of every split.
      description: one paragraph.
      homepage: where the videos come from.
      frames_fps: when the clips are folders of JPEG frames, how many were taken a second.
    """
    digest, sizes = hashlib.sha256(repr(classes).encode()), hashlib.sha256()
    for split, clips in splits.items():
        digest.update("".join(f"{split} {clip.id} {clip.label}\n" for clip in clips).encode())
        if frames_fps is None:
            sizes.update("".join(f"{_size(clip.path)}\n" for clip in clips).encode())
    counts = count_by_class({split: [clip.label for clip in clips] for split, clips in splits.items()}, classes)
    per_shard = PER_SHARD

    def reader(clips: Sequence[Clip]) -> Callable[[int], Example]:
        return lambda index: _read(clips[index], frames_fps)

    return Recipe(
        name=name,
        version="1.0.0",
        features=features(classes, frames=frames_fps is not None),
        splits={
            split: cut(reader(clips), np.random.default_rng(0).permutation(len(clips)), per_shard)
            for split, clips in splits.items()
        },
        fingerprint={
            "sha256": digest.hexdigest(),
            "sizes": sizes.hexdigest(),
            "per_shard": per_shard,
            "counts": counts,
        },
        description=description,
        homepage=homepage,
        noun="videos",
    )


def _size(file: Path) -> int | None:
    """In bytes; None of a file that is missing, which is found out when it is read."""
    try:
        return file.stat().st_size
    except OSError:
        return None


def _read(clip: Clip, frames_fps: float | None) -> Example:
    try:
        example = _read_file(clip.path) if frames_fps is None else _read_frames(clip.path, frames_fps)
    except OSError as error:
        raise BrokenExampleError(f"{error.filename or clip.path}: {error.strerror or error}") from error
    except BrokenExampleError as error:
        raise BrokenExampleError(f"{clip.path}: {error}") from error
    return {**example, "id": clip.id, "label": clip.label}


def _read_file(path: Path) -> Example:
    data = path.read_bytes()
    info = probe(data)
    return {"video": data, "num_frames": info.num_frames, "fps": info.fps}


def _read_frames(folder: Path, fps: float) -> Example:
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg"))
    if not files:
        raise BrokenExampleError("the folder holds no JPEG")
    images = [file.read_bytes() for file in files]
    decode(images[0])
    return {"video": images, "num_frames": len(images), "fps": fps}
