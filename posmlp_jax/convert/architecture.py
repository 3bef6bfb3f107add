"""What the shapes of published parameters say about the model that they belong to."""

import math
import re
from collections.abc import Mapping
from typing import Any

from posmlp_jax.models.posmlp import PosMLPConfig

_BLOCK = re.compile(r"levels\.(\d+)\.encoder\.(\d+)\.")
_TABLE = "gate_unit.pos.window_relative_position_bias_table"
_CENTERS = "gate_unit.pos.attention_centers"
_SPREADS = "gate_unit.pos.attention_spreads"
_DENSE = "gate_unit.token_proj_n_weight"
_TOKEN_FC = "gate_unit.proj_list.0.weight"


def infer_fields(shapes: Mapping[str, tuple[int, ...]], preset: PosMLPConfig) -> dict[str, Any]:
    """The fields of a `PosMLPConfig` that published shapes show, where they differ from the preset's.

    Widths, depths, expansions, windows (square ones), groups, the relation, the stem's and the mergings' norm, whether
    the gate normalises, an isotropic covariance, and the classes. What no shape shows stays the preset's: the image
    size, which of the other covariances, the gate, `token_bias` (published files hold the bias either way).

    Args:
      shapes: of the published parameters, by name. Names that are not PosMLP's show nothing.
      preset: the model that the file is said to be.
    """
    blocks = {(int(match[1]), int(match[2])) for name in shapes if (match := _BLOCK.match(name))}
    depths = tuple(1 + max(block for level, block in blocks if level == one) for one in sorted({n for n, _ in blocks}))
    if not depths or {level for level, _ in blocks} != set(range(len(depths))):
        return {}
    levels = [_Level(shapes, level, depth) for level, depth in enumerate(depths)]
    found: dict[str, Any] = {
        "widths": tuple(level.size("norm.weight") for level in levels),
        "depths": depths,
        "num_classes": shapes["head.weight"][0] if shapes.get("head.weight") else 0,
        "stem_norm": "batch" if "patch_embed.norms.0.running_mean" in shapes else "layer",
    }
    if 0 not in found["widths"]:
        expanded = [level.size("proj_c_e.weight") for level in levels]
        found["expansions"] = tuple(size // width for size, width in zip(expanded, found["widths"], strict=True))
    if len(levels) > 1:
        found["merge_norm"] = "batch" if "levels.1.pool.norm.running_mean" in shapes else "layer"
    found |= _relation(levels)
    norm = any(level.has("gate_unit.norm_list.0.weight") for level in levels)
    if norm != preset.replace(relation=found.get("relation", preset.relation)).normalizes_gate:
        found["gate_norm"] = norm
    found["windows"] = tuple((level.window_side, level.window_side) for level in levels)
    # What a level's parameters do not show, because they are missing, makes the field the preset's.
    shown = {field: value for field, value in found.items() if field == "num_classes" or not _has_zero(value)}
    return {field: value for field, value in shown.items() if value != getattr(preset, field)}


class _Level:
    """The parameters of one stage, each from the first block that has it: a file may lack some."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], level: int, depth: int):
        self._shapes = shapes
        self._blocks = [f"levels.{level}.encoder.{block}." for block in range(depth)]

    def shape(self, name: str) -> tuple[int, ...]:
        return next((self._shapes[block + name] for block in self._blocks if block + name in self._shapes), ())

    def has(self, name: str) -> bool:
        return bool(self.shape(name))

    def size(self, name: str, axis: int = 0) -> int:
        """The size of an axis; 0 where no block has the parameter."""
        shape = self.shape(name)
        return shape[axis] if len(shape) > axis else 0

    @property
    def window_side(self) -> int:
        """The side of the windows, from the token bias; 0 if they are not square or there is no such bias."""
        tokens = math.prod(self.shape("gate_unit.pos.token_proj_n_bias") or self.shape("gate_unit.proj_list.0.bias"))
        side = math.isqrt(tokens)
        return side if side > 1 and side * side == tokens else 0


def _relation(levels: list[_Level]) -> dict[str, Any]:
    """The kind of relation, its groups, and its covariance where the shape tells."""
    if any(level.has(_CENTERS) for level in levels):
        found = {"relation": "gqpe", "groups": tuple(level.size(_CENTERS) for level in levels)}
        isotropic = any(len(level.shape(_SPREADS)) == 1 for level in levels)
        return found | ({"covariance": "isotropic"} if isotropic else {})
    if any(level.has(_TABLE) for level in levels):
        kind = "lrpe_m" if any(level.has(_DENSE) for level in levels) else "lrpe"
        return {"relation": kind, "groups": tuple(level.size(_TABLE, 1) for level in levels)}
    if any(level.has(_TOKEN_FC) for level in levels):
        return {"relation": "dense", "groups": (1,) * len(levels)}
    return {}


def _has_zero(value) -> bool:
    return any(map(_has_zero, value)) if isinstance(value, tuple) else value == 0 and value is not False
