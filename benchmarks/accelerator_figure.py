"""What `benchmarks.accelerator` found, as a picture."""

from collections.abc import Callable, Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmarks.accelerator_report import TITLES, Line, find_chip_of, label, rate, settings, shares
from benchmarks.chips import GIB, Chip
from posmlp_jax.figures import FONT, add_legend


def draw(results: Mapping[str, Any]) -> Figure:
    """A row for each program, over the batch: examples a second and, where they are known, memory and roofline's share.

    Our models' lines are whole, and dotted with another kernel than the model's own choice. timm's are dashed, and have
    no share, as what they move is not known.
    """
    lines = [line for line in results["lines"] if "seconds" in line]
    chip = find_chip_of(results["machine"]["kind"])
    columns: dict[str, Callable[[Line], float | None]] = {
        "examples/s": rate,
        "memory in use (GiB)": lambda line: line["memory_bytes"] / GIB if line.get("memory_bytes") else None,
        "share of the roofline (%)": lambda line: _roofline(line, chip),
    }
    columns = {name: value for name, value in columns.items() if any(map(value, lines))}
    programs = [name for name in TITLES if any(line["program"] == name for line in lines)]
    styles = _styles(lines)
    size = 1.2 + 3.6 * max(len(columns), 1), 1.0 + 2.5 * max(len(programs), 1)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(max(len(programs), 1), max(len(columns), 1), squeeze=False)
    for row, program in zip(axes, programs, strict=False):
        for axis, (name, value) in zip(row, columns.items(), strict=True):
            _draw(axis, [line for line in lines if line["program"] == program], value, styles)
            axis.set_title(f"{TITLES[program]}: {name}", fontsize=9, loc="left")
            if name == "examples/s":
                axis.set_yscale("log")
                axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
                axis.yaxis.set_major_formatter(FuncFormatter(lambda number, _: f"{number:,.10g}"))
                axis.yaxis.set_minor_formatter(NullFormatter())
            else:
                axis.set_ylim(bottom=0)
    drawn = {line.get_label(): line for axis in axes.flat for line in axis.get_lines()}
    add_legend(figure, list(drawn.values()), loc="outside right center", fontsize=FONT, frameon=False)
    machine = results["machine"]
    figure.suptitle(
        f"{machine['kind']}, {settings(machine)}, jax {machine['jax']}, {results['date']}",
        fontsize=10,
        parse_math=False,
    )
    return figure


def _roofline(line: Line, chip: Chip | None) -> float | None:
    """The share of a chip's roofline in %; None where arithmetic or bytes are not known."""
    used = shares(line, chip)
    return 100 * max(used.values()) if len(used) == 2 else None


def _styles(lines: list[Line]) -> dict[str, dict[str, Any]]:
    """How a line of each label is drawn: a colour for each model, in the order of the results, ours first."""
    ordered = sorted(lines, key=lambda line: line["library"] != "posmlp_jax")
    models = list(dict.fromkeys(line["model"] for line in ordered))
    return {label(line): {"color": f"C{models.index(line['model'])}", **_dashes(line)} for line in ordered}


def _dashes(line: Line) -> dict[str, str]:
    if line["library"] != "posmlp_jax":
        return {"linestyle": "--", "marker": "s"}
    return {"linestyle": "-" if label(line) == line["model"] else ":", "marker": "o"}


def _draw(axis: Axes, lines: list[Line], value: Callable[[Line], float | None], styles: Mapping[str, Any]) -> None:
    for name, style in styles.items():
        points = [(line["batch"], value(line)) for line in lines if label(line) == name]
        if points := sorted(point for point in points if point[1] is not None):
            axis.plot(*zip(*points, strict=True), label=name, markersize=4, linewidth=1.3, **style)
    batches = sorted({line["batch"] for line in lines})
    axis.set_xscale("log")
    axis.set_xticks(batches, [str(batch) for batch in batches])
    axis.minorticks_off()
    axis.set_xlabel("batch", fontsize=FONT)
    axis.tick_params(labelsize=FONT)
    axis.grid(alpha=0.3)
