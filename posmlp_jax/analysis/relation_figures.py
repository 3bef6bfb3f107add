"""Figures of what relations have learned besides their maps: Gaussians, non-locality, biases, parts, tables.

Colours have zero in their middle, but for values of one sign that are far from it, and one scale wherever panels are to
be compared.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Ellipse
from matplotlib.ticker import MaxNLocator

from posmlp_jax.analysis.learned import (
    frame_offsets,
    gaussians,
    lrpe_m_parts,
    non_locality,
    temporal_table,
    token_bias,
)
from posmlp_jax.analysis.map_figures import GAP, POSITIVE, SIGNED, spread, with_lines
from posmlp_jax.analysis.units import (
    MissingRelationError,
    center,
    check_place,
    default_part,
    find_units,
    units_of,
)
from posmlp_jax.errors import ConfigError
from posmlp_jax.figures import FONT, add_legend
from posmlp_jax.models.backbone import Backbone

_BLUE, _ORANGE = "#0072b2", "#d55e00"
# Panels in a row, and blocks of a figure that cannot show all.
_ROW, _FEW = 6, 6


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
        peakless = 0
        for peak, covariance in zip(each.peaks, each.covariances, strict=True):
            if np.isnan(peak).any():
                peakless += 1
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
        axes.set_title(unit.name + (f"\n{peakless} without a peak" if peakless else ""), fontsize=FONT)
        axes.tick_params(labelsize=FONT - 1)
    figure.supxlabel("columns from the query, in tokens", fontsize=FONT)
    figure.supylabel("rows", fontsize=FONT)
    return figure


def draw_non_locality(models: Backbone | Mapping[str, Backbone]) -> Figure:
    """g(Σ̃) of Eq. 16 over the blocks (Figure 8): the smaller, the further a block looks.

    Where singular groups are not counted, it says how many; a block of them alone has no point.

    Args:
      models: one, or several by name.

    Raises:
      ConfigError: for none of them.
      MissingRelationError: for a model with another relation than 'gqpe', or without windows in space.
    """
    named = {"": models} if isinstance(models, Backbone) else models
    if not named:
        raise ConfigError("there are no models to show")
    figure = Figure(figsize=(7.5, 3.0), layout="constrained")
    axes, lines = figure.subplots(), []
    for number, (name, model) in enumerate(named.items()):
        units = find_units(model, part="spatial")
        values = [non_locality(unit) for unit in units]
        places = np.arange(1, len(units) + 1)
        style = {"marker": "os^Dv"[number % 5], "markersize": 4, "color": f"C{number}", "label": name or None}
        lines += axes.plot(places, [each.value for each in values], **style)
        for place, each in zip(places.tolist(), values, strict=True):
            if each.left_out:
                at = place, 0 if math.isnan(each.value) else each.value
                beside = {"xytext": (0, 5), "textcoords": "offset points", "ha": "center", "fontsize": FONT - 2}
                axes.annotate(f"−{each.left_out}", at, color=f"C{number}", **beside)
    axes.set_xlabel("block" + ("; −n: n singular groups are not counted" if axes.texts else ""), fontsize=FONT)
    _name_stages(axes, [unit.stage for unit in find_units(next(iter(named.values())), part="spatial")])
    axes.set_ylabel(r"$g(\tilde{\Sigma})$, less is less local", fontsize=FONT)
    axes.set_ylim(0, 1.1 * axes.get_ylim()[1])
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.tick_params(labelsize=FONT)
    axes.grid(alpha=0.3)
    if len(named) > 1:
        add_legend(axes, lines, fontsize=FONT)
    return figure


def _name_stages(axes: Axes, stages: Sequence[int]) -> None:
    """Says above the axes which blocks, 1 apart, are of which stage."""
    for stage in sorted(set(stages)):
        start = stages.index(stage) + 0.5
        end = start + stages.count(stage)
        if start > 1:
            axes.axvline(start, color="#888888", linewidth=0.7, linestyle=":")
        # Where there is no room for the word, the number.
        text = f"stage {stage}" if end - start > 0.12 * len(stages) else f"{stage}"
        axes.text((start + end) / 2, 1.01, text, transform=axes.get_xaxis_transform(), ha="center", fontsize=FONT)


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
    units = find_units(model, part=default_part(model) if part is None else part)
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
            each.set_facecolor(GAP)
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
    units = spread(units_of(model, stage, None), _FEW)
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


def _flat(bias: np.ndarray) -> np.ndarray:
    """A bias as one picture: a line over frames, or the windows of all frames side by side."""
    return bias[None] if bias.ndim == 1 else bias if bias.ndim == 2 else np.concatenate(with_lines(bias, 2), axis=1)


def _colours(values: Sequence[np.ndarray]) -> dict:
    """A colour map and its range for values that are compared, with zero in the middle unless all are far from it."""
    low, high = min(map(np.nanmin, values)), max(map(np.nanmax, values))
    largest = max(abs(low), abs(high))
    if low * high > 0 and min(abs(low), abs(high)) > largest / 2:
        return {"cmap": POSITIVE, "vmin": low, "vmax": high}
    return {"cmap": SIGNED, "vmin": -largest, "vmax": largest}


def _limit(found: Sequence, most: int) -> float:
    """How far from the query most ellipses of a stage reach, in tokens, at least 2 and at most `most`."""
    reach = [np.abs(each.peaks) + np.sqrt(np.diagonal(each.covariances, axis1=1, axis2=2)) for each in found]
    reach = np.concatenate(reach)
    reach = reach[~np.isnan(reach)]
    return float(np.clip(np.quantile(reach, 0.9) * 1.15 if reach.size else most, min(2, most), max(most, 1)))


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
