"""A trained model packed into a folder of a few files, without what only a run needs to go on.

    card.json            what people want to know of it, and the SHA-256 of all files
    run.json             what the model is, as a checkpoint says it (`run.describe_run`)
    evaluations.json     the run's evaluation of these weights; data.json, its data: as in its working directory
    weights.safetensors  the weights, or their moving average, by dotted name: float32 or, to be small, float16

The models of the zoo are such folders, which are read and never written to, like any other that `write_packed` made.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from etils import epath

from posmlp_jax.checkpoints.architecture import different_shapes
from posmlp_jax.checkpoints.evaluations import Evaluations, Results
from posmlp_jax.checkpoints.state import Weights, as_dict, parameter_name
from posmlp_jax.checkpoints.zoo import CARD, card_checksum, damaged, read_card, read_checked
from posmlp_jax.errors import CheckpointError, PosMLPError
from posmlp_jax.writing import atomic_write

RUN = "run.json"
WEIGHTS = "weights.safetensors"


def is_packed(folder: epath.Path) -> bool:
    """Whether a folder is a packed checkpoint."""
    return (folder / CARD).is_file()


class Packed:
    """A packed checkpoint, to be read as `store.Checkpoints` are: there is one step, and one item of it.

    Args:
      folder: where it is.

    Attributes:
      directory: `folder`.

    Raises:
      DamagedCheckpointError: if its card, or a file that it names, is not what was written; the weights are looked at
        when they are read.
    """

    def __init__(self, folder: epath.Path):
        self.directory = folder
        self._card = read_card(folder)
        small = {name: self._read(name) for name in self._card["sha256"] if name != WEIGHTS}
        with self.damaged(None, RUN):
            self._run, self._item = json.loads(small[RUN]), self._card["item"]
            self._step = int(self._run["step"])

    @property
    def evaluations(self) -> Evaluations:
        """The results of the run's evaluation of this checkpoint."""
        return Evaluations(self.directory)

    def steps(self) -> list[int]:
        """The step that the run had reached."""
        return [self._step]

    def run(self, step: int | None = None) -> dict:
        """The checkpoint's `run`, as `describe_run` made it."""
        del step
        return self._run

    def holds(self, step: int, item: str) -> bool:
        """Whether 'weights' or 'ema' is what was packed."""
        del step
        return item == self._item

    def restore_weights(self, step: int, item: str, target: Weights) -> Weights:
        """The weights, on the devices and in the types that the abstract `target` names.

        Raises:
          CheckpointError: if their architecture is another (names the first differing parameters).
          DamagedCheckpointError: if the file is not what was written.
        """
        # Not above: who loads no packed checkpoint does without it.
        from safetensors.numpy import load

        arrays = load(self._read(WEIGHTS))
        if differing := different_shapes(arrays, as_dict(target)):
            raise CheckpointError(
                f"the {item} of step {step} in {self.directory} are of another architecture, {len(differing)} "
                f"parameters differ: {'; '.join(differing[:3])}"
            )

        def place(path, leaf) -> jax.Array:
            array = arrays[parameter_name(path)].astype(leaf.dtype)
            return jax.make_array_from_callback(leaf.shape, leaf.sharding, array.__getitem__)

        return Weights(**jax.tree_util.tree_map_with_path(place, as_dict(target)))

    @contextmanager
    def damaged(self, step: int | None, item: str) -> Iterator[None]:
        """Turns what reading raises of broken content into a DamagedCheckpointError."""
        del step
        try:
            yield
        except PosMLPError:
            raise
        except Exception as error:
            raise damaged(self.directory, f"its {item} cannot be read ({error})") from error

    def close(self) -> None:
        """There is nothing to close."""

    def _read(self, name: str) -> bytes:
        return read_checked(self.directory, self._card, name)


def write_packed(
    folder: epath.Path,
    weights: Weights,
    *,
    item: str,
    dtype: str,
    run: Mapping[str, Any],
    results: Results,
    data: Mapping[str, Any],
    card: Mapping[str, Any],
) -> None:
    """Writes a packed checkpoint into a folder that is there; the card, which makes it one, comes last.

    Args:
      folder: where; what it holds of these names is replaced.
      weights: what is packed.
      item: whether that is the checkpoint's 'weights' or its moving average, 'ema'.
      dtype: 'float16' or 'float32', which the file has them in.
      run: what the checkpoint says of its model.
      results: of its evaluation.
      data: what the working directory says of its data.
      card: what else the card is to say.
    """
    from safetensors.numpy import save

    leaves = jax.tree_util.tree_leaves_with_path(as_dict(weights))
    arrays = {parameter_name(path): np.ascontiguousarray(leaf, dtype) for path, leaf in leaves}
    files = {
        RUN: _json(run),
        "evaluations.json": _json({str(run["step"]): results}),
        "data.json": _json(data),
        WEIGHTS: save(arrays),
    }
    for name, content in files.items():
        atomic_write(folder / name, content)
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    card = {**card, "item": item, "dtype": dtype, "sha256": sums}
    atomic_write(folder / CARD, _json({**card, "card_sha256": card_checksum(card)}))


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()
