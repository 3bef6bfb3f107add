"""What the shapes of published parameters say about the model that they belong to."""

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

from posmlp_jax.models.backbone import BackboneConfig
from posmlp_jax.models.posmlp import PosMLPConfig
from posmlp_jax.models.posmlp_video import PosMLPVideoConfig

_TABLE = "gate_unit.pos.window_relative_position_bias_table"
_CENTERS = "gate_unit.pos.attention_centers"
_SPREADS = "gate_unit.pos.attention_spreads"
_DENSE = "gate_unit.token_proj_n_weight"
_TOKEN_FC = "gate_unit.proj_list.0.weight"


@dataclasses.dataclass(frozen=True)
class _Names:
    """How a family's published names say where a parameter is.

    Attributes:
      block: the beginning of every name in a block; its groups are the level and the block's number in it.
      first_level: the number of the first level.
      branch: the beginning of the names in a block's gated branch; to be formatted with the two numbers.
      expand: the branch's first linear layer.
    """

    block: re.Pattern
    first_level: int
    branch: str
    expand: str


_IMAGE = _Names(re.compile(r"levels\.(\d+)\.encoder\.(\d+)\."), 0, "levels.{}.encoder.{}.", "proj_c_e")
_VIDEO = _Names(re.compile(r"blocks(\d+)\.(\d+)\."), 1, "blocks{}.{}.fc.encoder.", "fc1")
_VIDEO_TIME = dataclasses.replace(_VIDEO, branch="blocks{}.{}.t_fc.encoder.")
# Without a head, and of an image model.
_MAY_BE_ZERO = ("num_classes", "num_frames")


def infer_fields(shapes: Mapping[str, tuple[int, ...]], preset: BackboneConfig) -> dict[str, Any]:
    """The fields of a config that published shapes show, where they differ from the preset's.

    Widths, depths, expansions, windows (square ones), groups, the relation, whether the gate normalises, an isotropic
    covariance, and the classes; of a `PosMLPConfig` the stem's and the mergings' norm; of a `PosMLPVideoConfig` whether
    there are temporal parts, and for how many frames. What no shape shows stays the preset's: the image size, which of
    the other covariances, the gate, `token_bias` (published files hold the bias either way).

    Args:
      shapes: of the published parameters, by name. Names that are not the family's show nothing.
      preset: the model that the file is said to be.
    """
    families = {PosMLPConfig: _image_fields, PosMLPVideoConfig: _video_fields}
    if type(preset) not in families:
        return {}
    found = families[type(preset)](shapes, preset)
    # What parameters do not show, because they are missing, leaves the field the preset's.
    shown = {field: value for field, value in found.items() if field in _MAY_BE_ZERO or not _has_zero(value)}
    return {field: value for field, value in shown.items() if value != getattr(preset, field)}


class _Level:
    """The shapes of one stage's parameters, each from the first block that has it: a file may lack some."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], branch: str, level: int, depth: int):
        self._shapes, self.depth = shapes, depth
        self._blocks = [branch.format(level, block) for block in range(depth)]

    def shape(self, name: str) -> tuple[int, ...]:
        return next((self._shapes[block + name] for block in self._blocks if block + name in self._shapes), ())

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


def _image_fields(shapes: Mapping[str, tuple[int, ...]], preset: PosMLPConfig) -> dict[str, Any]:
    found = _stage_fields(_levels(shapes, _IMAGE), shapes, preset, _IMAGE)
    if found:
        found["stem_norm"] = "batch" if "patch_embed.norms.0.running_mean" in shapes else "layer"
        if len(found["widths"]) > 1:
            found["merge_norm"] = "batch" if "levels.1.pool.norm.running_mean" in shapes else "layer"
    return found


def _video_fields(shapes: Mapping[str, tuple[int, ...]], preset: PosMLPVideoConfig) -> dict[str, Any]:
    found = _stage_fields(_levels(shapes, _VIDEO), shapes, preset, _VIDEO)
    if found:
        # One for all stages: where they differ, the table says so.
        found["expansion"] = found.pop("expansions")[0]
        # A table has a row for each of the 2T − 1 offsets in time.
        rows = [level.size(_TABLE) for level in _levels(shapes, _VIDEO_TIME)]
        found["num_frames"] = (max(rows, default=0) + 1) // 2
        found["block"] = "parallel" if found["num_frames"] else "spatial"
    return found


def _levels(shapes: Mapping[str, tuple[int, ...]], names: _Names) -> list[_Level]:
    """The stages; none where the names are not the family's."""
    blocks = {(int(match[1]), int(match[2])) for name in shapes if (match := names.block.match(name))}
    numbers = sorted({level for level, _ in blocks})
    if numbers != list(range(names.first_level, names.first_level + len(numbers))):
        return []
    depths = [1 + max(block for level, block in blocks if level == number) for number in numbers]
    return [_Level(shapes, names.branch, number, depth) for number, depth in zip(numbers, depths, strict=True)]


def _stage_fields(
    levels: list[_Level], shapes: Mapping[str, tuple[int, ...]], preset: BackboneConfig, names: _Names
) -> dict[str, Any]:
    """What the families share."""
    if not levels:
        return {}
    widths = tuple(level.size("norm.weight") for level in levels)
    expanded = [level.size(f"{names.expand}.weight") for level in levels]
    found: dict[str, Any] = {
        "widths": widths,
        "depths": tuple(level.depth for level in levels),
        "expansions": tuple(size // width if width else 0 for size, width in zip(expanded, widths, strict=True)),
        "num_classes": shapes["head.weight"][0] if shapes.get("head.weight") else 0,
    }
    found |= _relation(levels)
    norm = any(level.shape("gate_unit.norm_list.0.weight") for level in levels)
    if norm != preset.replace(relation=found.get("relation", preset.relation)).normalizes_gate:
        found["gate_norm"] = norm
    found["windows"] = tuple((level.window_side, level.window_side) for level in levels)
    return found


def _relation(levels: list[_Level]) -> dict[str, Any]:
    """The kind of relation, its groups, and its covariance where the shape tells."""
    if any(level.shape(_CENTERS) for level in levels):
        found = {"relation": "gqpe", "groups": tuple(level.size(_CENTERS) for level in levels)}
        isotropic = any(len(level.shape(_SPREADS)) == 1 for level in levels)
        return found | ({"covariance": "isotropic"} if isotropic else {})
    if any(level.shape(_TABLE) for level in levels):
        kind = "lrpe_m" if any(level.shape(_DENSE) for level in levels) else "lrpe"
        return {"relation": kind, "groups": tuple(level.size(_TABLE, 1) for level in levels)}
    if any(level.shape(_TOKEN_FC) for level in levels):
        return {"relation": "dense", "groups": (1,) * len(levels)}
    return {}


def _has_zero(value) -> bool:
    return any(map(_has_zero, value)) if isinstance(value, tuple) else value == 0 and value is not False
