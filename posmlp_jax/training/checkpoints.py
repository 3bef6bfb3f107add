"""Checkpoints and the working directory they belong to.

A working directory holds `config.json` (the resolved config), `checkpoints/<step>/` (Orbax), `metrics.jsonl` and
`tensorboard/`. A checkpoint has four parts, so that each can be loaded without the others: `weights`, `ema`,
`optimizer` and `run`, a JSON text with the step, the config, the model and the class names.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
from ml_collections import ConfigDict

from posmlp_jax.errors import CheckpointError
from posmlp_jax.models import registry
from posmlp_jax.models.backbone import Backbone, BackboneConfig
from posmlp_jax.training.config import differences, plain
from posmlp_jax.training.state import TrainState, Weights, create_weights, model_merge


def claim_workdir(workdir: Path, config: ConfigDict) -> None:
    """Makes the working directory this experiment's: writes `config.json`, or checks the one that is there.

    Raises:
      CheckpointError: if another experiment lives there (names what differs), or it cannot be written.
    """
    path = workdir / "config.json"
    current = plain(config)
    if path.exists():
        changed = list(differences(json.loads(path.read_text()), current))
        if changed:
            more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
            raise CheckpointError(
                f"{workdir} holds a different experiment ({'; '.join(changed[:3])}{more}); choose another --workdir"
            )
    elif any((workdir / "checkpoints").glob("*")):
        raise CheckpointError(f"{workdir} holds checkpoints without their config.json; choose another --workdir")
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if jax.process_index() == 0:
            partial = path.with_suffix(".json.partial")
            partial.write_text(json.dumps(current, indent=2) + "\n")
            partial.replace(path)
    except OSError as error:
        raise CheckpointError(f"cannot write to the working directory {workdir}: {error.strerror}") from None


class Checkpoints:
    """The checkpoints of one working directory.

    Args:
      workdir: holds `checkpoints/`.
      keep: how many of the newest to keep; None opens them for reading.
    """

    def __init__(self, workdir: Path, keep: int | None = None):
        self.directory = Path(workdir).absolute() / "checkpoints"
        writable = keep is not None
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, create=writable, read_only=not writable, save_interval_steps=int(writable)
        )
        names = ("weights", "ema", "optimizer", "run")
        handlers = {name: ocp.StandardCheckpointHandler() for name in names[:3]} | {"run": ocp.JsonCheckpointHandler()}
        self._manager = None
        if writable or self.directory.is_dir():
            self._manager = ocp.CheckpointManager(self.directory, options=options, item_handlers=handlers)

    def latest_step(self) -> int | None:
        """The newest complete checkpoint's step, or None."""
        return None if self._manager is None else self._manager.latest_step()

    def save(self, state: TrainState, config: ConfigDict, model: BackboneConfig, class_names: Sequence[str] | None):
        """Starts to write a checkpoint; returns when the arrays are copied, before they are on disk."""
        step = int(state.step)
        if step == self.latest_step():
            return
        run = {
            "step": step,
            "config": plain(config),
            "model": {"name": config.model.name} | _model_fields(model),
            "class_names": None if class_names is None else list(class_names),
        }
        items = {
            "weights": ocp.args.StandardSave(_tree(state.weights)),
            "optimizer": ocp.args.StandardSave(state.optimizer),
            "run": ocp.args.JsonSave(run),
        }
        if state.ema is not None:
            items["ema"] = ocp.args.StandardSave(_tree(state.ema))
        self._manager.save(step, args=ocp.args.Composite(**items))

    def restore(self, target: TrainState) -> TrainState:
        """The newest checkpoint, on the devices that the abstract `target` names.

        Raises:
          CheckpointError: if there is none, or its architecture is another (names the first differing parameters).
        """
        step = self._require_step()
        weights = self.restore_weights("weights", target.weights)
        ema = None if target.ema is None else self.restore_weights("ema", target.ema)
        args = ocp.args.Composite(optimizer=ocp.args.StandardRestore(target.optimizer))
        optimizer = self._manager.restore(step, args=args)["optimizer"]
        count = jax.device_put(np.int32(step), target.step.sharding)
        return TrainState(count, weights, optimizer, ema)

    def restore_weights(self, item: str, target: Weights) -> Weights:
        """Only 'weights' or 'ema' of the newest checkpoint, checked and placed like `restore`'s."""
        step = self._require_step()
        self._check_architecture(step, item, target)
        args = ocp.args.Composite(**{item: ocp.args.StandardRestore(_tree(target))})
        tree = self._manager.restore(step, args=args)[item]
        return Weights(tree["params"], tree["batch_stats"])

    def run(self) -> dict:
        """The newest checkpoint's `run`: its step, config, model and class names."""
        step = self._require_step()
        return self._manager.restore(step, args=ocp.args.Composite(run=ocp.args.JsonRestore()))["run"]

    def has_ema(self) -> bool:
        """Whether the newest checkpoint holds a moving average."""
        return (self.directory / str(self._require_step()) / "ema").is_dir()

    def wait(self) -> None:
        """Returns when everything saved is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, and frees the threads that write."""
        if self._manager is not None:
            self._manager.close()

    def _require_step(self) -> int:
        step = self.latest_step()
        if step is None:
            raise CheckpointError(f"there is no checkpoint in {self.directory}; train first, or name another --workdir")
        return step

    def _check_architecture(self, step: int, item: str, target: Weights) -> None:
        saved = {
            jax.tree_util.keystr(path, simple=True, separator="."): tuple(leaf.shape)
            for path, leaf in jax.tree_util.tree_leaves_with_path(
                dict(self._manager.item_metadata(step)[item].tree), is_leaf=lambda leaf: hasattr(leaf, "shape")
            )
        }
        wanted = {
            jax.tree_util.keystr(path, simple=True, separator="."): tuple(leaf.shape)
            for path, leaf in jax.tree_util.tree_leaves_with_path(_tree(target))
        }
        differing = [name for name in sorted(saved | wanted) if saved.get(name) != wanted.get(name)]
        if differing:
            listed = "; ".join(
                f"{name.removeprefix('params.')} {saved.get(name, 'missing')} there, {wanted.get(name, 'missing')} here"
                for name in differing[:3]
            )
            raise CheckpointError(
                f"the checkpoint {self.directory / str(step)} is of another architecture, "
                f"{len(differing)} parameters differ: {listed}"
            )


def load_model(workdir: str | Path, *, ema: bool = True) -> tuple[Backbone, tuple[str, ...] | None]:
    """The newest model of a working directory, for predictions or as a backbone.

    Args:
      workdir: where it was trained.
      ema: the moving average where the checkpoint has one, else the raw weights.

    Returns:
      The model, with its trained weights, and its class names, if the data set had names.

    Raises:
      CheckpointError: if there is no checkpoint.
    """
    checkpoints = Checkpoints(Path(workdir))
    run = checkpoints.run()
    fields = dict(run["model"])
    config = registry.model_config(fields.pop("name"), **{k: _tuples(v) for k, v in fields.items()})
    target = jax.eval_shape(lambda: create_weights(config, 0))
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    target = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), target)
    weights = checkpoints.restore_weights("ema" if ema and checkpoints.has_ema() else "weights", target)
    checkpoints.close()
    names = run["class_names"]
    return model_merge(config)(weights), None if names is None else tuple(names)


def _tree(weights: Weights) -> dict:
    """Weights as a nested dict, which a checkpoint can be read from without our classes."""
    return {"params": weights.params, "batch_stats": weights.batch_stats}


def _model_fields(model: BackboneConfig) -> dict:
    return {name: getattr(model, name) for name in model.__dataclass_fields__}


def _tuples(value):
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
