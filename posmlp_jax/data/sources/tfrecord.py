"""Random access to TFRecord files without TensorFlow.

A TFRecord file has no index: each record is its length (8 bytes, little endian), a checksum of the length (4), the
bytes, and a checksum of the bytes (4). One pass over the headers finds where the records begin.
"""

import os
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from posmlp_jax.errors import DataError

_LENGTH = struct.Struct("<Q")
_HEADER = 12
_FOOTER = 4


def record_offsets(file: str | os.PathLike, stop: int) -> np.ndarray:
    """Where the first `stop` records' bytes begin and end: int64 [stop, 2].

    Raises:
      DataError: when the file ends before, or in the middle of, the last of them.
    """
    offsets = np.empty((stop, 2), np.int64)
    with open(file, "rb", buffering=0) as handle:
        size = os.fstat(handle.fileno()).st_size
        position = 0
        for number in range(stop):
            header = os.pread(handle.fileno(), _HEADER, position)
            start = position + _HEADER
            end = start + _LENGTH.unpack_from(header)[0] if len(header) == _HEADER else size
            if end + _FOOTER > size:
                raise DataError(f"{file} is broken: it ends in record {number} of {stop}; prepare the data set again")
            offsets[number] = start, end
            position = end + _FOOTER
    return offsets


class TFRecordReader:
    """The records of a split, by index.

    Args:
      instructions: tfds' file instructions, with `filename`, `skip` and `take` (how many records after `skip`).

    Raises:
      DataError: when a file is shorter than its instruction says.
    """

    def __init__(self, instructions: Sequence):
        self._files = [str(instruction.filename) for instruction in instructions]
        # Headers lie a record apart, so the scan waits for the disk: threads.
        with ThreadPoolExecutor(16) as pool:
            scans = pool.map(lambda one: record_offsets(one.filename, one.skip + one.take)[one.skip :], instructions)
            self._offsets = list(scans)
        self._ends = np.cumsum([len(offsets) for offsets in self._offsets])

    def __len__(self) -> int:
        """The number of records."""
        return int(self._ends[-1])

    def __getitems__(self, indices: Sequence[int]) -> list[bytes]:
        """The bytes of several records; array_record has the same method."""
        return [self[index] for index in indices]

    def __getitem__(self, index: int) -> bytes:
        """The bytes of one record."""
        file = int(np.searchsorted(self._ends, index, side="right"))
        start, end = self._offsets[file][index - self._ends[file]]
        # Opened anew each time: ImageNet has 1024 files, as many as a process may hold open on many systems.
        with Path(self._files[file]).open("rb", buffering=0) as handle:
            return os.pread(handle.fileno(), int(end - start), int(start))
