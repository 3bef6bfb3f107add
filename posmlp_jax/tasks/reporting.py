"""What reports of all tasks have in common: whose results they are, where their files go, and names in tables."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath
from rich.table import Table
from rich.text import Text

from posmlp_jax.checkpoints.evaluations import Metric, better_split
from posmlp_jax.errors import CheckpointError
from posmlp_jax.terminal import as_text, printable, report
from posmlp_jax.writing import atomic_write, writing_to

# A table has all classes where there are no more than so many, and else so many of the worst.
_LISTED, _WORST = 20, 10


def find_better(evaluations: Mapping[str, Any], metric: Metric) -> str | None:
    """The split, 'eval' or 'ema', of the `Evaluation` that is to be reported.

    None where there is none: on other hosts than the first, and where the loss is not a number.
    """
    if jax.process_index():
        return None
    split = better_split({split: each.metrics for split, each in evaluations.items()}, metric)
    return None if math.isnan(evaluations[split].metrics["loss"]) else split


def write_files(
    workdir: epath.Path, step: int, split: str, protocol: str, files: Mapping[str, str | bytes], note: str = ""
) -> None:
    """Writes a report's files, and says where they are or, where they cannot be written, that they are not kept.

    Args:
      workdir: they go to a folder in its `evaluation/`.
      step: whose weights they are about.
      split: 'eval' or 'ema'.
      protocol: what sets the evaluation apart from the run's own, or ''.
      files: by name.
      note: what else is to be said of them.
    """
    folder = workdir / "evaluation" / "_".join(filter(None, (f"step{step}", split, protocol)))
    try:
        with writing_to(workdir):
            folder.mkdir(parents=True, exist_ok=True)
            for name, content in files.items():
                # The name of a class, which may be a folder's, may be no UTF-8, and then stays as it is.
                content = content.encode(errors="surrogateescape") if isinstance(content, str) else content
                atomic_write(folder / name, content)
        report(f"wrote {', '.join(files)} to {folder}{note}")
    except CheckpointError as error:
        report(f"the results by class are not kept: {error}")


def csv_table(rows: Sequence[Sequence[object]]) -> str:
    """The rows as a CSV file has them."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def precision_table(
    values: Mapping[str, np.ndarray], class_names: Sequence[str], counts: np.ndarray, things: str
) -> str:
    """A table for the terminal: of each class that there is something of, how many, and some shares.

    Args:
      values: shares by what is above them, a column of all classes each; the first decides which are the worst.
      class_names: of all classes.
      counts: how many things there are of each.
      things: what is counted.
    """
    shown = np.flatnonzero(counts)
    head = "class"
    if len(shown) > _LISTED:
        shown = shown[np.argsort(next(iter(values.values()))[shown], kind="stable")][:_WORST]
        head = f"worst {len(shown)} classes"
    table = Table(box=None, header_style="none", padding=(0, 0, 0, 2), pad_edge=True)
    table.add_column(head, overflow="fold")
    for name in (things, *values):
        table.add_column(name, justify="right", no_wrap=True)
    for label in shown:
        shares = (percent(column[label], 1) for column in values.values())
        table.add_row(shortened(class_names[label]), str(counts[label]), *shares)
    return as_text(table)


def precision_rows(
    values: Mapping[str, np.ndarray],
    class_names: Sequence[str],
    ids: Sequence[int],
    counts: np.ndarray,
    things: str,
) -> str:
    """CSV: class, id, how many things, and some shares, empty where there are none. Arguments: `precision_table`'s."""
    rows = [("class", "id", things, *values)]
    for label, (name, number, count) in enumerate(zip(class_names, ids, counts, strict=True)):
        shares = ("" if math.isnan(column[label]) else f"{column[label]:.6g}" for column in values.values())
        rows.append((name, number, count, *shares))
    return csv_table(rows)


def say_left_out(counts: np.ndarray, option: str, most: int, what: str, of: str) -> list[str]:
    """A line for a run's log where examples have more of something than a batch holds; else none.

    Args:
      counts: how many each example has, int [n].
      option: the config's field that says how many a batch holds.
      most: its value.
      what: what there is too much of, as 'boxes'.
      of: what the examples are, as 'images'.
    """
    more = int(np.count_nonzero(counts > most))
    if not more:
        return []
    return [
        f"{more} of {len(counts)} {of} have more than {most} {what}, and the smallest of them are left out; "
        f"--config.{option}={counts.max()} would hold all"
    ]


def percent(value: float, digits: int = 2) -> str:
    """'76.10 %', or 'none' of what is no number."""
    return "none" if math.isnan(value) else f"{100 * value:.{digits}f} %"


def shortened(name: str, width: int = 40) -> Text:
    """A class's name for a table."""
    text = Text(printable(name))
    text.truncate(width, overflow="ellipsis")
    return text
