"""Films as folders of frames: image files, taken out of a film at a constant rate and numbered in order."""

import dataclasses
import os
import re
from collections.abc import Callable, Sequence

import numpy as np

from posmlp_jax.data.decoding.frames import from_images
from posmlp_jax.data.decoding.images import Size, stored_and_upright_size
from posmlp_jax.errors import BrokenExampleError

# The files' numbers end their names.
_NAME = re.compile(
    r"(?P<prefix>.*?)(?P<number>\d{1,12})(?P<suffix>\.(?:jpe?g|png|webp|bmp))", re.IGNORECASE | re.DOTALL
)


@dataclasses.dataclass(frozen=True, eq=False)
class FrameFolder:
    """A folder of frames, of which number 1 is what the film shows as it begins, or number 0 where there is one.

    Attributes:
      path: the folder.
      size: (height, width) of the first frame, upright.
      fps: frames a second.
      numbers: of the files, ascending, int64 [n].
      prefix, digits, suffix: what their names are of; `digits` is 0 where the numbers are not padded with zeros.
    """

    path: str
    size: Size
    fps: float
    numbers: np.ndarray
    prefix: str
    digits: int
    suffix: str

    @property
    def seconds(self) -> float:
        """How long the film lasts."""
        return float(self.numbers[-1] - self._first + 1) / self.fps

    def frames_at(
        self, times: np.ndarray, reach: float, min_size: Size | None, keep: Callable, shorter_side: int
    ) -> tuple[dict[int, np.ndarray], np.ndarray, int]:
        """As `moments.Film.frames_at`: the frames that are nearest to these times."""
        del reach
        exactly = np.clip(np.rint(times * self.fps).astype(np.int64) + self._first, self._first, self.numbers[-1])
        wanted = np.maximum(np.searchsorted(self.numbers, exactly, side="right") - 1, 0)
        start, stop = int(wanted.min()), int(wanted.max()) + 1
        files = _Files([self.file(number) for number in self.numbers[start:stop].tolist()])
        frames = from_images(files, sorted({*(wanted - start).tolist()}), min_size, keep, shorter_side)
        return frames, wanted - start, int(np.sum(self.numbers[wanted] != exactly))

    def file(self, number: int) -> str:
        """The file with a frame."""
        return os.path.join(self.path, f"{self.prefix}{number:0{self.digits}d}{self.suffix}")

    @property
    def _first(self) -> int:
        return min(int(self.numbers[0]), 1)


class _Files(Sequence[bytes]):
    """The contents of files, which are read when they are asked for."""

    def __init__(self, paths: Sequence[str]):
        self._paths = paths

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, place: int) -> bytes:
        try:
            with open(self._paths[place], "rb") as file:
                return file.read()
        except OSError as error:
            raise BrokenExampleError(f"cannot read {self._paths[place]}: {error.strerror}") from error


def open_frame_folder(path: str, fps: float) -> FrameFolder:
    """Lists a folder, and reads the size of its first frame.

    Args:
      path: the folder.
      fps: at what rate its frames were taken out of the film.

    Raises:
      BrokenExampleError: when there are no frames, or several series of them, or the first is no image.
      OSError: when it cannot be read.
    """
    # By numbers, not by names: 10 comes after 9 though its name need not.
    found = sorted(
        (int(match["number"]), match["prefix"], match["suffix"], match["number"])
        for match in map(_NAME.fullmatch, os.listdir(path))
        if match and not match["prefix"].startswith(".")
    )
    if not found:
        raise BrokenExampleError("the folder holds no frames: expected image files whose names end in their numbers")
    first, prefix, suffix, _ = found[0]
    digits = max((len(text) for _, _, _, text in found if text.startswith("0") and len(text) > 1), default=0)
    kinds = {
        (before, after, number == f"{value:0{digits}d}"): f"{before}{number}{after}"
        for value, before, after, number in found
    }
    if len(kinds) > 1:
        raise BrokenExampleError(
            f"the folder holds frames whose names are of several kinds, as {' and '.join(sorted(kinds.values())[:2])}: "
            "keep those of one"
        )
    numbers = np.array([number for number, *_ in found], np.int64)
    folder = FrameFolder(path, (0, 0), fps, numbers, prefix, digits, suffix)
    (data,) = _Files([folder.file(first)])
    return dataclasses.replace(folder, size=stored_and_upright_size(data)[1])
