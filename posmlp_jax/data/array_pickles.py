"""Pickles of arrays from other people, read without running what is in them.

A pickle is a program: Python's own reader calls whatever it names. This one knows nothing but what arrays are made of,
whichever version of Python and NumPy has written it.
"""

import pickle
from typing import Any

import numpy as np


class ArraysOnly(pickle.Unpickler):
    """Reads numbers, texts, containers and arrays; anything else in a pickle is an UnpicklingError."""

    def find_class(self, module: str, name: str) -> Any:
        """What a pickle may call by name: what makes an array, and the bytes in it."""
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return _empty_array
        if module in ("numpy.core.numeric", "numpy._core.numeric") and name == "_frombuffer":
            return _from_buffer
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return getattr(np, name)
        if (module, name) == ("_codecs", "encode"):
            return _as_bytes
        if module in ("__builtin__", "builtins") and name == "bytes":
            return lambda: b""
        raise pickle.UnpicklingError(f"it wants to load {module}.{name}")


def _empty_array(kind: type, shape: tuple[int, ...], code: bytes) -> np.ndarray:
    """What the pickle fills afterwards, whatever it says here."""
    return np.ndarray((0,), np.int8)


def _from_buffer(buffer: bytes, dtype: np.dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
    return np.frombuffer(buffer, dtype).reshape(shape, order=order)


def _as_bytes(text: str, encoding: str) -> bytes:
    """Python 3 writes bytes for Python 2 as a text, of one character a byte; none as what `bytes()` gives."""
    return text.encode("latin1")
