"""The file types that published parameters come in: .pth, .pth.tar and .pyth, .npz and .safetensors."""

import argparse
import io
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence

import numpy as np
from etils import epath

from posmlp_jax.convert.table import is_numbers, without_prefix
from posmlp_jax.errors import CheckpointError, refusal
from posmlp_jax.models.backbone import check_choice
from posmlp_jax.paths import in_bucket
from posmlp_jax.writing import atomic_write, check_output

SUFFIXES = (".pth", ".pth.tar", ".pyth", ".pt", ".npz", ".safetensors")
# What a file may keep its parameters under: raw ones, and their moving average.
_GROUPS = {"raw": ("state_dict", "model_state", "model"), "ema": ("state_dict_ema", "model_ema")}
CHOICES = (*_GROUPS, "best")
_TORCH = "PyTorch, which is not installed: pip install posmlp-jax[torch]"


def read_state_dict(path: epath.Path, weights: str = "best") -> tuple[dict[str, object], str]:
    """Parameters by name, and what they are called in the file.

    Args:
      path: .pth, .pth.tar, .pyth or .pt (a state dict, or a dict that has some), .npz (where names may begin with
        'state_dict/') or .safetensors.
      weights: 'raw', 'ema' (the moving average), or 'best': the average if there is one, which is what the papers
        evaluate; a file has no record of evaluations.

    Returns:
      NumPy arrays or PyTorch tensors by name; and 'state_dict_ema' or the like, '' where the file is one state dict.

    Raises:
      ConfigError: for another `weights`.
      CheckpointError: if the file is missing, of another type, broken, would run code, or has no such parameters.
    """
    check_choice("weights", weights, CHOICES)
    if in_bucket(path):
        raise CheckpointError(f"{path} is in a bucket, and is read from this machine's disks: copy it to one")
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}")
    _check_suffix(path)
    if path.suffix == ".npz":
        content = _read_npz(path)
    elif path.suffix == ".safetensors":
        content = _read_safetensors(path)
    else:
        content = _read_torch(path)
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__} and should hold parameters by name")
    groups = {
        kind: next((name for name in names if isinstance(content.get(name), Mapping) and content[name]), None)
        for kind, names in _GROUPS.items()
    }
    group = groups["ema"] or groups["raw"] if weights == "best" else groups[weights]
    if group is None and (weights == "ema" or (weights == "raw" and groups["ema"])):
        raise CheckpointError(f"{path} has no {weights} parameters; it has {', '.join(map(str, list(content)[:5]))}")
    state_dict = content if group is None else content[group]
    strange = [str(name) for name, value in state_dict.items() if not (isinstance(name, str) and is_numbers(value))]
    if strange or not state_dict:
        found = f"no dense arrays of real numbers are {', '.join(strange)}" if strange else "it is empty"
        raise CheckpointError(f"{path} should hold parameters by name, or a 'state_dict' of them: {found}")
    return without_prefix(state_dict), group or ""


def write_state_dict(path: epath.Path, state_dict: Mapping[str, np.ndarray], groups: Sequence[str]) -> None:
    """Writes parameters to a .pth, .npz or .safetensors file; a failed write leaves nothing.

    Args:
      path: the file.
      state_dict: arrays by name.
      groups: what a .pth file holds them under, the same tensors in each; none for a file that is the state dict
        itself, as those of the other types are.

    Raises:
      CheckpointError: if the file is there already, has another ending, or cannot be written.
    """
    check_state_dict_file(path)
    file = io.BytesIO()
    if path.suffix == ".npz":
        np.savez(file, **state_dict)
    elif path.suffix == ".safetensors":
        from safetensors.numpy import save

        file.write(save(dict(state_dict)))
    else:
        torch = _torch(path)
        tensors = {name: torch.tensor(x) for name, x in state_dict.items()}
        # What is in several groups is stored once.
        torch.save(dict.fromkeys(groups, tensors) if groups else tensors, file)
    try:
        atomic_write(path, file.getvalue())
    except Exception as error:
        if (reason := refusal(error)) is None:
            raise
        raise CheckpointError(f"cannot write {path}: {reason}") from error


def check_state_dict_file(path: epath.Path) -> None:
    """Raises a CheckpointError unless `write_state_dict` can make this file: its type, what is there, PyTorch."""
    _check_suffix(path)
    check_output(path)
    if path.suffix not in (".npz", ".safetensors"):
        _torch(path)


def _check_suffix(path: epath.Path) -> None:
    if not path.name.endswith(SUFFIXES):
        raise CheckpointError(f"{path} is of an unknown type; known: {', '.join(SUFFIXES)}")


def _read_npz(path: epath.Path) -> dict:
    if not zipfile.is_zipfile(path):
        raise CheckpointError(f"{path} is no .npz file, or a truncated one")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        # Arrays of Python objects are pickles.
        raise CheckpointError(f"{path} is no .npz file of plain arrays: {_line(error)}") from error
    content = {}
    for name, array in arrays.items():
        group, _, rest = name.partition("/")
        if rest:
            content.setdefault(group, {})[rest] = array
        else:
            content[name] = array
    return content


def _read_safetensors(path: epath.Path) -> dict:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is no .safetensors file, or a truncated one: {_line(error)}") from error


def _read_torch(path: epath.Path):
    torch = _torch(path)
    # What trainers store beside the parameters: timm its command line, a plain record, and NumPy's numbers.
    harmless = [argparse.Namespace, np.dtype, type(np.dtype(np.float64)), np.float64(0).__reduce__()[0]]
    try:
        with warnings.catch_warnings(action="ignore"), torch.serialization.safe_globals(harmless):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        what = re.search(r"GLOBAL (\S+)", str(error)) or re.search(r"Unsupported (\S+ \S+)", str(error))
        raise CheckpointError(
            f"{path} is refused: it is truncated, or holds Python objects ({what[1] if what else 'unknown'}) that "
            "could run any code when loaded; where you trust it, load it with PyTorch and save its parameters alone: "
            "torch.save({'state_dict': checkpoint['state_dict']}, 'weights.pth')"
        ) from error
    except (RuntimeError, OSError, EOFError, LookupError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} is no PyTorch file, or a truncated one: {_line(error)}") from error


def _torch(path: epath.Path):
    try:
        import torch
    except ImportError as error:
        raise CheckpointError(f"{path.name} takes {_TORCH}") from error
    return torch


def _line(error: Exception) -> str:
    """The beginning of a message that may be pages long."""
    return str(error).strip().split("\n")[0][:200] or type(error).__name__
