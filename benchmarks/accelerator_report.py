"""What `benchmarks.accelerator` found, as a table and as numbers of its lines."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from benchmarks.chips import CHIPS, GIB, Chip
from posmlp_jax.terminal import as_text

Line = Mapping[str, Any]
TITLES = {"forward": "forward pass", "train": "training step"}


def find_chip_of(kind: str) -> Chip | None:
    """The data sheet of a device, by JAX's name for it; None where there is none."""
    return next((chip for chip in CHIPS.values() if kind in chip.kinds), None)


def label(line: Line) -> str:
    """What a line is of: the model, and what computes its blocks where that is not left to the model."""
    return line["model"] if line.get("kernel", "auto") == "auto" else f"{line['model']}, {line['kernel']}"


def rate(line: Line) -> float:
    """Examples a second, the median of all timings."""
    return line["batch"] / statistics.median(line["seconds"])


def as_number(value: float) -> str:
    """With three digits or more, and commas between thousands."""
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}"


def spread(line: Line) -> float:
    """Half of what lies between the quartiles of the timings, as a share of their median."""
    if len(line["seconds"]) < 2:
        return 0.0
    low, middle, high = statistics.quantiles(line["seconds"], n=4, method="inclusive")
    return (high - low) / 2 / middle


def shares(line: Line, chip: Chip | None) -> dict[str, float]:
    """Of a chip's arithmetic and of its memory's bandwidth, the share that is used; without what is not known.

    That of the bandwidth is an upper limit on GPUs, as bytes are there (`benchmarks.program_text`). The larger one is
    the share of the roofline.
    """
    if chip is None or "seconds" not in line:
        return {}
    seconds = statistics.median(line["seconds"])
    most = {"arithmetic": ("flops", chip.flops), "bandwidth": ("moved_bytes", chip.bandwidth)}
    return {name: line[field] / speed / seconds for name, (field, speed) in most.items() if line.get(field)}


def failure_of(line: Line) -> str:
    """Why there is no measurement, in a few words; '' where there is one."""
    if "seconds" in line:
        return ""
    return "out of memory" if line.get("error", "").startswith("out of memory") else "failed"


def table(results: Mapping[str, Any]) -> str:
    """A row for each line; below, what the columns are, and why there are rows without numbers."""
    chip = find_chip_of(results["machine"]["kind"])
    models = list(dict.fromkeys(label(line) for line in results["lines"]))
    lines = sorted(results["lines"], key=lambda line: _place(line, models))
    named = [(TITLES[line["program"]], label(line)) for line in lines]
    cells = [_cells(line, chip) for line in lines]
    rows = Table(box=None, header_style="none", padding=(0, 2, 0, 0), pad_edge=False)
    # Whole names and numbers, wider than a narrow terminal if need be.
    for texts in zip(*named, strict=True):
        rows.add_column("", min_width=max(map(len, texts)))
    known = [name for name in cells[0] if any(each[name] for each in cells)]
    for name in known:
        rows.add_column(name, justify="right", min_width=max(len(name), *(len(each[name]) for each in cells)))
    for before, (program, model), each in zip([("", ""), *named], named, cells, strict=False):
        if before[0] not in ("", program):
            rows.add_row()
        first = "" if program == before[0] else program, "" if (program, model) == before else model
        rows.add_row(*first, *(each[name] for name in known))
    failures = [
        f"{label(line)}, {line['program']}, batch {line['batch']}: {line['error']}"
        for line in results["lines"]
        if "error" in line
    ]
    return "\n".join([as_text(rows, whole=True), "", *_legend(results, chip), *([""] if failures else []), *failures])


def settings(machine: Mapping[str, Any]) -> str:
    """The type that all is computed in, and what our models have that the named ones have not."""
    return ", ours with ".join(filter(None, ("bfloat16", " ".join(machine.get("override", ())))))


def _place(line: Line, models: Sequence[str]) -> tuple[int, bool, int]:
    """Of a row: programs, ours before timm's, and a model's batches together."""
    return list(TITLES).index(line["program"]), line["library"] != "posmlp_jax", models.index(label(line))


def _cells(line: Line, chip: Chip | None) -> dict[str, str]:
    """A row by its columns, '' where something is not known."""
    used = shares(line, chip)
    memory, compiled, first = (line.get(name) for name in ("memory_bytes", "compile_seconds", "first_step_seconds"))
    return {
        "batch": str(line["batch"]),
        "examples/s": failure_of(line) or as_number(rate(line)),
        "±": "" if "seconds" not in line else f"{100 * spread(line):.1f} %",
        "GiB": "" if memory is None else f"{memory / GIB:.2f}",
        **{name: f"{100 * used[name]:.0f} %" if name in used else "" for name in ("arithmetic", "bandwidth")},
        "compile": "" if compiled is None else f"{compiled:.0f} s",
        "first step": "" if first is None else f"{first:.0f} s",
    }


def _legend(results: Mapping[str, Any], chip: Chip | None) -> list[str]:
    machine = results["machine"]
    versions = ", ".join(f"{name} {machine[name]}" for name in ("jax", "torch", "timm") if name in machine)
    lines = [
        f"{machine['kind']}, {versions}, {results['date']}; in {settings(machine)}, images or clips",
        f"examples/s  the median of {machine['repeats']} timings, ± half of what is between their quartiles",
        "first step  from the start of the process to the end of its first step, compile included",
    ]
    if machine["platform"] == "cpu":
        return [*lines, "A CPU: its memory is not counted, and there are no shares of what it could do."]
    lines.append("GiB         the most memory in use on the device")
    if chip is None:
        return [*lines, f"There are no shares: benchmarks/chips.py has no data sheet of '{machine['kind']}'."]
    return [
        *lines,
        f"arithmetic  the share of {chip.flops / 1e12:.0f} Tflop/s in products and convolutions",
        f"bandwidth   the share of {chip.bandwidth / 1e12:.2f} TB/s, at most, by the compiled program's shapes; the "
        "larger share",
        "            of the two is that of the roofline",
    ]
