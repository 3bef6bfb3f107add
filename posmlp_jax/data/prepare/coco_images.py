"""Where the images lie that a COCO JSON names, in a zip file or in folders, and whether they are what it says."""

import os
import unicodedata
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from posmlp_jax.data.decoding.images import decode, looks_whole, stored_and_upright_size
from posmlp_jax.data.prepare.annotated_images import AnnotatedImage
from posmlp_jax.errors import BrokenExampleError, DataError

_BROKEN_ZIP = (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, zlib.error)


class Store(Protocol):
    """Files by name.

    Attributes:
      sizes: how many bytes each has, by its name in the store.
    """

    sizes: Mapping[str, int]

    def find(self, file_name: str, folders: Sequence[str]) -> str | None:
        """The name in the store of what a JSON calls `file_name`, in the first of `folders` that has it, or None."""

    def path(self, name: str) -> str:
        """A file's name for messages."""

    def read(self, name: str) -> bytes:
        """A file's bytes. Raises a DataError when it cannot be read."""


class Archive:
    """A zip file, left open for reading, as a store.

    Args:
      path: the file.
      advice: ends the message where it is broken.
    """

    def __init__(self, path: Path, advice: str):
        self._path, self._advice = path, advice
        try:
            self._zip = zipfile.ZipFile(path)
        except _BROKEN_ZIP as error:
            raise self._broken(error) from error
        self.sizes = {info.filename: info.file_size for info in self._zip.infolist() if not info.is_dir()}

    def find(self, file_name: str, folders: Sequence[str]) -> str | None:
        """As `Store.find`."""
        names = (f"{folder}/{file_name}" for folder in folders)
        return next((name for name in names if name in self.sizes), None)

    def path(self, name: str) -> str:
        """As `Store.path`."""
        return f"{name} in {self._path}"

    def read(self, name: str) -> bytes:
        """As `Store.read`; that the zip file's checksum is another is found out as well."""
        try:
            return self._zip.read(name)
        except _BROKEN_ZIP as error:
            raise self._broken(error) from error

    def _broken(self, error: Exception) -> DataError:
        size = self._path.stat().st_size
        return DataError(f"{self._path} ({size:,} bytes) is broken or truncated ({error}): {self._advice}")


class Folders:
    """The files in a folder and in all folders below it, as a store. Their names are paths from there, with slashes.

    Args:
      root: the folder.
      only: a folder in it, to look at nothing else.
    """

    def __init__(self, root: Path, only: str = ""):
        self._root = root
        self.sizes: dict[str, int] = {}
        # Names with accents can be written in two ways, of which some systems give another than they were given: here
        # are the paths by one of them, whole, and those that end on a file's name.
        self._composed: dict[str, str] = {}
        self._ending: dict[str, list[str]] = {}
        for folder, folders, files in os.walk(root / only, followlinks=True):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for file in files:
                path = Path(folder) / file
                name = path.relative_to(root).as_posix()
                if path.is_file():
                    self.sizes[name] = path.stat().st_size
                    composed = unicodedata.normalize("NFC", name)
                    self._composed[composed] = name
                    self._ending.setdefault(composed.rpartition("/")[2], []).append(composed)

    def find(self, file_name: str, folders: Sequence[str]) -> str | None:
        """As `Store.find`; what is in none of `folders` may be in one other that is below the root.

        Slashes may be backslashes, as on Windows.
        """
        wanted = unicodedata.normalize("NFC", file_name)
        for name in dict.fromkeys((wanted, wanted.replace("\\", "/"))):
            name = name.removeprefix("./")
            for folder in folders:
                if found := self._composed.get(f"{folder}/{name}" if folder else name):
                    return found
            alike = self._ending.get(name.rpartition("/")[2], ())
            ends = [path for path in alike if f"/{path}".endswith(f"/{name}")]
            if len(ends) == 1:
                return self._composed[ends[0]]
        return None

    def path(self, name: str) -> str:
        """As `Store.path`."""
        return str(self._root / name)

    def read(self, name: str) -> bytes:
        """As `Store.read`."""
        try:
            return (self._root / name).read_bytes()
        except OSError as error:
            raise DataError(f"cannot read {self._root / name}: {error.strerror}") from error


def check_found(images: Sequence[AnnotatedImage], found: Mapping[int, str | None], where: str, looked_in: str) -> None:
    """Makes sure that all images of a JSON are there, and each in a file of its own.

    Args:
      images: all.
      found: each one's file, by the image's id; None where there is none.
      where: the JSON.
      looked_in: in words.

    Raises:
      DataError: when one is not.
    """
    absent = [image for image in images if found[image.id] is None]
    if absent:
        raise DataError(
            f"{len(absent)} of the {len(images)} images of {where} are not in {looked_in}: {absent[0].file_name} "
            f"(image {absent[0].id}) for one; add them, correct their file_name, or take them and their objects out"
        )
    ids: dict[str, int] = {}
    for image in images:
        other = ids.setdefault(found[image.id], image.id)
        if other != image.id:
            raise DataError(f"{where}: images {other} and {image.id} are the same file, {found[image.id]}")


def check_image(data: bytes, image: AnnotatedImage, name: str) -> None:
    """Makes sure that a file is an image, to its end, and as large as its JSON says.

    Raises:
      DataError: when it is not.
    """
    try:
        stored, upright = stored_and_upright_size(data)
        if not looks_whole(data):
            decode(data)
    except BrokenExampleError as error:
        raise DataError(
            f"{name}: {error}; mend it, or take image {image.id} and its objects out of the JSON"
        ) from error
    if upright == image.size:
        return
    is_said = f"{name} is {_pixels(upright)} pixels, and {_pixels(image.size)} in the JSON (image {image.id})"
    if stored == image.size:
        raise DataError(
            f"{is_said}: its EXIF data turn it, and boxes have to be of the upright image; take the turn out of the "
            "EXIF data if the boxes are right without it, or else annotate it upright"
        )
    raise DataError(f"{is_said}: boxes are in pixels of the image as it was annotated, so put that one there")


def _pixels(size: tuple[int, int]) -> str:
    return f"{size[1]}×{size[0]}"
