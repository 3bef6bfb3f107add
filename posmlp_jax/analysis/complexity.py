"""What models cost: `python -m posmlp_jax.analysis.complexity [--tables | --detectors]`.

Parameters, and multiply-accumulates of convolutions and matrix products for one image or clip, which the papers call
FLOPs: of the models by name or, with `--tables`, of every row of the papers' tables beside what is printed there. With
`--detectors` what those of Table 8 take in training, too, by counting.
"""

import functools
import textwrap
from collections.abc import Callable, Iterator, Sequence

if __name__ == "__main__":
    from posmlp_jax.command_line import begin_program

    begin_program()

import jax
import jax.numpy as jnp
from flax import nnx
from rich.table import Table

from posmlp_jax.analysis.paper_tables import DETECTORS, OTHERS, ROWS, Row
from posmlp_jax.command_line import CommandParser, run_program
from posmlp_jax.models import list_models, registry
from posmlp_jax.models.backbone import BackboneConfig
from posmlp_jax.models.cost import forward_macs, kept_bytes, model_cost
from posmlp_jax.models.detectors.config import MaskRCNNConfig
from posmlp_jax.tasks.detection.columns import target_columns
from posmlp_jax.tasks.detection.mask_rcnn_loss import Samples
from posmlp_jax.tasks.detection.objective import DetectionObjective
from posmlp_jax.terminal import as_text

# Of an image, at most, as a batch has place for them: the config's default.
_OBJECTS = 100
# Bytes of float32 for each parameter besides itself: its gradient, and AdamW's two averages.
_OF_A_STEP = 4 * 3


@functools.cache
def _cost(model: str, overrides: tuple) -> tuple[int, int]:
    """Rows that are the same network share it."""
    return model_cost(model, **dict(overrides))


def row_cost(row: Row) -> tuple[int, int]:
    """Parameters and multiply-accumulates of a row's network."""
    return _cost(row.model, tuple(row.overrides.items()))


def rounds_to(value: float, printed: str) -> bool:
    """Whether a value, with the digits of what is printed, is that."""
    return f"{value:.{len(printed.partition('.')[2])}f}" == printed


def differing(row: Row) -> Iterator[str]:
    """'parameters' and 'gmacs', where what is counted does not round to what the row has printed."""
    parameters, macs = row_cost(row)
    for name, value in (("parameters", parameters / 1e6), ("gmacs", macs / 1e9)):
        printed = getattr(row, name)
        if printed is not None and not rounds_to(value, printed):
            yield name


def detector_loss(config: BackboneConfig, batch_size: int) -> tuple[Callable, tuple]:
    """The loss of a detector as a function of its parameters and a batch, and what describes these.

    Dropout and drop path are off. Mask R-CNN learns from as much of an image as mmdetection's does.

    Args:
      config: whose `input_size` the images have.
      batch_size: how many there are.
    """
    with_masks = isinstance(config, MaskRCNNConfig)
    graph, state = nnx.split(registry.abstract_model(config.replace(dropout=0.0, drop_path=0.0)))
    objective = DetectionObjective(mean=(0.5,) * 3, std=(0.2,) * 3, samples=Samples() if with_masks else None)
    columns = {"image": ((*config.input_size, 3), jnp.uint8), **target_columns(_OBJECTS, with_masks)}

    def loss(state, batch):
        batch, drawn = objective.draw(jax.random.key(0), batch)
        return objective.loss(nnx.merge(graph, state), batch, drawn, nnx.Rngs(dropout=0))[0]

    batch = {name: jax.ShapeDtypeStruct((batch_size, *shape), kind) for name, (shape, kind) in columns.items()}
    return loss, (state, batch)


def detector_memory(config: BackboneConfig) -> tuple[int, int]:
    """Bytes that a detector's loss keeps for its gradient: of every image, and of whatever number (`kept_bytes`)."""
    one, two = (kept_bytes(loss, *args) for loss, args in (detector_loss(config, size) for size in (1, 2)))
    return two - one, 2 * one - two


def format_detectors(rows: Sequence[Row]) -> str:
    """What detectors cost in training, as lines of text: for an image, and for a step besides its images."""
    table = _table("", "parameters", "GMACs", "of the loss", "GiB an image", "with remat", "GiB a step")
    for row in rows:
        config = registry.model_config(row.model, **row.overrides, dtype="bfloat16")
        parameters, macs = row_cost(row)
        loss, args = detector_loss(config, 1)
        image, rest = detector_memory(config)
        again, _ = detector_memory(config.replace(remat=True))
        table.add_row(
            row.label,
            f"{parameters:,}",
            f"{macs / 1e9:.1f}",
            f"{forward_macs(loss, *args) / 1e9:.1f}",
            f"{image / 2**30:.2f}",
            f"{again / 2**30:.2f}",
            f"{(rest + _OF_A_STEP * parameters) / 2**30:.2f}",
        )
    height, width = registry.model_config(rows[0].model, **rows[0].overrides).input_size
    about = (
        f"At {height}×{width}. GMACs: multiply-accumulates of finding objects in an image, and of its loss without the "
        "gradient, which takes twice as many again. GiB in bfloat16: what the loss keeps of an image for the gradient, "
        "the same where blocks are computed again; and what a step has besides: weights, relations, "
        "gradients and AdamW's averages."
    )
    return "\n".join([as_text(table, whole=True), "", *textwrap.wrap(about, 100)])


def format_models(names: Sequence[str]) -> str:
    """The cost of models as lines of text."""
    table = _table("model", "parameters", "GMACs")
    for name in names:
        parameters, macs = model_cost(name)
        table.add_row(name, f"{parameters:,}", f"{macs / 1e9:.2f}")
    return as_text(table, whole=True)


def format_tables(rows: Sequence[Row]) -> str:
    """Rows of the papers' tables as lines of text: what is counted beside what is printed, and why they differ."""
    table = _table("", "parameters", "printed", "GMACs", "printed", "the code's", "")
    notes = {}
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        parameters, macs = row_cost(row)
        mark = ""
        if any(differing(row)):
            mark = notes.setdefault(row.difference, f"({chr(ord('a') + len(notes))})")
        table.add_row(
            row.name,
            f"{parameters:,}",
            row.parameters and f"{row.parameters}M",
            f"{macs / 1e9:.2f}",
            row.gmacs and f"{row.gmacs}G",
            row.code_gmacs,
            mark,
            end_section=following is not None and following.table != row.table,
        )
    return "\n".join([as_text(table, whole=True), "", *(f"{mark} {note}." for note, mark in notes.items())])


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table


def main(arguments: list[str] | None = None) -> None:
    """Prints what the command line asks for."""
    parser = CommandParser("posmlp_jax.analysis.complexity", __doc__)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--tables", action="store_true", help="the rows of the papers' tables, beside what they print")
    which.add_argument("--detectors", action="store_true", help="what the detectors of Table 8 cost in training")
    options = parser.parse_args(arguments)
    if options.detectors:
        print(format_detectors(DETECTORS))
        return
    if not options.tables:
        print(format_models(list_models()))
        return
    print(format_tables([*ROWS, *DETECTORS, *OTHERS]))
    print("\nThe code's: measured on what the authors published. The video paper's own tables are not at hand.")


if __name__ == "__main__":
    run_program(main, None)
