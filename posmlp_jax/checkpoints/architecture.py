"""Whether two models are of one architecture: by their configs, and by the shapes of their parameters."""

from collections.abc import Collection, Mapping
from typing import Any

import jax

from posmlp_jax.checkpoints.state import parameter_name
from posmlp_jax.models.backbone import BackboneConfig


def different_fields(there: BackboneConfig, here: BackboneConfig, may_differ: Collection[str]) -> list[str]:
    """The fields, as "gate 'multiply' there, 'add' here", in which parameters of one model mean another in the other.

    Args:
      there: the one.
      here: the other.
      may_differ: fields that are not compared. What `gate_norm` means, which may be left open, is compared by itself.
    """
    if type(there) is not type(here):
        return [f"the family is {type(there).__name__} there, {type(here).__name__} here"]
    fields = [field for field in here.__dataclass_fields__ if field not in may_differ and field != "gate_norm"]
    return [
        f"{field} {getattr(there, field)!r} there, {getattr(here, field)!r} here"
        for field in (*fields, "normalizes_gate")
        if getattr(there, field) != getattr(here, field)
    ]


def different_shapes(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """The parameters, as "head.kernel (16, 5) there, (16, 4) here", that differ in shape or are missing in one.

    Args:
      there: nested dicts of arrays, or of what describes them: anything that has a `shape`.
      here: likewise.
    """
    before, now = _shapes(there), _shapes(here)
    return [
        f"{name.removeprefix('params.')} {before.get(name, 'missing')} there, {now.get(name, 'missing')} here"
        for name in sorted(before | now)
        if before.get(name) != now.get(name)
    ]


def _shapes(tree: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda leaf: hasattr(leaf, "shape"))
    return {parameter_name(path): tuple(leaf.shape) for path, leaf in leaves}
