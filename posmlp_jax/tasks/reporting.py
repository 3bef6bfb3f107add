"""What reports of all tasks have in common: whose results they are, where their files go, and names in tables."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from etils import epath
from rich.text import Text

from posmlp_jax.checkpoints.evaluations import Metric, better_split
from posmlp_jax.errors import CheckpointError
from posmlp_jax.terminal import printable, report
from posmlp_jax.writing import atomic_write, writing_to


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


def shortened(name: str, width: int = 40) -> Text:
    """A class's name for a table."""
    text = Text(printable(name))
    text.truncate(width, overflow="ellipsis")
    return text
