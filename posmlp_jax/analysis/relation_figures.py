"""Figures of what relations have learned, drawn from the arrays of `learned`.

Colours have zero in their middle where values have both signs, and one scale wherever tiles are to be compared.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Ellipse
from matplotlib.ticker import MaxNLocator

from posmlp_jax.analysis.learned import (
    frame_offsets,
    gaussians,
    lrpe_m_parts,
    non_locality,
    relation_maps,
    temporal_table,
    token_bias,
)
from posmlp_jax.analysis.units import (
    MissingRelationError,
    Place,
    Unit,
    center,
    check_place,
    find_units,
    main_stage,
)
from posmlp_jax.errors import ConfigError
from posmlp_jax.figures import FONT
from posmlp_jax.models.backbone import Backbone

SIGNED, POSITIVE = "RdBu_r", "viridis"
# Both are told apart by all eyes, and on both of these colour maps.
_QUERY, _RIM = "#ff2d8d", "white"
_BLUE, _ORANGE = "#0072b2", "#d55e00"
# Panels in a row, and blocks of a figure that cannot show all.
_ROW, _FEW = 6, 6


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

    Raises:
      ConfigError: for a stage, block or query that there is not.
      MissingRelationError: if the model has no such part.
    """
    units = _units_of(model, stage, part, block)
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
      stage: from 1; None: the one with the most blocks.
      query: as in `draw_relation_maps`.
      groups: how many at most, evenly spread.
      blocks: how many at most, evenly spread.

    Raises:
      ConfigError: for a stage or query that there is not in one of the models, or none of them.
    """
    if not models:
        raise ConfigError("there are no models to compare")
    shown = {}
    for name, model in models.items():
        try:
            units = _spread(_units_of(model, stage, None), blocks)
            numbers = _spread(range(1, units[0].relation.groups + 1), groups)
            shown[name] = units, [_tiles(unit, query)[np.array(numbers) - 1] for unit in units], numbers
        except ConfigError as error:
            raise type(error)(f"{name}: {error}") from error
    widths = [len(numbers) for _, _, numbers in shown.values()]
    rows = max(len(units) for units, _, _ in shown.values())
    figure = Figure(figsize=(0.62 * sum(widths) + 1.1 * len(models), 0.66 * rows + 1.0), layout="constrained")
    every = figure.subplots(1, len(models), squeeze=False, gridspec_kw={"width_ratios": widths})[0]
    for axes, (name, (units, tiles, numbers)) in zip(every, shown.items(), strict=True):
        _draw_tiles(axes, units, tiles, numbers, query, len(numbers))
        axes.set_title(name, fontsize=FONT + 1, parse_math=False)
    return figure


def draw_gaussians(model: Backbone) -> Figure:
    """The Gaussians of Eq. 5 around the query, groups as ellipses of one standard deviation with dots at Δ.

    Raises:
      MissingRelationError: for a model with another relation than 'gqpe', or without windows in space.
    """
    units = find_units(model, part="spatial")
    found = [gaussians(unit) for unit in units]
    figure = Figure(figsize=_panels(len(units), 1.9, 2.15), layout="constrained")
    for axes, unit, each in zip(_subplots(figure, len(units)), units, found, strict=False):
        of_stage = [other for other, one in zip(found, units, strict=True) if one.stage == unit.stage]
        limit = _limit(of_stage, max(unit.relation.grid) - 1)
        axes.axhline(0, color="#999999", linewidth=0.5)
        axes.axvline(0, color="#999999", linewidth=0.5)
        outside = 0
        for peak, covariance in zip(each.peaks, each.covariances, strict=True):
            if np.isnan(peak).any():
                outside += 1
                continue
            variances, directions = np.linalg.eigh(covariance)
            # Matplotlib's x is our last axis; y points down, as rows do.
            angle = np.degrees(np.arctan2(directions[0, 1], directions[1, 1]))
            size = 2 * np.sqrt(variances)
            axes.add_patch(
                Ellipse(peak[::-1], size[1], size[0], angle=angle, fill=False, color=_BLUE, alpha=0.55, linewidth=0.8)
            )
        axes.plot(each.centers[:, 1], each.centers[:, 0], ".", color=_ORANGE, markersize=3, linestyle="none")
        axes.plot(0, 0, "+", color="black", markersize=6)
        axes.set(xlim=(-limit, limit), ylim=(limit, -limit), aspect="equal")
        axes.set_title(unit.name + (f"\n{outside} without a peak" if outside else ""), fontsize=FONT)
        axes.tick_params(labelsize=FONT - 1)
    figure.supxlabel("columns from the query, in tokens", fontsize=FONT)
    figure.supylabel("rows", fontsize=FONT)
    return figure


def draw_non_locality(models: Backbone | Mapping[str, Backbone]) -> Figure:
    """g(Σ̃) of Eq. 16 over the blocks (Figure 8): the smaller, the further a block looks.

    Args:
      models: one, or several by name.

    Raises:
      MissingRelationError: for a model with another relation than 'gqpe', or without windows in space.
    """
    named = {"": models} if isinstance(models, Backbone) else models
    figure = Figure(figsize=(7.5, 3.0), layout="constrained")
    axes = figure.subplots()
    for number, (name, model) in enumerate(named.items()):
        units = find_units(model, part="spatial")
        values = [non_locality(unit) for unit in units]
        places = np.arange(1, len(units) + 1)
        label = name or None
        axes.plot(
            places, [each.value for each in values], f"-{'os^Dv'[number % 5]}", color=f"C{number}", label=label, ms=4
        )
        borders = [at + 0.5 for at in places[:-1] if units[at - 1].stage != units[at].stage]
        for border in borders:
            axes.axvline(border, color=f"C{number}", linewidth=0.7, linestyle=":")
        if number == 0:
            starts, ends = [0.5, *borders], [*borders, len(units) + 0.5]
            for stage, (start, end) in enumerate(zip(starts, ends, strict=True), start=1):
                axes.text(
                    (start + end) / 2,
                    1.01,
                    f"stage {stage}" if end - start > 0.12 * len(units) else f"{stage}",
                    transform=axes.get_xaxis_transform(),
                    ha="center",
                    fontsize=FONT,
                )
    axes.set_xlabel("block", fontsize=FONT)
    axes.set_ylabel(r"$g(\tilde{\Sigma})$, less is less local", fontsize=FONT)
    axes.set_ylim(0, 1.1 * axes.get_ylim()[1])
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.tick_params(labelsize=FONT)
    axes.grid(alpha=0.3)
    if len(named) > 1:
        axes.legend(fontsize=FONT)
    return figure


def draw_token_biases(model: Backbone, *, part: str | None = None) -> Figure:
    """The bias b of Eq. 15 in every block, one scale a stage (Figure 5).

    Of joint relations, which have one for each token of all frames, those of the frames are side by side; of relations
    over frames each is one line.

    Args:
      model: of any family and relation.
      part: as in `draw_relation_maps`.

    Raises:
      MissingRelationError: if the model has no such biases, or no such part.
    """
    units = find_units(model, part=_default_part(model) if part is None else part)
    if token_bias(units[0]) is None:
        raise MissingRelationError("the model has no token biases: its token_bias is False")
    stages = [[unit for unit in units if unit.stage == stage] for stage in sorted({unit.stage for unit in units})]
    columns = min(max(map(len, stages)), _ROW)
    shapes = [_flat(token_bias(of_stage[0])).shape for of_stage in stages]
    heights = [
        -(-len(of_stage) // columns) * (max(1.35 * min(height / width, 1), 0.5) + 0.35) + 0.1
        for of_stage, (height, width) in zip(stages, shapes, strict=True)
    ]
    figure = Figure(figsize=(1.5 * columns + 1.2, sum(heights)), layout="constrained")
    parts = figure.subfigures(len(stages), 1, height_ratios=heights, squeeze=False)[:, 0]
    for subfigure, of_stage in zip(parts, stages, strict=True):
        biases = [_flat(token_bias(unit)) for unit in of_stage]
        colours = _colours(biases)
        axes = _subplots(subfigure, len(of_stage), columns)
        for each, unit, bias in zip(axes, of_stage, biases, strict=False):
            image = each.imshow(bias, interpolation="nearest", aspect="auto" if len(bias) == 1 else None, **colours)
            each.set_title(unit.name.removesuffix(f", {unit.part}"), fontsize=FONT - 1)
            each.set(xticks=[], yticks=[])
        bar = subfigure.colorbar(image, cax=image.axes.inset_axes((1.06, 0, 0.07, 1)))
        bar.locator = MaxNLocator(3)
        bar.ax.tick_params(labelsize=FONT - 1)
    return figure


def draw_lrpe_m(
    model: Backbone, *, stage: int | None = None, group: int = 1, query: Sequence[int] | None = None
) -> Figure:
    """W, r and W + r of Eq. 10, and their rows at one query, for some blocks of a stage (Figure 7).

    Args:
      model: with relation 'lrpe_m'.
      stage: from 1; None: the one with the most blocks.
      group: from 1.
      query: its place in the window, from 0; None: the middle.

    Raises:
      MissingRelationError: for a model with another relation.
      ConfigError: for a stage, group or query that there is not.
    """
    units = _spread(_units_of(model, stage, None), _FEW)
    grid = units[0].relation.grid
    place = center(grid) if query is None else check_place(query, grid, f"the window of {units[0].name}")
    row = int(np.ravel_multi_index(place, grid))
    names = ("W", "r", "W + r")
    figure = Figure(figsize=(9.5, 1.95 * len(units) + 0.4), layout="constrained")
    every = figure.subplots(len(units), 4, squeeze=False, gridspec_kw={"width_ratios": (1, 1, 1, 1.7)})
    for axes, unit in zip(every, units, strict=True):
        parts = lrpe_m_parts(unit, group)
        colours = _colours(parts)
        for axis, name, matrix, colour in zip(axes, names, parts, (_ORANGE, _BLUE, "black"), strict=False):
            image = axis.imshow(matrix, interpolation="nearest", **colours)
            axis.axhline(row, color="black", linewidth=0.6, linestyle=":")
            axis.set_title(name, fontsize=FONT)
            axis.tick_params(labelsize=FONT - 2)
            axes[3].plot(matrix[row], color=colour, linewidth=1.2 if name == "W + r" else 0.9, label=name, alpha=0.85)
        axes[0].set_ylabel(f"{unit.name}\nquery", fontsize=FONT)
        figure.colorbar(image, ax=axes[2], shrink=0.85).ax.tick_params(labelsize=FONT - 2)
        axes[3].set_title(f"row {row}: the query at {', '.join(map(str, place))}", fontsize=FONT)
        axes[3].tick_params(labelsize=FONT - 2)
        axes[3].grid(alpha=0.3)
    every[0, 3].legend(fontsize=FONT - 1, loc="upper right")
    every[-1, 3].set_xlabel("key", fontsize=FONT)
    return figure


def draw_temporal_tables(model: Backbone) -> Figure:
    """The weights of frames by their offset from the query's, in all groups and blocks; one scale a stage.

    Raises:
      MissingRelationError: for a model without relations over frames, or with another relation than 'lrpe'.
    """
    parts = {unit.part for unit in find_units(model)}
    units = find_units(model, part="joint" if "joint" in parts else "temporal")
    tables = [temporal_table(unit) for unit in units]
    width, height = _panels(len(units), 2.0, 1.9)
    figure = Figure(figsize=(width + 0.5, height), layout="constrained")
    for axes, unit, table in zip(_subplots(figure, len(units)), units, tables, strict=False):
        colours = _colours([each for each, one in zip(tables, units, strict=True) if one.stage == unit.stage])
        offsets = frame_offsets(unit)
        image = axes.imshow(
            table,
            aspect="auto",
            interpolation="nearest",
            extent=(offsets[0] - 0.5, offsets[-1] + 0.5, len(table) + 0.5, 0.5),
            **colours,
        )
        axes.set_title(unit.name.removesuffix(f", {unit.part}"), fontsize=FONT)
        axes.yaxis.get_major_locator().set_params(integer=True)
        axes.tick_params(labelsize=FONT - 1)
        figure.colorbar(image, ax=axes, shrink=0.9).ax.tick_params(labelsize=FONT - 2)
    figure.supxlabel("the key's frame minus the query's", fontsize=FONT)
    figure.supylabel("group", fontsize=FONT)
    return figure


def _units_of(model: Backbone, stage: int | None, part: str | None, block: int | None = None) -> list[Unit]:
    part = _default_part(model) if part is None else part
    return find_units(model, stage=main_stage(model) if stage is None else stage, block=block, part=part)


def _default_part(model: Backbone) -> str:
    return "joint" if {unit.part for unit in find_units(model)} == {"joint"} else "spatial"


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
    return maps.reshape(len(maps), -1, grid[-1])


def _flat(bias: np.ndarray) -> np.ndarray:
    """A bias as one picture: a line over frames, or the windows of all frames side by side."""
    return bias[None] if bias.ndim == 1 else bias if bias.ndim == 2 else np.concatenate(list(bias), axis=1)


def _draw_tiles(
    axes: Axes,
    units: Sequence[Unit],
    tiles: Sequence[np.ndarray],
    groups: Sequence[int],
    query: Sequence[int] | None,
    columns: int,
) -> None:
    """All tiles as one picture: a block's below the one before, its groups side by side, `columns` in a line."""
    signed = min(tile.min() for tile in tiles) < 0
    height, width = tiles[0].shape[1:]
    gap = max(1, round(width / 10))
    lines = -(-len(groups) // columns)
    picture = np.full((len(units) * lines * (height + gap) - gap, columns * (width + gap) - gap), np.nan)
    corners = {}
    for block, of_block in enumerate(tiles):
        for number, tile in enumerate(of_block):
            line, column = divmod(number, columns)
            top, left = (block * lines + line) * (height + gap), column * (width + gap)
            largest = np.abs(of_block if signed else tile).max()
            picture[top : top + height, left : left + width] = tile / (largest or 1)
            corners[block, number] = top, left
    axes.set_facecolor("#d9d9d9")  # Between the tiles.
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
    row = place[-2] + (place[0] * grid[1] if len(grid) == 3 else 0)
    top, left = np.transpose(corners)
    token = axes.figure.get_figwidth() * 72 / axes.get_images()[0].get_array().shape[1]
    size = np.clip(0.4 * token, 1.5, 5) ** 2
    axes.scatter(left + place[-1], top + row, s=size, color=_QUERY, edgecolors=_RIM, linewidths=0.4, zorder=3)


def _colours(values: Sequence[np.ndarray]) -> dict:
    """A colour map and its range for values that are compared: zero in the middle where they have both signs."""
    low, high = min(map(np.min, values)), max(map(np.max, values))
    if low < 0 < high:
        largest = max(-low, high)
        return {"cmap": SIGNED, "vmin": -largest, "vmax": largest}
    return {"cmap": POSITIVE, "vmin": low, "vmax": high}


def _limit(found: Sequence, most: int) -> float:
    """How far from the query most ellipses of a stage reach, in tokens, at least 2 and at most `most`."""
    reach = [np.abs(each.peaks) + np.sqrt(np.diagonal(each.covariances, axis1=1, axis2=2)) for each in found]
    reach = np.concatenate(reach)
    reach = reach[~np.isnan(reach)]
    return float(np.clip(np.quantile(reach, 0.9) * 1.15 if reach.size else most, min(2, most), max(most, 1)))


def _spread(items: Sequence, count: int) -> list:
    """At most `count` of them, evenly spread, the first and the last among them."""
    if count < 1:
        raise ConfigError(f"{count} to show? it should be 1 or more")
    chosen = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return [items[index] for index in chosen]


def _panels(count: int, width: float, height: float) -> tuple[float, float]:
    """Inches of a figure with this many panels."""
    return width * min(count, _ROW), height * -(-count // _ROW) + 0.3


def _subplots(figure: Figure | SubFigure, count: int, columns: int | None = None) -> list[Axes]:
    """As many axes in rows, and of the last row those that are too many hidden, at the end."""
    columns = min(count, _ROW) if columns is None else columns
    axes = list(figure.subplots(-(-count // columns), columns, squeeze=False).flat)
    for each in axes[count:]:
        each.set_axis_off()
    return axes
