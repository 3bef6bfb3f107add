"""Films of which people have said at key frames who does what where: AVA's, and others in AVA's formats."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from posmlp_jax.data.decoding.frame_folders import FrameFolder
from posmlp_jax.data.decoding.frame_sampling import FrameSampling
from posmlp_jax.data.decoding.moments import SLACK, Moment
from posmlp_jax.data.sources.action_tables import ActionTables, read_action_tables
from posmlp_jax.data.sources.film_files import open_named_films
from posmlp_jax.data.sources.key_frames import ActionBoxes, KeyFrames
from posmlp_jax.data.sources.source import Source
from posmlp_jax.errors import DataError


class ActionSource(Source):
    """The key frames of films, one example each: `(Moment, ActionBoxes)`.

    Training takes the boxes of the labels and, if there are any, a detector's besides; evaluation takes one or the
    other.

    Args:
      folder: with the films (`film_files`) and the tables, on a disk.
      config: the `data` section of a config; its `films` says which tables.
      split: 'train' or 'eval'.

    Attributes:
      categories: the actions of the label map, which are those that count.
      num_classes: K, the highest id that an action has there or in the labels of either split; class k is action k + 1.
      class_names: of all K; an action that the label map has not is called 'action 7'.
      videos: of each example, object [n].
      seconds: of each, as the tables count them, int64 [n].
      sizes: (height, width) of each one's film, int64 [n, 2].
      counts: how many boxes each has, int64 [n].
      most_boxes: how many one has at most.
      truth: all rows of the split's labels.
      excluded: the key frames, (video, second), that are no examples.
      remarks: lines about what is left out, and what may be wrong.

    Raises:
      ConfigError: when `config.fps` is 0.
      DataError: when tables or films are missing, broken or do not belong together. In training, films that have no
        more than the share `config.max_broken` of the key frames are left out instead.
    """

    kind = "video"

    def __init__(self, folder: Path, config: Any, split: Literal["train", "eval"]):
        FrameSampling(config.sampling, 1, config.stride, config.fps).around()
        tables = read_action_tables(folder, config.films, split)
        self._folder, self._files, self._begin = folder, tables.files, float(config.films.begin)
        self._least = float(config.films[f"{split}_score"]) if tables.detected is not None else 0.0
        self.categories, self.num_classes = tables.categories, tables.num_classes
        names = {category.id: category.name for category in self.categories}
        self.class_names = tuple(names.get(number, f"action {number}") for number in range(1, self.num_classes + 1))
        self.truth, self.excluded = tables.truth, tables.excluded
        self._frames = _key_frames(tables, split)
        self.remarks = list(tables.remarks)
        if self._frames.num_excluded:
            self.remarks.append(f"{self._frames.num_excluded} key frames are excluded")
        self._open_films(config, split)
        self.description = (
            f"{len(self)} key frames of {len(set(self.videos))} films, {self.num_classes} actions, in {folder} "
            f"({tables.files[0].name})"
        )

    def _open_films(self, config: Any, split: str) -> None:
        """Finds the key frames that can be shown, which are the examples."""
        frames, names = self._frames, sorted(set(self._frames.videos))
        if not names:
            raise DataError(f"no key frame of {self._files[0]} is left: all are excluded")
        found, wrong = open_named_films(self._folder, names, config.fps, config.threads)
        self._films = [found.get(name) for name in names]
        numbers = {name: number for number, name in enumerate(names)}
        self._of_film = np.fromiter(map(numbers.__getitem__, frames.videos), np.int64, len(frames))
        lasts = np.array([-np.inf if film is None else film.seconds + SLACK for film in self._films])
        times = frames.seconds - self._begin
        shown = (times >= 0) & (times <= lasts[self._of_film])
        if not shown.all():
            reasons = wrong or self._outside(int(np.argmin(shown)))
            self._leave_out(shown, reasons, config.max_broken if split == "train" else 0.0)
        elif not wrong:
            self._warn_of_whole_films(frames.seconds)
        self._kept = np.flatnonzero(shown)
        sizes = np.array([(0, 0) if film is None else film.size for film in self._films], np.int64)
        self.sizes = sizes[self._of_film[self._kept]]
        self.videos, self.seconds, self.counts = (x[shown] for x in (frames.videos, frames.seconds, frames.counts))
        self.most_boxes = int(self.counts.max())

    def __len__(self) -> int:
        """The number of key frames."""
        return len(self._kept)

    def read(self, index: int) -> tuple[Moment, ActionBoxes]:
        """The moment of a film, and its boxes."""
        film = self._films[self._of_film[self._kept[index]]]
        return Moment(film, float(self.seconds[index] - self._begin)), self._frames.boxes(int(self._kept[index]))

    def __getstate__(self) -> dict[str, Any]:
        """Without the labels' rows: processes that make batches are many, and have no use for these."""
        return {**self.__dict__, "truth": None}

    def example_id(self, index: int) -> str:
        """`video,second (file)`."""
        return self._name(int(self._kept[index]))

    def to_check(self) -> Sequence[int]:
        """The last key frame of each film: of one that is cut off it is missing."""
        films = self._of_film[self._kept]
        return np.flatnonzero(np.append(films[1:] != films[:-1], True)).tolist()

    def identity(self) -> Iterator[str]:
        """The tables' contents, how they are taken, and the films' names and sizes."""
        for path in self._files:
            yield f"{os.path.relpath(path, self._folder)} {hashlib.sha256(path.read_bytes()).hexdigest()}"
        yield f"from {self._begin:g} s on, scores from {self._least:g} on"
        for number in np.unique(self._of_film[self._kept]).tolist():
            film = self._films[number]
            in_folder = isinstance(film, FrameFolder)
            size = f"{len(film.numbers)} frames" if in_folder else str(os.stat(film.path).st_size)
            yield f"{os.path.relpath(film.path, self._folder)} {size}"

    def _name(self, place: int) -> str:
        return (
            f"{self._frames.videos[place]},{self._frames.seconds[place]:04d} ({self._films[self._of_film[place]].path})"
        )

    def _outside(self, place: int) -> dict[str, str]:
        film = self._films[self._of_film[place]]
        time = float(self._frames.seconds[place] - self._begin)
        where = f"{time:g} s after its beginning, and it lasts {film.seconds:.2f} s" if time > 0 else "before it begins"
        return {
            self._frames.videos[place]: f"{self._name(place)} is {where}; --config.data.films.begin, {self._begin:g}, "
            "is the second at which films begin"
        }

    def _leave_out(self, shown: np.ndarray, reasons: dict[str, str], most: float) -> None:
        """Raises a DataError if too many key frames cannot be shown, or makes a remark of it."""
        films, count = len(set(self._of_film[~shown])), int(np.sum(~shown))
        what = (
            f"{count} of the {len(shown)} key frames of {self._files[0].name}, of {films} of {len(self._films)} films, "
            f"cannot be shown, the first: {next(iter(reasons.values()))}"
        )
        if count > most * len(shown) or not shown.any():
            how = (
                f"; that is more than the share of {most:g} that data.max_broken allows"
                if most
                else ", and the mean average precision of the others would be another one"
            )
            raise DataError(what + how)
        self.remarks.append(what)

    def _warn_of_whole_films(self, seconds: np.ndarray) -> None:
        """Makes a remark if films may begin at 0 after all, so that every clip would be from another place."""
        known = [film.seconds for film in self._films if np.isfinite(film.seconds)]
        if known and 0 < self._begin < seconds.max() <= np.median(known):
            self.remarks.append(
                f"warning: films should begin at second {self._begin:g}, but are long enough to begin at 0: if they "
                "are whole ones, --config.data.films.begin=0"
            )


def _key_frames(tables: ActionTables, split: str) -> KeyFrames:
    none = tables.truth.take(np.arange(0))
    detected = none if tables.detected is None else tables.detected
    labelled = tables.truth if split == "train" or tables.detected is None else none
    return KeyFrames(labelled, detected, tables.excluded, tables.num_classes)
