"""Clips of micro-expressions of some persons: all of a data set, all but one's, or one's alone."""

import re
from collections.abc import Collection, Iterator

import numpy as np
from etils import epath

from posmlp_jax.data.decoding.encoded_video import EncodedVideo
from posmlp_jax.data.sources.clip_index import INDEX, SPLIT, ClipInfo, read_index
from posmlp_jax.data.sources.tfds_layout import PLAN, PreparedSource
from posmlp_jax.errors import DataError


class SubjectSource(PreparedSource):
    """The clips of some subjects of a prepared data set of micro-expressions.

    Args:
      folder: what `find_prepared` returns.
      subjects: whose clips; None: everybody's.
      clip_end: where clips, which begin at the onset, end: at the 'apex' or the 'offset'.

    Attributes:
      clips: a `ClipInfo` of each clip.
      subjects: who each clip shows, as 'casme2/sub01'.
      datasets: which data set each clip is of, as 'casme2'.

    Raises:
      DataError: as `PreparedSource`, when it is not known whose the clips are, and when none is of these subjects.
    """

    def __init__(self, folder: epath.Path, subjects: Collection[str] | None = None, clip_end: str = "apex"):
        super().__init__(folder, SPLIT)
        index = read_index(self._info.name, folder).get(SPLIT, ())
        if len(index) != len(self._records):
            raise DataError(
                f"{folder / INDEX} is of {len(index)} clips, and there are {len(self._records)}: delete {folder} and "
                "prepare it again"
            )
        self._kept = [i for i, clip in enumerate(index) if subjects is None or clip.subject in subjects]
        self.clips: tuple[ClipInfo, ...] = tuple(index[i] for i in self._kept)
        if not self.clips:
            raise DataError(f"no clip of {self.description} is left to take")
        self.subjects = tuple(clip.subject for clip in self.clips)
        self.datasets = tuple(clip.dataset for clip in self.clips)
        if len(self.clips) < len(index):
            self.description += f", {len(self.clips)} clips of {len(set(self.subjects))} subjects"
        self._folder, self._clip_end = folder, clip_end

    def __len__(self) -> int:
        """The number of clips."""
        return len(self._kept)

    def read(self, index: int) -> tuple[EncodedVideo, int]:
        """The clip from its onset to its end, and its label."""
        video, label = super().read(self._kept[index])
        if self._clip_end == "apex":
            frames = video.data[: self.clips[index].middle + 1]
            video = EncodedVideo(frames, len(frames), video.fps, video.id)
        return video, label

    def read_labels(self) -> np.ndarray:
        """All labels, int64 [n], which the index has."""
        return np.array([clip.label for clip in self.clips], np.int64)

    def example_id(self, index: int) -> str:
        """The data set, the subject and the clip, as 'casme2/sub01/EP02_01f'."""
        return self.clips[index].id

    def identity(self) -> Iterator[str]:
        """As any prepared data set's, from what it was prepared, which clips these are and where they end."""
        yield from super().identity()
        yield (self._folder / PLAN).read_text()
        yield from (clip.id for clip in self.clips)
        yield self._clip_end


def subjects_in_order(clips: Collection[ClipInfo]) -> tuple[str, ...]:
    """All subjects, each once: by data set, then by name, in which numbers count as numbers."""

    def key(subject: str) -> list:
        return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", subject)]

    return tuple(sorted({clip.subject for clip in clips}, key=key))
