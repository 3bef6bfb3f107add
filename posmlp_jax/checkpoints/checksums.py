"""Checksums of a checkpoint's files, in its `checksums.json`: what has changed since it was written is not loaded.

TensorStore notices a file that is cut, and not every bit that flips. They are written before the checkpoint gets its
name, so one of this version always has them; what earlier versions wrote is read as it is.
"""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor

from etils import epath

from posmlp_jax.paths import files_below, list_folder, relative_name
from posmlp_jax.writing import atomic_write

_NAME = "checksums.json"
_BLOCK = 1 << 20
# Hashing and reading leave Python's lock to others.
_THREADS = min(os.cpu_count() or 1, 8)


def write_checksums(folder: epath.Path) -> None:
    """Writes the SHA-256 of all files of a checkpoint's items, the folders in `folder`."""
    files = [path for item in list_folder(folder)[0] for path in files_below(folder / item)]
    with ThreadPoolExecutor(_THREADS) as pool:
        sums = dict(zip((relative_name(path, folder) for path in files), pool.map(_sha256, files), strict=True))
    atomic_write(folder / _NAME, json.dumps({"sha256": sums}, indent=1, sort_keys=True) + "\n")


def has_checksums(folder: epath.Path) -> bool:
    """Whether a checkpoint has checksums."""
    return (folder / _NAME).exists()


def find_damage(folder: epath.Path, item: str) -> str | None:
    """What is wrong with the first file of a checkpoint's item that is not as it was written, or None."""
    try:
        text = (folder / _NAME).read_text()
    except FileNotFoundError:
        return None  # An earlier version's.
    except (OSError, UnicodeDecodeError) as error:
        return f"{_NAME} cannot be read ({error})"
    try:
        sums = {name: expected for name, expected in json.loads(text)["sha256"].items() if name.startswith(f"{item}/")}
    except (ValueError, LookupError, TypeError, AttributeError):
        return f"{_NAME} is not what was written"
    with ThreadPoolExecutor(_THREADS) as pool:
        found = pool.map(lambda name: _damage(folder / name, sums[name]), sums)
        return next((f"{name} {damage}" for name, damage in zip(sums, found, strict=True) if damage), None)


def _damage(path: epath.Path, expected: str) -> str | None:
    try:
        return None if _sha256(path) == expected else "is not what was written"
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"


def _sha256(path: epath.Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
