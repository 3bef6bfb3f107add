"""Pickles of detected boxes, as mmaction2 publishes them."""

import pickle
from typing import Any

import numpy as np
from etils import epath

from posmlp_jax.data.array_pickles import ArraysOnly
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
            content = ArraysOnly(opened, encoding="latin1").load()
    except OSError as error:
        raise DataError(f"cannot read {path}: {refusal(error)}") from error
    except pickle.UnpicklingError as error:
        raise DataError(f"cannot read {path}: {error}, and boxes are arrays of numbers alone") from error
    # What a damaged pickle raises depends on where the damage is.
    except Exception as error:
        raise DataError(f"cannot read {path}: it is no pickle, or a damaged one ({type(error).__name__})") from error
    if not isinstance(content, dict) or not content:
        raise DataError(f"{path} holds no boxes: expected a dict of an array [n, 5] for each 'video,second'")
    return {_key(path, key): _rows(path, key, value) for key, value in content.items()}


def _key(path: epath.Path, key: Any) -> str:
    if not isinstance(key, str) or not key.rpartition(",")[0]:
        raise DataError(f"{path}: the key {str(key)[:40]!r} should be 'video,second', as '1j20qq1JyX4,0902'")
    return key


def _rows(path: epath.Path, key: str, value: Any) -> np.ndarray:
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu":
        raise DataError(f"{path}, '{key}': expected an array of numbers, not {type(value).__name__}")
    if value.ndim != 2 or value.shape[1] not in (4, 5):
        raise DataError(f"{path}, '{key}': an array of shape {list(value.shape)}, where [n, 5] is corners and score")
    rows = np.array(value, np.float64)
    if rows.shape[1] == 4:
        return np.concatenate([rows, np.ones((len(rows), 1))], axis=1)
    if not np.isfinite(rows[:, 4]).all():
        raise DataError(f"{path}, '{key}': a score is no number")
    return rows
