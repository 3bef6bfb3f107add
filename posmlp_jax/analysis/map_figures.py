"""Relation maps of all blocks and groups as tiles of one picture, of one model or of several side by side."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from posmlp_jax.analysis.learned import relation_maps
from posmlp_jax.analysis.units import Place, Unit, center, main_stage, units_of
from posmlp_jax.errors import ConfigError
from posmlp_jax.figures import FONT
from posmlp_jax.models.backbone import Backbone

# Colour maps of values of either sign, zero in the middle, and of others. What is between tiles, and frames.
SIGNED, POSITIVE, GAP = "RdBu_r", "viridis", "#d9d9d9"
# A query's dot, which is told apart by all eyes on both of these colour maps.
_QUERY, _RIM = "#ff2d8d", "white"


def draw_relation_maps(
    model: Backbone,
    *,
    stage: int | None = None,
    block: int | None = None,
    part: str | None = None,
    query: Sequence[int] | None = None,
) -> Figure:
    """What one query takes from each token of its window, in all blocks and groups of a stage (Figures 1 d–e, 4).

    Weights that the softmax makes are relative to the largest of their tile, those of either sign to the largest
    magnitude in their block. Of relations over frames each tile is the whole matrix, a row for each query's frame; of
    joint ones the tile has the frames below one another.

    Args:
      model: of any family and relation.
      stage: from 1; None: the one with the most blocks.
      block: only this one of the stage, from 1.
      part: 'temporal', 'spatial' or 'joint'; None: 'spatial', or 'joint' where there is no such.
      query: its place in the window, from 0: (row, column) or, if joint, (frame, row, column); None: the middle.
        Relations over frames are shown of all.

    Raises:
      ConfigError: for a stage, block or query that there is not, or a query of relations over frames.
      MissingRelationError: if the model has no such part.
    """
    units = units_of(model, stage, part, block)
    if query is not None and units[0].part == "temporal":
        raise ConfigError(
            f"relations over frames are shown of all queries; leave query {','.join(map(str, query))} out"
        )
    groups = range(1, units[0].relation.groups + 1)
    tiles = [_tiles(unit, query) for unit in units]
    columns = _columns(units)
    lines = -(-len(groups) // columns)
    height, width = tiles[0].shape[1:]
    side = min(0.9, 11 / columns)
    figure = Figure(
        figsize=(max(side * columns, 3.6) + 1.6, side * height / width * lines * len(units) + 1.1), layout="constrained"
    )
    axes = figure.subplots()
    _draw_tiles(axes, units, tiles, list(groups), query, columns)
    _colour_bar(axes)
    axes.set_title(f"{_about(units[0])}: {_whose(units[0], query)}", fontsize=FONT + 1, loc="left")
    return figure


def draw_comparison(
    models: Mapping[str, Backbone],
    *,
    stage: int | None = None,
    query: Sequence[int] | None = None,
    groups: int = 6,
    blocks: int = 9,
) -> Figure:
    """Relation maps of several models side by side: Figure 4 for αI, Γ and ΓΓᵀ, Figure 1 d–e for SGU and PoSGU.

    Args:
      models: by what stands above them.
      stage: from 1; None: the one with the most blocks in the first model.
      query: as in `draw_relation_maps`.
      groups: how many at most, evenly spread.
      blocks: how many at most, evenly spread.

    Raises:
      ConfigError: for a stage or query that there is not in one of the models, or none of them.
    """
    if not models:
        raise ConfigError("there are no models to compare")
    stage = main_stage(next(iter(models.values()))) if stage is None else stage
    shown = {}
    for name, model in models.items():
        try:
            units = spread(units_of(model, stage, None), blocks)
            numbers = spread(range(1, units[0].relation.groups + 1), groups)
            shown[name] = units, [_tiles(unit, query)[np.array(numbers) - 1] for unit in units], numbers
        except ConfigError as error:
            raise type(error)(f"{name}: {error}") from error
    columns = len(models) if len(models) < 4 else 2
    rows = -(-len(models) // columns)
    across = max(len(numbers) for _, _, numbers in shown.values())
    down = max(len(units) for units, _, _ in shown.values())
    size = columns * (0.62 * across + 0.9), rows * (0.66 * down + 0.6) + 0.4
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(f"stage {stage}", fontsize=FONT + 1)
    every = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, (name, (units, tiles, numbers)) in zip(every, shown.items(), strict=False):
        _draw_tiles(axes, units, tiles, numbers, query, len(numbers))
        axes.set_title(name, fontsize=FONT + 1, parse_math=False)
    for axes in every[len(models) :]:
        axes.set_axis_off()
    return figure


def spread(items: Sequence, count: int) -> list:
    """At most `count` of them, evenly spread, the first and the last among them."""
    if count < 1:
        raise ConfigError(f"{count} to show? it should be 1 or more")
    chosen = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return [items[index] for index in chosen]


def with_lines(frames: np.ndarray, axis: int) -> list[np.ndarray]:
    """The frames of `[…, frames, rows, columns]`, each but the last with a line of nothing at its end along an axis."""
    *others, last = np.moveaxis(frames, -3, 0)
    pads = [(0, int(each == axis)) for each in range(frames.ndim) if each != frames.ndim - 3]
    return [*(np.pad(each, pads, constant_values=np.nan) for each in others), last]


def _about(unit: Unit) -> str:
    over = {"temporal": " over frames", "joint": " over frames and windows", "spatial": ""}[unit.part]
    return f"stage {unit.stage}, relations{over}"


def _whose(unit: Unit, query: Sequence[int] | None) -> str:
    if unit.part == "temporal":
        return "queries' frames down, keys' across"
    place = center(unit.relation.grid) if query is None else query
    return f"the query at {', '.join(map(str, place))}"


def _tiles(unit: Unit, query: Sequence[int] | None) -> np.ndarray:
    """One picture a group, [groups, height, width]."""
    grid = unit.relation.grid
    if unit.part == "temporal":
        return relation_maps(unit, [(frame,) for frame in range(grid[0])]).swapaxes(0, 1)
    (maps,) = relation_maps(unit, None if query is None else [tuple(query)])
    return maps if len(grid) == 2 else np.concatenate(with_lines(maps, axis=2), axis=1)


def _draw_tiles(
    axes: Axes,
    units: Sequence[Unit],
    tiles: Sequence[np.ndarray],
    groups: Sequence[int],
    query: Sequence[int] | None,
    columns: int,
) -> None:
    """All tiles as one picture: a block's below the one before, its groups side by side, `columns` in a line."""
    signed = min(map(np.nanmin, tiles)) < 0
    height, width = tiles[0].shape[1:]
    gap = max(1, round(width / 10))
    lines = -(-len(groups) // columns)
    picture = np.full((len(units) * lines * (height + gap) - gap, columns * (width + gap) - gap), np.nan)
    corners = {}
    for block, of_block in enumerate(tiles):
        for number, tile in enumerate(of_block):
            line, column = divmod(number, columns)
            top, left = (block * lines + line) * (height + gap), column * (width + gap)
            largest = np.nanmax(np.abs(of_block if signed else tile))
            picture[top : top + height, left : left + width] = tile / (largest or 1)
            corners[block, number] = top, left
    axes.set_facecolor(GAP)
    norm = Normalize(-1 if signed else 0, 1)
    axes.imshow(picture, cmap=SIGNED if signed else POSITIVE, norm=norm, interpolation="nearest")
    if units[0].part != "temporal":
        _mark(axes, units[0].relation.grid, query, list(corners.values()))
    axes.set_xticks([corners[0, n][1] + (width - 1) / 2 for n in range(columns)], [str(n) for n in groups[:columns]])
    names = [
        f"block {unit.block}" if line == 0 else f"groups from {groups[line * columns]}"
        for unit in units
        for line in range(lines)
    ]
    ticks = [
        corners[block, line * columns][0] + (height - 1) / 2 for block in range(len(units)) for line in range(lines)
    ]
    axes.set_yticks(ticks, names)
    axes.tick_params(length=0, labelsize=FONT - 1)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("group", fontsize=FONT)


def _colour_bar(axes: Axes) -> None:
    """Of tiles, beside their upper end."""
    share = min(1, 2.2 / (axes.figure.get_figheight() - 1))
    bar = axes.figure.colorbar(axes.get_images()[0], cax=axes.inset_axes((1.012, 1 - share, 0.012, share)))
    bar.set_label("relative weight", fontsize=FONT - 1)
    bar.ax.tick_params(labelsize=FONT - 1)


def _columns(units: Sequence[Unit]) -> int:
    """How many groups stand side by side: more where there are many blocks."""
    return min(units[0].relation.groups, 32 if len(units) > 2 else 16)


def _mark(axes: Axes, grid: Place, query: Sequence[int] | None, corners: Sequence[tuple[int, int]]) -> None:
    """A dot on the query's token in every tile."""
    place = center(grid) if query is None else tuple(query)
    row = place[-2] + (place[0] * (grid[1] + 1) if len(grid) == 3 else 0)
    top, left = np.transpose(corners)
    # In points, of which an inch has 72.
    inches = axes.figure.get_figwidth() / axes.get_subplotspec().get_gridspec().ncols
    token = 72 * inches / axes.get_images()[0].get_array().shape[1]
    size = np.clip(0.4 * token, 1.5, 5) ** 2
    axes.scatter(left + place[-1], top + row, s=size, color=_QUERY, edgecolors=_RIM, linewidths=0.4, zorder=3)
