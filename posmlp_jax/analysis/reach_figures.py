"""Figures of what feeds a place of a model's maps, drawn from the arrays of `reach`."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from posmlp_jax.analysis.map_figures import spread
from posmlp_jax.analysis.reach import Mixing, map_sizes, mixing, noise, receptive_field
from posmlp_jax.analysis.units import Place, Unit, center, check_number, check_place, find_units, main_stage
from posmlp_jax.errors import ConfigError
from posmlp_jax.figures import FONT
from posmlp_jax.models.backbone import Backbone, Images

_HEAT = "magma"
_MARK, _ORANGE, _BLUE = "#00d0ff", "#d55e00", "#0072b2"
# Frames of a clip and blocks of a stage that a figure has room for.
_FRAMES, _BLOCKS = 8, 6


def draw_receptive_fields(
    model: Backbone, images: Images | None = None, *, stage: int | None = None, place: Sequence[int] | None = None
) -> Figure:
    """The effective receptive field of one place on each stage's map, relative to its largest value.

    The colours are of the square root, so that what is far and weak shows. The place's box is the token's part of the
    image when that is shared out evenly; convolutions of stride 2 with padding look almost a token up and left.

    Args:
      model: in evaluation mode.
      images: normalised images or clips, over which it is averaged, the first of which is shown; None: noise.
      stage: only this one, from 1; None: all.
      place: on that stage's map, (row, column) or (frame, row, column); None: the middle.

    Raises:
      ConfigError: for a stage or place that there is not, or images that the model does not take.
    """
    if stage is not None:
        check_number("stage", stage, len(model.stages), "the model")
    elif place is not None:
        raise ConfigError(f"place {','.join(map(str, place))} on the map of which stage?")
    pixels = noise(model) if images is None else images
    stages = range(1, len(model.stages) + 1) if stage is None else [stage]
    sizes = map_sizes(model, pixels)
    fields = [receptive_field(model, pixels, stage=each, place=place) for each in stages]
    places = [center(sizes[each - 1]) if place is None else tuple(place) for each in stages]
    rows = [(f"stage {number}", field / (field.max() or 1)) for number, field in zip(stages, fields, strict=True)]
    marks = [
        _cell(spot, sizes[number - 1], field.shape) for number, spot, field in zip(stages, places, fields, strict=True)
    ]
    if images is not None:
        shown = _displayed(np.asarray(pixels[0], np.float32))
        rows, marks = [("input", shown), *rows], [None, *marks]
    if fields[0].ndim == 2:
        return _row_of_maps(rows, marks)
    return _rows_of_frames(rows, marks)


def draw_mixing(
    model: Backbone,
    images: Images,
    *,
    stage: int | None = None,
    block: int | None = None,
    place: Sequence[int] | None = None,
) -> Figure:
    """Which tokens feed one place in the mixing of a stage's blocks, each by itself, for one image or clip.

    'weights' are the relation's, the mean of their magnitudes over groups; 'contributions' are these times the tokens
    that the pixels make (`reach.Mixing`), the norm over all channels. Both are shares of their sum. What the residual
    connections carry past the mixing is not in them.

    Args:
      model: in evaluation mode.
      images: one image or clip, normalised: `[1, …, 3]`.
      stage: from 1; None: the one with the most blocks.
      block: only this one, from 1; None: at most six of the stage, evenly spread.
      place: on the stage's map, (row, column) or (frame, row, column); None: the middle.

    Raises:
      ConfigError: for a stage, block or place that there is not, or images that the model does not take.
    """
    stage = main_stage(model) if stage is None else stage
    units = find_units(model, stage=stage, block=block)
    kept = spread(sorted({unit.block for unit in units}), _BLOCKS)
    units = [unit for unit in units if unit.block in kept]
    size = map_sizes(model, images)[stage - 1]
    spot = center(size) if place is None else check_place(place, size, f"the map of stage {stage}")
    found = mixing(model, images, units, spot)
    shown = _displayed(np.asarray(images[0], np.float32))
    if len(size) == 2:
        return _image_mixing(shown, units, found, spot, size)
    return _clip_mixing(shown, units, found, spot, size)


def _image_mixing(
    image: np.ndarray, units: Sequence[Unit], found: Sequence[Mixing], place: Place, size: Place
) -> Figure:
    figure = Figure(figsize=(1.75 * (len(units) + 1) + 0.6, 3.9), layout="constrained")
    axes = figure.subplots(2, len(units) + 1, squeeze=False)
    axes[0, 0].imshow(image, interpolation="nearest")
    _outline(axes[0, 0], _cell(place, size, image.shape[:2]))
    axes[0, 0].set_title(f"stage {units[0].stage}, place {', '.join(map(str, place))}", fontsize=FONT)
    axes[1, 0].set_visible(False)
    for row, what in enumerate(("weights", "contributions")):
        shares = [_shares(each, what) for each in found]
        largest = max(share.max() for share in shares)
        for axis, unit, share in zip(axes[row, 1:], units, shares, strict=True):
            heat = axis.imshow(share, cmap=_HEAT, vmin=0, vmax=largest, interpolation="nearest")
            _outline(axis, (place[1] - 0.5, place[0] - 0.5, 1, 1))
            axis.set_title(f"block {unit.block}", fontsize=FONT)
        axes[row, 1].set_ylabel(what, fontsize=FONT)
        figure.colorbar(heat, ax=axes[row, 1:], pad=0.01, aspect=14).ax.tick_params(labelsize=FONT - 2)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    return figure


def _clip_mixing(clip: np.ndarray, units: Sequence[Unit], found: Sequence[Mixing], place: Place, size: Place) -> Figure:
    first, behind, *box = _cell(place, size, clip.shape[:-1])
    numbers = _some_frames(len(clip), first)
    blocks = sorted({unit.block for unit in units})
    figure = Figure(figsize=(1.35 * len(numbers) + 0.4, 2.0 + 1.75 * len(blocks)), layout="constrained")
    strip, below = figure.subfigures(2, 1, height_ratios=(1.6, 1.75 * len(blocks)))
    for axis, number in zip(strip.subplots(1, len(numbers), squeeze=False)[0], numbers, strict=True):
        axis.imshow(clip[number], interpolation="nearest")
        if first <= number < behind:
            _outline(axis, box)
        axis.set(xticks=[], yticks=[])
        axis.set_title(f"frame {number}", fontsize=FONT)
    axes = below.subplots(len(blocks), 3, squeeze=False, gridspec_kw={"width_ratios": (2.4, 1, 1)})
    for row, block in zip(axes, blocks, strict=True):
        of_block = [(unit, each) for unit, each in zip(units, found, strict=True) if unit.block == block]
        for axis in row:
            axis.set_axis_off()
        for unit, each in of_block:
            if unit.part != "spatial":
                _draw_frames(row[0], unit, each, place)
            if unit.part != "temporal":
                for axis, what in zip(row[1:], ("weights", "contributions"), strict=True):
                    share = _shares(each, what)[place[0]]
                    axis.set_axis_on()
                    heat = axis.imshow(share, cmap=_HEAT, vmin=0, interpolation="nearest")
                    _outline(axis, (place[2] - 0.5, place[1] - 0.5, 1, 1))
                    axis.set(xticks=[], yticks=[])
                    axis.set_title(f"block {block}, {unit.part}: {what}", fontsize=FONT)
                    below.colorbar(heat, ax=axis, shrink=0.85).ax.tick_params(labelsize=FONT - 2)
    return figure


def _draw_frames(axes: Axes, unit: Unit, mixed: Mixing, place: Place) -> None:
    """Shares of the frames, of weights and contributions side by side."""
    axes.set_axis_on()
    for number, (what, colour) in enumerate((("weights", _BLUE), ("contributions", _ORANGE))):
        shares = _shares(mixed, what).sum(axis=(1, 2))
        axes.bar(np.arange(len(shares)) + 0.4 * number - 0.2, shares, 0.38, color=colour, label=what)
    axes.axvline(place[0], color="#666666", linewidth=0.7, linestyle=":", zorder=0)
    axes.set_title(f"block {unit.block}, {unit.part}: shares of the time steps", fontsize=FONT)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.tick_params(labelsize=FONT - 1)
    axes.legend(fontsize=FONT - 2, frameon=False)


def _shares(mixed: Mixing, what: str) -> np.ndarray:
    """What each token of the map has of the sum: of magnitudes over groups, or of norms over all channels."""
    parts = {"weights": np.abs(mixed.weights).sum(axis=0), "contributions": np.linalg.norm(mixed.contributions, axis=0)}
    values = parts[what]
    return values / (values.sum() or 1)


def _row_of_maps(rows: Sequence[tuple[str, np.ndarray]], marks: Sequence[tuple | None]) -> Figure:
    figure = Figure(figsize=(2.3 * len(rows) + 0.7, 2.7), layout="constrained")
    axes = figure.subplots(1, len(rows), squeeze=False)[0]
    for axis, (title, values), mark in zip(axes, rows, marks, strict=True):
        heat = axis.imshow(values, cmap=_HEAT, norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
        axis.set_title(title, fontsize=FONT)
        axis.set(xticks=[], yticks=[])
        if mark is not None:
            _outline(axis, mark)
    figure.colorbar(heat, ax=axes, shrink=0.8, pad=0.01).ax.tick_params(labelsize=FONT - 1)
    return figure


def _rows_of_frames(rows: Sequence[tuple[str, np.ndarray]], marks: Sequence[tuple | None]) -> Figure:
    numbers = _some_frames(len(rows[0][1]), marks[-1][0])
    figure = Figure(figsize=(1.3 * len(numbers) + 0.9, 1.45 * len(rows) + 0.2), layout="constrained")
    axes = figure.subplots(len(rows), len(numbers), squeeze=False)
    for axis, number in zip(axes[0], numbers, strict=True):
        axis.set_title(f"frame {number}", fontsize=FONT)
    for row, (title, values), mark in zip(axes, rows, marks, strict=True):
        for axis, number in zip(row, numbers, strict=True):
            heat = axis.imshow(values[number], cmap=_HEAT, norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            if mark is not None and mark[0] <= number < mark[1]:
                _outline(axis, mark[2:])
        row[0].set_ylabel(title, fontsize=FONT)
    figure.colorbar(heat, ax=axes, shrink=min(1, 2.5 / figure.get_figheight()), pad=0.01).ax.tick_params(
        labelsize=FONT - 1
    )
    return figure


def _some_frames(count: int, wanted: float) -> list[int]:
    """The numbers of at most `_FRAMES` frames, evenly spread but for the wanted one, which is among them."""
    numbers = spread(range(count), _FRAMES)
    nearest = min(range(len(numbers)), key=lambda at: abs(numbers[at] - wanted))
    numbers[nearest] = int(np.ceil(wanted))
    return numbers


def _cell(place: Sequence[int], size: Sequence[int], pixels: Sequence[int]) -> tuple[float, ...]:
    """A token's part of the input, (left, top, width, height) in pixels, behind (first, last + 1) frames of a clip."""
    *frames, height, width = (whole / count for whole, count in zip(pixels, size, strict=True))
    box = place[-1] * width - 0.5, place[-2] * height - 0.5, width, height
    return (place[0] * frames[0], (place[0] + 1) * frames[0], *box) if frames else box


def _outline(axes: Axes, box: tuple[float, ...]) -> None:
    left, top, width, height = box
    axes.add_patch(Rectangle((left, top), width, height, fill=False, edgecolor="white", linewidth=2.2))
    axes.add_patch(Rectangle((left, top), width, height, fill=False, edgecolor=_MARK, linewidth=1.2))


def _displayed(pixels: np.ndarray) -> np.ndarray:
    """Normalised pixels between 0 and 1: what they were, as far as the darkest was black and the lightest white."""
    low, high = pixels.min(), pixels.max()
    return (pixels - low) / ((high - low) or 1)
