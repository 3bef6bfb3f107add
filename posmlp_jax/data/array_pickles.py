"""Pickles of arrays from other people, read without running what is in them.

A pickle is a program: Python's own reader calls whatever it names. This one knows nothing but what arrays are made of,
whichever version of Python and NumPy has written it. Not even NumPy's own types are handed out: these believe what a
pickle says of their insides, and would follow a number as if it were an address.
"""

import pickle
from typing import Any

import numpy as np

_NUMBERS = "biufc"


class ArraysOnly(pickle.Unpickler):
    """Reads numbers, texts, containers and arrays of numbers; anything else in a pickle is an UnpicklingError."""

    def find_class(self, module: str, name: str) -> Any:
        """What a pickle may call by name: what makes an array, its type, and the bytes in it."""
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return _empty_array
        if module in ("numpy.core.numeric", "numpy._core.numeric") and name == "_frombuffer":
            return _from_buffer
        if (module, name) == ("numpy", "dtype"):
            return _Numbers
        if (module, name) == ("numpy", "ndarray"):
            return None  # An argument of `_reconstruct`, which knows.
        if (module, name) == ("_codecs", "encode"):
            return _as_bytes
        if module in ("__builtin__", "builtins") and name == "bytes":
            return lambda: b""
        raise pickle.UnpicklingError(f"it wants to load {module}.{name}")


class _Numbers:
    """What type the numbers of an array are, in the place of a `np.dtype`."""

    def __init__(self, code: str | bytes, align: bool = False, copy: bool = True):
        self.type = np.dtype(_as_text(code))
        if self.type.kind not in _NUMBERS:
            raise pickle.UnpicklingError(f"it has an array of {self.type}")

    def __setstate__(self, state: tuple):
        """Of all that NumPy keeps here, the order of bytes."""
        self.type = self.type.newbyteorder(_as_text(state[1]))


class _Array(np.ndarray):
    """An array that is filled with numbers alone."""

    def __setstate__(self, state: tuple):
        """`state`: NumPy's version, the shape, the type, whether columns lie together, the numbers."""
        _, shape, numbers, by_columns, content = state
        content = _as_bytes(content, "latin1") if isinstance(content, str) else content
        super().__setstate__(_from_buffer(content, numbers, shape, "F" if by_columns else "C").__reduce__()[2])


def _empty_array(kind: None, shape: tuple[int, ...], code: bytes) -> np.ndarray:
    """What the pickle fills afterwards, whatever it says here."""
    return np.empty(0, np.int8).view(_Array)


def _from_buffer(buffer: bytes | bytearray, numbers: _Numbers, shape: tuple[int, ...], order: str) -> np.ndarray:
    # A copy, of which nothing else in the pickle knows.
    return np.frombuffer(bytes(buffer), numbers.type).reshape(shape, order=order)


def _as_bytes(text: str, encoding: str) -> bytes:
    """Python 3 writes bytes for Python 2 as a text, of one character a byte; none as what `bytes()` gives."""
    return text.encode("latin1")


def _as_text(value: str | bytes) -> str:
    """Texts of Python 2 are bytes to whoever reads it so."""
    return value.decode("latin1") if isinstance(value, bytes) else str(value)
