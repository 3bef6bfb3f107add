"""A model's gating units by stage, block and part, and the places in their grids and maps.

Stages, blocks and groups count from 1, as in the papers; rows, columns and frames from 0, as in arrays.
"""

import operator
from collections.abc import Sequence
from dataclasses import dataclass

from flax import nnx

from posmlp_jax.errors import ConfigError
from posmlp_jax.gating import GatingUnit
from posmlp_jax.models.backbone import Backbone
from posmlp_jax.relations import (
    DenseRelation,
    FoldedRelation,
    LearnedRelation,
    QuadraticRelation,
    Relation,
    SumRelation,
)

# What a unit mixes: tokens at one place in all frames (PoTGU), of a window of one frame (PoSGU), of both (PoSTGU).
PARTS = ("temporal", "spatial", "joint")
NAMES = {QuadraticRelation: "gqpe", LearnedRelation: "lrpe", SumRelation: "lrpe_m", DenseRelation: "dense"}
_AXES = {1: ("frames",), 2: ("rows", "columns"), 3: ("frames", "rows", "columns")}

Place = tuple[int, ...]


class MissingRelationError(ConfigError):
    """A figure of what a model does not have: no other choice of block or query would give it."""


@dataclass(frozen=True)
class Unit:
    """A gating unit, and where it is in its model.

    Attributes:
      stage, block: from 1, blocks within their stage.
      part: one of `PARTS`; units of image models are spatial.
      gate: the unit.
      path: how it is reached from the model, attribute by attribute.
    """

    stage: int
    block: int
    part: str
    gate: GatingUnit
    path: tuple[str | int, ...]

    @property
    def name(self) -> str:
        """As 'stage 3, block 5'; units over frames say so."""
        over = "" if self.part == "spatial" else f", {self.part}"
        return f"stage {self.stage}, block {self.block}{over}"

    @property
    def relation(self) -> Relation:
        """Its relation, with parameters also where the model is folded."""
        relation = self.gate.relation
        return relation.relation if isinstance(relation, FoldedRelation) else relation

    def relation_of(self, kind: type, what: str) -> Relation:
        """The relation, of a class that a figure needs.

        Args:
          kind: the class.
          what: is of such relations alone, for the message.

        Raises:
          MissingRelationError: if it is of another.
        """
        if not isinstance(self.relation, kind):
            raise MissingRelationError(
                f"{what} of models with relation '{NAMES[kind]}', and this one's is '{NAMES[type(self.relation)]}'"
            )
        return self.relation


def find_units(
    model: Backbone, *, stage: int | None = None, block: int | None = None, part: str | None = None
) -> list[Unit]:
    """The gating units of a model, from its first block to its last.

    Args:
      model: of any family.
      stage: those of one stage, from 1.
      block: those of one block of that stage, from 1.
      part: one of `PARTS`.

    Raises:
      ConfigError: for a stage or block that there is not, or a block of no stage.
      MissingRelationError: if the model has no such part.
    """
    if stage is not None:
        check_number("stage", stage, len(model.stages), "the model")
        if block is not None:
            check_number("block", block, len(model.stages[stage - 1].blocks), f"stage {stage}")
    elif block is not None:
        raise ConfigError(f"block {block} of which stage? they are 1 to {len(model.stages)}")
    units = [
        Unit(s, b, _part(gate), gate, ("stages", s - 1, "blocks", b - 1, *path))
        for s, whole in enumerate(model.stages, start=1)
        for b, of_stage in enumerate(whole.blocks, start=1)
        for path, gate in sorted(_gates(of_stage), key=lambda pair: PARTS.index(_part(pair[1])))
        if stage in (None, s) and block in (None, b) and part in (None, _part(gate))
    ]
    if not units:
        there = " and ".join(sorted({each.part for each in find_units(model)}))
        raise MissingRelationError(f"the model has no {part} relations; its are {there}")
    return units


def main_stage(model: Backbone) -> int:
    """The number of the stage with the most blocks, the first of equals: where figures of one stage look."""
    depths = [len(stage.blocks) for stage in model.stages]
    return depths.index(max(depths)) + 1


def units_of(model: Backbone, stage: int | None, part: str | None, block: int | None = None) -> list[Unit]:
    """`find_units` of one stage and one part: None is the stage with the most blocks, and `default_part`."""
    part = default_part(model) if part is None else part
    return find_units(model, stage=main_stage(model) if stage is None else stage, block=block, part=part)


def default_part(model: Backbone) -> str:
    """What figures of one part show: 'spatial', or 'joint' where there is no other."""
    return "joint" if {unit.part for unit in find_units(model)} == {"joint"} else "spatial"


def center(size: Sequence[int]) -> Place:
    """The place in the middle of a grid or a map."""
    return tuple(side // 2 for side in size)


def check_number(what: str, number: int, count: int, whole: str) -> None:
    """Raises a ConfigError, with the range, unless `whole` has a `what` of this number, from 1."""
    if not 1 <= number <= count:
        there = f"{what}s 1 to {count}" if count > 1 else f"{what} 1 alone"
        raise ConfigError(f"there is no {what} {number}: {whole} has {there}")


def check_place(place: Sequence[int], size: Sequence[int], what: str) -> Place:
    """The place as a tuple of integers.

    Args:
      place: along each axis, from 0.
      size: of the grid or map that it should be in.
      what: has this size, for the message, as 'the window of stage 3'.

    Raises:
      ConfigError: with the ranges, unless it is in there; for what is no place, as a number alone.
    """
    axes = _AXES[len(size)]
    try:
        place = tuple(map(operator.index, place))
    except TypeError as error:
        raise ConfigError(f"{place!r} is no place in {what}; give integers for its {' and '.join(axes)}") from error
    if len(place) != len(size) or not all(0 <= at < side for at, side in zip(place, size, strict=True)):
        ranges = " and ".join(f"{name} 0 to {side - 1}" for name, side in zip(axes, size, strict=True))
        raise ConfigError(f"there is no place {','.join(map(str, place))} in {what}, which has {ranges}")
    return place


def _gates(block: nnx.Module) -> list[tuple[tuple, GatingUnit]]:
    return [(path, module) for path, module in nnx.iter_modules(block) if isinstance(module, GatingUnit)]


def _part(gate: GatingUnit) -> str:
    return "temporal" if gate.over_frames else "joint" if len(gate.relation.grid) == 3 else "spatial"
