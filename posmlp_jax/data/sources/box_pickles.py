"""Pickles of detected boxes, as mmaction2 publishes them, read without running what is in them.

A pickle is a program: Python's own reader calls whatever it names. This one knows nothing but what arrays are made of.
"""

import pickle
from typing import Any

import numpy as np
from etils import epath

from posmlp_jax.errors import DataError, refusal

_SUFFIXES = (".pkl", ".pickle")


def is_pickle(path: epath.Path) -> bool:
    """Whether the file's name says that it is a pickle."""
    return path.suffix.lower() in _SUFFIXES


def read_box_pickle(path: epath.Path) -> dict[str, np.ndarray]:
    """The boxes of each key frame: float64 [n, 5], corners and score, by 'video,second'.

    Boxes without scores, [n, 4], have 1.

    Raises:
      DataError: for a file that cannot be read, or holds anything but this.
    """
    try:
        with path.open("rb") as opened:
            # What Python 2 has written as bytes are texts, and the bytes of arrays.
            content = _ArraysOnly(opened, encoding="latin1").load()
    except OSError as error:
        raise DataError(f"cannot read {path}: {refusal(error)}") from error
    except pickle.UnpicklingError as error:
        raise DataError(f"cannot read {path}: {error}") from error
    # What a damaged pickle raises depends on where the damage is.
    except Exception as error:
        raise DataError(f"cannot read {path}: it is no pickle, or a damaged one ({type(error).__name__})") from error
    if not isinstance(content, dict) or not content:
        raise DataError(f"{path} holds no boxes: expected a dict of an array [n, 5] for each 'video,second'")
    return {_key(path, key): _rows(path, key, value) for key, value in content.items()}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """What a pickle calls by name: of NumPy, whatever version wrote it, what makes an array, and nothing else."""
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return _new_array
        if module in ("numpy.core.numeric", "numpy._core.numeric") and name == "_frombuffer":
            return _from_buffer
        if (module, name) == ("numpy", "ndarray"):
            return np.ndarray
        if (module, name) == ("numpy", "dtype"):
            return np.dtype
        if (module, name) == ("_codecs", "encode"):
            return _as_bytes
        raise pickle.UnpicklingError(f"it names {module}.{name}, and boxes are arrays of numbers alone")


def _new_array(kind: type, shape: tuple[int, ...], code: bytes) -> np.ndarray:
    """An array that the pickle fills afterwards."""
    return np.ndarray((0,), np.int8)


def _from_buffer(buffer: bytes, dtype: np.dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
    return np.frombuffer(buffer, dtype).reshape(shape, order=order)


def _as_bytes(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes for Python 2: as a text of one character a byte."""
    return text.encode("latin1")


def _key(path: epath.Path, key: Any) -> str:
    if not isinstance(key, str) or not key.rpartition(",")[0]:
        raise DataError(f"{path}: the key {str(key)[:40]!r} should be 'video,second', as '1j20qq1JyX4,0902'")
    return key


def _rows(path: epath.Path, key: str, value: Any) -> np.ndarray:
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu":
        raise DataError(f"{path}, '{key}': expected an array of numbers, not {type(value).__name__}")
    if value.ndim != 2 or value.shape[1] not in (4, 5):
        raise DataError(f"{path}, '{key}': an array of shape {list(value.shape)}, where [n, 5] is corners and score")
    rows = value.astype(np.float64)
    if rows.shape[1] == 4:
        return np.concatenate([rows, np.ones((len(rows), 1))], axis=1)
    if not np.isfinite(rows[:, 4]).all():
        raise DataError(f"{path}, '{key}': a score is no number")
    return rows
