"""What a checkpoint's `run` says, a JSON text: step, config, model, the classes' names and numbers, the metrics."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from posmlp_jax.checkpoints.evaluations import Metric
from posmlp_jax.checkpoints.folders import newest_checkpoint
from posmlp_jax.checkpoints.packed import Packed, is_packed
from posmlp_jax.errors import CheckpointError
from posmlp_jax.models import registry
from posmlp_jax.models.registry import NamedModel
from posmlp_jax.paths import as_path

# Earlier versions knew no other task than classification, and did not write what it measures.
_METRICS_BEFORE = (
    Metric("top1", "top-1"),
    Metric("top5", "top-5"),
    Metric("balanced_accuracy", "balanced accuracy", brief=False),
)


def describe_run(
    step: int,
    config: Mapping,
    model: NamedModel,
    class_names: Sequence[str] | None,
    metrics: Sequence[Metric],
    class_ids: Sequence[int] | None = None,
) -> dict[str, Any]:
    """A checkpoint's `run`."""
    name, fields = model
    return {
        "step": step,
        "config": dict(config),
        "model": {"name": name} | {field: getattr(fields, field) for field in fields.__dataclass_fields__},
        "class_names": None if class_names is None else list(class_names),
        "class_ids": None if class_ids is None else list(class_ids),
        "metrics": [dataclasses.asdict(metric) for metric in metrics],
        "has_checksums": True,
    }


def read_model(run: Mapping[str, Any]) -> NamedModel:
    """The model that a `run` describes."""
    fields = {field: as_tuples(value) for field, value in run["model"].items()}
    name = fields.pop("name")
    return NamedModel(name, registry.model_config(name, **fields))


def task_of(config: Mapping[str, Any]) -> str:
    """What a config's model is trained for; earlier versions' configs, which do not say, are of classification."""
    return config.get("task", "classification")


def read_metrics(run: Mapping[str, Any]) -> tuple[Metric, ...]:
    """What the evaluations of a `run` measure besides the loss; the first decides."""
    if "metrics" not in run:
        return _METRICS_BEFORE
    return tuple(Metric(**metric) for metric in run["metrics"])


def read_keep_best(run: Mapping[str, Any]) -> str:
    """By what a `run` keeps its best checkpoint, as 'ema/top1', or ''."""
    return run["config"].get("keep_best", "")


def newest_config(workdir: epath.PathLike) -> dict[str, Any]:
    """The config that a working directory's newest checkpoint was made with.

    Raises:
      CheckpointError: if there is no checkpoint, or it cannot be read.
    """
    if is_packed(folder := as_path(workdir)):
        return Packed(folder).run()["config"]
    # Read as text: Orbax would ask JAX for its devices, which nothing may do before hosts have met (`hosts.connect`).
    file = newest_checkpoint(workdir) / "run" / "metadata"
    try:
        return json.loads(file.read_text())["config"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise CheckpointError(f"{file}, which says what the model is, is missing or damaged; take another") from error


def as_tuples(value):
    """What was read from JSON with its lists, and those in them, as the tuples that they were."""
    return tuple(map(as_tuples, value)) if isinstance(value, list) else value
