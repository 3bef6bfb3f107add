"""What the shapes of published parameters say about the model that they belong to."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from posmlp_jax.models.backbone import BackboneConfig
from posmlp_jax.models.posmlp import PosMLPConfig
from posmlp_jax.models.posmlp_video import PosMLPVideoConfig

_TABLE = "gate_unit.pos.window_relative_position_bias_table"
_CENTERS = "gate_unit.pos.attention_centers"
_SPREADS = "gate_unit.pos.attention_spreads"
_DENSE = "gate_unit.token_proj_n_weight"
_TOKEN_FC = "gate_unit.proj_list.0.weight"


@dataclass(frozen=True)
class _Names:
    """How a family's published names say where a parameter is.

    Attributes:
      block: the beginning of every name in a block; its groups are the level and the block's number in it.
      first_level: the number of the first level.
      branch: the beginning of the names in the gated branch over windows of a level's first block.
      expand: the branch's first linear layer.
    """

    block: re.Pattern
    first_level: int
    branch: str
    expand: str


_IMAGE = _Names(re.compile(r"levels\.(\d+)\.encoder\.(\d+)\."), 0, "levels.{}.encoder.0.", "proj_c_e")
_VIDEO = _Names(re.compile(r"blocks(\d+)\.(\d+)\."), 1, "blocks{}.0.fc.encoder.", "fc1")


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
    try:
        found = families[type(preset)](shapes, preset)
    except IndexError:  # Arrays without axes under a family's names: the table will say which.
        return {}
    return {field: value for field, value in found.items() if value != getattr(preset, field)}


def _image_fields(shapes: Mapping[str, tuple[int, ...]], preset: PosMLPConfig) -> dict[str, Any]:
    found = _stage_fields(shapes, preset, _IMAGE)
    if found:
        found["stem_norm"] = "batch" if "patch_embed.norms.0.running_mean" in shapes else "layer"
        if len(found["widths"]) > 1:
            found["merge_norm"] = "batch" if "levels.1.pool.norm.running_mean" in shapes else "layer"
    return found


def _video_fields(shapes: Mapping[str, tuple[int, ...]], preset: PosMLPVideoConfig) -> dict[str, Any]:
    found = _stage_fields(shapes, preset, _VIDEO)
    if found:
        # One for all stages: where they differ, the table says so.
        found["expansion"] = found.pop("expansions")[0]
        temporal = shapes.get("blocks1.0.t_fc.encoder." + _TABLE)
        # A table has a row for each of the 2T − 1 offsets in time.
        found["num_frames"] = (temporal[0] + 1) // 2 if temporal else 0
        found["block"] = "parallel" if temporal else "spatial"
    return found


def _stage_fields(shapes: Mapping[str, tuple[int, ...]], preset: BackboneConfig, names: _Names) -> dict[str, Any]:
    """What the families share; nothing where the names are not the family's."""
    blocks = {(int(match[1]), int(match[2])) for name in shapes if (match := names.block.match(name))}
    levels = sorted({level for level, _ in blocks})
    if not levels or levels != list(range(names.first_level, names.first_level + len(levels))):
        return {}
    first = [names.branch.format(level) for level in levels]
    has_all = all(f"{name}{part}.weight" in shapes for name in first for part in ("norm", names.expand))
    if not has_all:
        return {}
    widths = tuple(shapes[f"{name}norm.weight"][0] for name in first)
    found: dict[str, Any] = {
        "widths": widths,
        "depths": tuple(sum(level == block[0] for block in blocks) for level in levels),
        "expansions": tuple(
            shapes[f"{name}{names.expand}.weight"][0] // width for name, width in zip(first, widths, strict=True)
        ),
        "num_classes": shapes["head.weight"][0] if "head.weight" in shapes else 0,
    }
    norm = f"{first[0]}gate_unit.norm_list.0.weight" in shapes
    found |= _relation(shapes, first)
    if norm != preset.replace(relation=found.get("relation", preset.relation)).normalizes_gate:
        found["gate_norm"] = norm
    windows = [_square(shapes, name) for name in first]
    if all(windows):
        found["windows"] = tuple((side, side) for side in windows)
    return found


def _relation(shapes: Mapping[str, tuple[int, ...]], first: list[str]) -> dict[str, Any]:
    """The kind of relation, its groups, and its covariance where the shape tells."""
    if first[0] + _CENTERS in shapes:
        found = {"relation": "gqpe", "groups": tuple(shapes[name + _CENTERS][0] for name in first)}
        return found | ({"covariance": "isotropic"} if len(shapes.get(first[0] + _SPREADS, ())) == 1 else {})
    if first[0] + _TABLE in shapes:
        kind = "lrpe_m" if first[0] + _DENSE in shapes else "lrpe"
        return {"relation": kind, "groups": tuple(shapes[name + _TABLE][1] for name in first)}
    if first[0] + _TOKEN_FC in shapes:
        return {"relation": "dense", "groups": (1,) * len(first)}
    return {}


def _square(shapes: Mapping[str, tuple[int, ...]], block: str) -> int:
    """The side of a block's windows, from its token bias; 0 if they are not square or there is no such bias."""
    bias = shapes.get(f"{block}gate_unit.pos.token_proj_n_bias") or shapes.get(f"{block}gate_unit.proj_list.0.bias")
    tokens = math.prod(bias) if bias else 0
    side = math.isqrt(tokens)
    return side if side * side == tokens else 0
