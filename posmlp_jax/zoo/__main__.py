"""The trained models that come with this package: `python -m posmlp_jax.zoo` lists them, `… NAME` shows one's card.

Their names stand wherever a folder of a checkpoint can: `from_pretrained(NAME)`, `--checkpoint=NAME`,
`--config.init_from=NAME`, and `main.py --mode=eval --workdir=NAME`.
"""

if __name__ == "__main__":
    from posmlp_jax.command_line import begin_program

    begin_program()

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from posmlp_jax.checkpoints import zoo
from posmlp_jax.checkpoints.packed import WEIGHTS
from posmlp_jax.checkpoints.run import as_tuples
from posmlp_jax.checkpoints.selection import NAMES
from posmlp_jax.command_line import CommandParser, run_program
from posmlp_jax.terminal import as_text


def format_list() -> str:
    """A table of all models: name, accuracy, parameters, megabytes, and what each is."""
    table = Table(box=None, header_style="none", padding=(0, 2, 0, 0), pad_edge=False)
    for head, options in {
        "name": {"no_wrap": True},
        "accuracy": {"justify": "right", "no_wrap": True},
        "parameters": {"justify": "right", "no_wrap": True},
        "MB": {"justify": "right", "no_wrap": True},
        "what it is": {},
    }.items():
        table.add_column(head, **options)
    for name in zoo.list_pretrained():
        card = zoo.read_card(zoo.find(name))
        accuracy, size = _percent(card["accuracy"]["packed"]), _megabytes(name, card)
        table.add_row(name, accuracy, f"{card['parameters']:,}", size, card["about"])
    return as_text(table, whole=True)


def format_card(name: str) -> str:
    """The card of a model, as lines.

    Raises:
      CheckpointError: if there is none of that name, or its files are damaged.
    """
    folder = zoo.find(name)
    card = zoo.read_card(folder)
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for row in _rows(card, _megabytes(name, card)).items():
        table.add_row(*row)
    table.add_row("folder", str(folder))
    return as_text(table)


def _rows(card: Mapping[str, Any], megabytes: str) -> dict[str, str]:
    data, accuracy, sample = card["data"], card["accuracy"], card["sample"]
    kind = "clips" if len(card["input"]) == 4 else "images"
    size = "×".join(map(str, card["input"][:-1]))
    trained, tested = (
        f"{data[what]['examples']:,} {kind} of {data['name']} {data[what]['split']}"
        for what in ("training", "evaluation")
    )
    average = accuracy["moving_average"]
    fields = ", ".join(f"{name}={as_tuples(value)}" for name, value in card["fields"].items())
    rows = {
        card["name"]: card["about"],
        "model": f"{card['model']} with {fields or 'nothing changed'}",
        "parameters": f"{card['parameters']:,}; it takes {kind} of {size}",
        "accuracy": f"{card['metric']} {_percent(accuracy['packed'])} on {tested}",
        "as trained": f"{_percent(accuracy['weights'])} of the weights"
        + ("" if average is None else f", {_percent(average)} of their moving average"),
        "packed": f"the {NAMES[card['item']]}, {card['dtype']}, {megabytes} MB",
        "trained by": card["command"],
        "on": f"{trained}, {card['epochs']:.4g} epochs, {card['steps']:,} steps, seed {card['seed']}",
        "took": f"{card['minutes']} minutes on {card['machine']}",
        "with": f"commit {card['commit']} of posmlp_jax",
        "licence": f"{card['licence']}; of the data: {card['data_licence']}",
        "SHA-256": f"{card['sha256'][WEIGHTS]} of {WEIGHTS}",
    }
    if sample is not None:
        rows["sample"] = (
            f"{sample['examples']} of the test {kind}, on which top-1 is {_percent(sample['top1'])}: "
            f"posmlp_jax.zoo.load_sample('{card['name']}')"
        )
    return rows


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _megabytes(name: str, card: Mapping[str, Any]) -> str:
    return f"{len(zoo.read_checked(zoo.find(name), card, WEIGHTS)) / 1e6:.2f}"


def main(argv: list[str] | None = None) -> None:
    """The command. Raises a PosMLPError for a mistake of the user."""
    parser = CommandParser("posmlp_jax.zoo", __doc__)
    parser.add_argument("name", nargs="?", help="whose card to show; without: a list of all")
    name = parser.parse_args(argv).name
    print(format_list() if name is None else format_card(name))


if __name__ == "__main__":
    run_program(main, None)
