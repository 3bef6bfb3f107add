"""What the data sets of micro-expressions share: from clips, each of a subject and with an emotion, to a recipe."""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from posmlp_jax.data.prepare.builder import Example, Recipe, cut
from posmlp_jax.data.prepare.videos import features
from posmlp_jax.data.sources.clip_index import INDEX, SPLIT, ClipInfo, index_file
from posmlp_jax.errors import BrokenExampleError, DataError

# Those of MEGC2019, numbered as in its list of clips.
THREE_CLASSES = ("negative", "positive", "surprise")
PER_SHARD = 64


@dataclasses.dataclass(frozen=True)
class MicroClip:
    """A clip that is to be prepared.

    Attributes:
      info: what is known of it.
      fps: frames a second.
      read: gives its frames from the onset to the offset, each an image file.
      size: of its files together, in bytes.
      crop: what is cut out of each frame, (left, top, right, bottom); (): frames are whole.
      broken: why it cannot be read; '' where it can.
    """

    info: ClipInfo
    fps: float
    read: Callable[[], Sequence[bytes]]
    size: int = 0
    crop: tuple[int, ...] = ()
    broken: str = ""


def micro_recipe(
    name: str,
    classes: Sequence[str],
    clips: Sequence[MicroClip],
    description: str,
    *,
    homepage: str = "",
    version: str = "1.0.0",
    notes: Sequence[str] = (),
    extra: Mapping[str, Any] | None = None,
) -> Recipe:
    """The recipe of a data set of micro-expressions, which has the one split 'clips', in the order of `clips`.

    Args:
      name: the data set's name.
      classes: the names of the classes.
      clips: all of them, those that are broken included.
      description: one paragraph.
      homepage: where the clips come from.
      version: 'major.minor.patch'.
      notes: what there is to say to whoever prepares it.
      extra: what else identifies the source.

    Raises:
      DataError: when two clips have the same id, or none can be read.
    """
    good = [clip.info for clip in clips if not clip.broken]
    twice = [id for id, count in Counter(clip.info.id for clip in clips).items() if count > 1]
    if twice:
        raise DataError(f"{len(twice)} clips of {name} are listed more than once, {twice[0]} for one")
    if not good:
        raise DataError(f"none of the {len(clips)} clips of {name} can be read, the first: {clips[0].broken}")
    counts = Counter(info.emotion for info in good)
    crops = [(clip.info.id, *clip.crop) for clip in clips if clip.crop and not clip.broken]
    return Recipe(
        name=name,
        version=version,
        features=features(classes, frames=True),
        splits={SPLIT: cut(lambda index: _read(clips[index]), range(len(clips)), PER_SHARD)},
        fingerprint={
            "sha256": _digest(repr((tuple(classes), *good, *crops))),
            "sizes": _digest(repr([clip.size for clip in clips])),
            "per_shard": PER_SHARD,
            "counts": {SPLIT: dict(sorted(counts.items()))},
            **(extra or {}),
        },
        description=description,
        homepage=homepage,
        noun="videos",
        files={INDEX: index_file({SPLIT: good})},
        notes=notes,
    )


def _read(clip: MicroClip) -> Example:
    info = clip.info
    if clip.broken:
        raise BrokenExampleError(clip.broken)
    try:
        frames = list(clip.read())
    except BrokenExampleError as error:
        # The index is written before this, and has the clip.
        raise DataError(f"{error}; mend it, or list {info.id} in exclusions.txt") from error
    return {"id": info.id, "video": frames, "num_frames": len(frames), "fps": clip.fps, "label": info.label}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
