"""The frames of a clip: image files in a folder, known by the numbers in their names, of which a part is wanted."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from posmlp_jax.data.decoding.images import decode, looks_whole, stored_and_upright_size
from posmlp_jax.errors import BrokenExampleError, DataError

_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")
# A clip of which more is missing is none.
_LEAST_SHARE = 0.5
_JPEG = (cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)


class Box(NamedTuple):
    """A part of a frame in whole pixels; right and bottom are the first that are not of it."""

    left: int
    top: int
    right: int
    bottom: int


class Frames(NamedTuple):
    """Some frames of a folder.

    Attributes:
      numbers: those in their names, ascending.
      files: where they are.
      missing: how many numbers between the first and the last wanted one no file has.
    """

    numbers: Sequence[int]
    files: Sequence[Path]
    missing: int = 0

    @property
    def size(self) -> int:
        """Of all files together, in bytes."""
        return sum(file.stat().st_size for file in self.files)

    def nearest(self, number: int) -> int:
        """The place of the frame with this number or, where there is none, with the nearest."""
        return int(np.argmin(np.abs(np.array(self.numbers) - number)))


def find_frames(folder: Path, first: int | None = None, last: int | None = None) -> Frames:
    """The frames of a folder from one number to another, or all.

    A frame's number is the last one in its name, as 46 of 'reg_img46.jpg' and 5562 of '006_05562.jpg'; so the order is
    right without zeros in front, too. What has no number is no frame.

    Raises:
      BrokenExampleError: when the folder is missing, two files have one number, or less than half of the frames is
        there.
    """
    if not folder.is_dir():
        raise BrokenExampleError(f"there is no folder {folder}")
    numbered: dict[int, Path] = {}
    for number, file in _numbered(folder):
        if number in numbered:
            raise BrokenExampleError(
                f"{folder} has two files of frame {number}, {numbered[number].name} and {file.name}: keep one kind"
            )
        numbered[number] = file
    if not numbered:
        raise BrokenExampleError(f"{folder} holds no frame ({', '.join(_SUFFIXES)}, with a number in the name)")
    lowest, highest = min(numbered), max(numbered)
    start, end = lowest if first is None else first, highest if last is None else last
    numbers = sorted(number for number in numbered if start <= number <= end)
    wanted = end - start + 1
    # Where nothing says which frames there should be, those that are there are all.
    least = 2 if first is None else max(2, _LEAST_SHARE * wanted)
    if len(numbers) < least:
        raise BrokenExampleError(
            f"{folder} has {len(numbers)} of the {wanted} frames from {start} to {end}: its numbers go from {lowest} "
            f"to {highest}"
        )
    return Frames(numbers, [numbered[number] for number in numbers], wanted - len(numbers))


def check_readable(frames: Frames, box: Box | None) -> None:
    """Makes sure that the first frame is an image, and the box a part of it.

    Raises:
      BrokenExampleError: when it is no image.
      DataError: when the box is not inside it.
    """
    file = frames.files[0]
    try:
        _, (height, width) = stored_and_upright_size(file.read_bytes())
    except OSError as error:
        raise BrokenExampleError(f"{file}: {error.strerror}") from error
    except BrokenExampleError as error:
        raise BrokenExampleError(f"{file}: {error}") from error
    if box and not (0 <= box.left < box.right <= width and 0 <= box.top < box.bottom <= height):
        raise DataError(
            f"{file} has {width}×{height} pixels, and the crop {', '.join(map(str, box))} (left, top, right, bottom) "
            "is not a part of that"
        )


def read_frames(frames: Frames, box: Box | None) -> list[bytes]:
    """The frames as JPEG files: as they are where they are such and all of them is wanted.

    Raises:
      BrokenExampleError: for one that cannot be decoded; the message names it.
    """
    images = []
    for file in frames.files:
        try:
            data = file.read_bytes()
            if box or data[:2] != b"\xff\xd8" or not looks_whole(data):
                pixels = decode(data)
                if box:
                    pixels = pixels[box.top : box.bottom, box.left : box.right]
                data = cv2.imencode(".jpg", pixels[..., ::-1], _JPEG)[1].tobytes()
        except OSError as error:
            raise BrokenExampleError(f"{file}: {error.strerror}") from error
        except BrokenExampleError as error:
            raise BrokenExampleError(f"{file}: {error}") from error
        images.append(data)
    return images


def folders_below(root: Path, depth: int) -> Iterator[Path]:
    """`root` and the folders in it, so many levels deep, in the order of their names."""
    yield root
    if depth:
        for folder in sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")):
            yield from folders_below(folder, depth - 1)


def numbered_folders(folder: Path, prefixes: Sequence[str]) -> Mapping[int, Path]:
    """The folders in `folder` that are called by a number, with one of the prefixes or none: sub01, s1, 006.

    Raises:
      DataError: when two of them have one number.
    """
    pattern = re.compile(f"(?:{'|'.join(prefixes)})?(\\d+)", re.IGNORECASE)
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.is_dir() and (match := pattern.fullmatch(path.name)):
            number = int(match[1])
            if number in found:
                raise DataError(f"{found[number]} and {path} are both of subject {number}: keep one of them")
            found[number] = path
    return found


def _numbered(folder: Path) -> Iterator[tuple[int, Path]]:
    for file in folder.iterdir():
        if file.suffix.lower() in _SUFFIXES and (numbers := re.findall(r"\d+", file.stem)) and file.name[0] != ".":
            yield int(numbers[-1]), file
