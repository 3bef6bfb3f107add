"""From the rows of a data set of micro-expressions, and the folders of their frames, to clips."""

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

from posmlp_jax.data.prepare.builder import Builder, Recipe
from posmlp_jax.data.prepare.clip_frames import Box, check_readable, find_frames, read_frames
from posmlp_jax.data.prepare.lists import read_text
from posmlp_jax.data.prepare.micro_clips import MicroClip, micro_recipe
from posmlp_jax.data.prepare.spreadsheets import read_table, whole_number
from posmlp_jax.data.sources.clip_index import ClipInfo
from posmlp_jax.errors import BrokenExampleError, DataError, nearest

EXCLUSIONS, CROPS = "exclusions.txt", "crops.csv"


@dataclasses.dataclass(frozen=True)
class Listed:
    """A clip as a table, or a tree of folders, has it.

    Attributes:
      subject: the subject as the data set's own folders have it, 'sub01'.
      clip: its name.
      emotion: in lower case.
      folder: of its frames.
      where: the table's row, for messages.
      onset: the number of its first frame; None: the folder's first.
      offset: of its last frame; None: the folder's last.
      apex: of the strongest expression; None where the table has none.
    """

    subject: str
    clip: str
    emotion: str
    folder: Path
    where: str
    onset: int | None = None
    offset: int | None = None
    apex: int | None = None

    @property
    def name(self) -> str:
        """As 'sub01/EP02_01f'."""
        return f"{self.subject}/{self.clip}"


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Which emotions of a data set are which classes, and what that should give.

    Attributes:
      dataset: its name, 'casme2'.
      classes: the names of the classes.
      class_of: the class of each emotion; others have none, and are dropped.
      emotions: all emotions that the data set knows.
      counts: how many clips each class has in the whole data set.
      subjects: how many people they show; None where that was not published.
      fps: frames a second.
      excluded: names of clips, as 'sub04/EP12_01f', that do not count.
    """

    dataset: str
    classes: Sequence[str]
    class_of: Mapping[str, str]
    emotions: Sequence[str]
    counts: Mapping[str, int]
    subjects: int | None
    fps: float
    excluded: Sequence[str] = ()


def clip_key(name: str) -> str:
    """A clip's name without what is written in several ways: casme2/sub04/EP12_01f, 04/EP12_01f and 4/EP12_01f."""
    *_, subject, clip = ("", *name.replace("\\", "/").strip("/ ").split("/"))
    digits = re.sub(r"\D", "", subject)
    return f"{int(digits) if digits else subject}/{clip}".lower()


def make_clips(
    protocol: Protocol, listed: Sequence[Listed], source: Path, chosen: Collection[str] | None = None
) -> tuple[list[MicroClip], list[str]]:
    """The clips that have a class, in the order in which they are listed, and what there is to say of them.

    Args:
      protocol: which emotions have which class.
      listed: all clips.
      source: the folder that may have `exclusions.txt` and `crops.csv`.
      chosen: the keys of the clips that are taken; None: of all but the protocol's `excluded`.

    Raises:
      DataError: when those files name a clip that is not listed, or are not what they should be.
    """
    _check_twice(protocol, listed)
    excluded = _read_exclusions(source / EXCLUSIONS, listed)
    left = {
        key: one for one in listed if one.emotion in protocol.class_of and (key := clip_key(one.name)) not in excluded
    }
    taken = set(left) - {clip_key(name) for name in protocol.excluded} if chosen is None else set(chosen)
    boxes = _read_crops(source / CROPS, listed, taken & set(left))
    notes = _Notes()
    clips = [_make(protocol, one, boxes, notes) for key, one in left.items() if key in taken]
    others = [one.name for key, one in left.items() if key not in taken]
    lines = [*_left_out(protocol, listed, list(excluded.values()), others), *notes.lines()]
    lines += _compared(protocol, clips)
    return clips, [f"{protocol.dataset}: {line}" for line in lines]


def clips_builder(
    protocol: Protocol, list_clips: Callable[[Path], Sequence[Listed]], description: str, homepage: str, official: str
) -> Builder:
    """What prepares the clips of one data set, in the classes of a protocol.

    Args:
      protocol: which emotions have which class.
      list_clips: all clips of the folder that `--source` names.
      description: one paragraph.
      homepage: where the clips come from.
      official: in words, what `--source` is and where people get it.
    """

    def build(source: Path | None, name: str) -> Recipe:
        clips, notes = make_clips(protocol, list_clips(source), source)
        return micro_recipe(name, protocol.classes, clips, description, homepage=homepage, notes=notes)

    return Builder(build, source="DIR", official=official)


class _Notes:
    """What is odd in some clips, each with the first that is so."""

    def __init__(self):
        self._found: dict[str, list[str]] = {}

    def add(self, what: str, where: str) -> None:
        self._found.setdefault(what, []).append(where)

    def lines(self) -> list[str]:
        return [f"{what}: {len(where)} clips, the first: {where[0]}" for what, where in self._found.items()]


def _left_out(
    protocol: Protocol, listed: Sequence[Listed], excluded: Sequence[str], others: Sequence[str]
) -> Iterator[str]:
    """What of the table is not taken: by emotion, and the names that `exclusions.txt` and the protocol have."""
    dropped = Counter(one.emotion for one in listed if one.emotion not in protocol.class_of)
    if dropped:
        counts = ", ".join(f"{emotion} {count}" for emotion, count in sorted(dropped.items()))
        yield f"of {len(listed)} clips {dropped.total()} have none of the classes ({counts})"
    for names, why in ((excluded, f"as {EXCLUSIONS} says"), (others, "as the protocol says")):
        if names:
            yield f"left out {why}: {', '.join(names[:5])}{' …' * (len(names) > 5)} ({len(names)})"


def _make(protocol: Protocol, one: Listed, boxes: Mapping[str, Box], notes: _Notes) -> MicroClip:
    subject = f"{protocol.dataset}/{one.subject}"
    label = protocol.classes.index(protocol.class_of[one.emotion])
    id, box = f"{subject}/{one.clip}", boxes.get(clip_key(one.name))
    try:
        if None not in (one.onset, one.offset) and one.offset <= one.onset:
            raise BrokenExampleError(f"{one.where}: the offset {one.offset} is not after the onset {one.onset}")
        frames = find_frames(one.folder, one.onset, one.offset)
        check_readable(frames, box)
        if frames.missing:
            notes.add("frames are missing, those that are there are taken", f"{one.name} lacks {frames.missing}")
        apex = _apex(one, frames.nearest, notes)
    except BrokenExampleError as error:
        return MicroClip(ClipInfo(id, subject, one.emotion, label, None, 0), protocol.fps, list, broken=str(error))
    info = ClipInfo(id, subject, one.emotion, label, apex, len(frames.files))
    return MicroClip(info, protocol.fps, lambda: read_frames(frames, box), frames.size, tuple(box or ()))


def _apex(one: Listed, nearest_frame: Callable[[int], int], notes: _Notes) -> int | None:
    """The apex's place among the clip's frames; None where it is not known or cannot be: the middle is taken."""
    if one.onset is None:
        return None
    if one.apex is None:
        notes.add("no apex, the middle is taken for it", one.name)
        return None
    # At the onset itself there is no expression yet.
    if not one.onset < one.apex <= one.offset:
        notes.add(
            "the apex is not between onset and offset, the middle is taken for it",
            f"{one.name}, {one.apex} for {one.onset} to {one.offset}",
        )
        return None
    return nearest_frame(one.apex) or None


def _compared(protocol: Protocol, clips: Sequence[MicroClip]) -> list[str]:
    """How many clips of each class there are, beside how many there should be."""
    good = [clip.info for clip in clips if not clip.broken]
    found = Counter(protocol.classes[info.label] for info in good)
    subjects = len({info.subject for info in good})
    text = ", ".join(
        f"{name} {found[name]}" + (f" of {count}" if found[name] != count else "")
        for name, count in protocol.counts.items()
    )
    total = sum(protocol.counts.values())
    whole = found == Counter(protocol.counts) and subjects == (protocol.subjects or subjects)
    than = "" if whole else f"; the whole data set has {total} of {protocol.subjects or 'all'}"
    broken = [clip.broken for clip in clips if clip.broken]
    lacking = [f"{len(broken)} clips cannot be read, the first: {broken[0]}"] if broken else []
    return [*lacking, f"{len(good)} clips of {subjects} subjects ({text}){than}"]


def _check_twice(protocol: Protocol, listed: Sequence[Listed]) -> None:
    first: dict[str, Listed] = {}
    for one in listed:
        if (other := first.setdefault(clip_key(one.name), one)) is not one:
            raise DataError(f"{one.where}: {protocol.dataset}'s clip {one.name} is there before, in {other.where}")


def _read_exclusions(file: Path, listed: Sequence[Listed]) -> dict[str, str]:
    """The names that a file lists, a line each, by their keys; '#' begins a remark."""
    if not file.exists():
        return {}
    known = {clip_key(one.name): one.name for one in listed}
    excluded = {}
    for number, line in enumerate(read_text(file).splitlines(), 1):
        name = line.partition("#")[0].strip()
        if name and clip_key(name) not in known:
            raise DataError(f"{file}, line {number}: there is no clip '{name}'; {nearest(name, known.values())}")
        if name:
            excluded[clip_key(name)] = known[clip_key(name)]
    return excluded


def _read_crops(file: Path, listed: Sequence[Listed], taken: Collection[str]) -> dict[str, Box]:
    """The boxes by the clips' keys, of all that are taken where there is any."""
    if not file.exists():
        return {}
    known = {clip_key(one.name): one.name for one in listed}
    boxes: dict[str, Box] = {}
    for row in read_table(file, ("clip", *Box._fields)):
        name = row.cells["clip"]
        if clip_key(name) not in known:
            raise DataError(f"{row.where}: there is no clip '{name}'; {nearest(name, known.values())}")
        if clip_key(name) in boxes:
            raise DataError(
                f"{row.where}: {name} has a row before this: a clip has one crop, as boxes of single frames move more "
                "than the face"
            )
        box = Box(*(whole_number(row.cells[side]) for side in Box._fields))
        if None in box or not (0 <= box.left < box.right and 0 <= box.top < box.bottom):
            raise DataError(
                f"{row.where}: the crop should be left, top, right and bottom in whole pixels, in this order"
            )
        boxes[clip_key(name)] = box
    lacking = [name for key, name in known.items() if key in taken and key not in boxes]
    if lacking:
        raise DataError(f"{file} has no crop of {len(lacking)} of {len(taken)} clips, {lacking[0]} for one")
    return boxes
