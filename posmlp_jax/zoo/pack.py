"""Makes a model of the zoo of a finished run: `posmlp_jax/zoo/models/NAME`, with its card.

    python -m posmlp_jax.zoo.pack --workdir=runs/digits --name=posmlp_digits --config=configs/digits.py \
        --machine='two CPU cores' --data_licence='BSD-3-Clause'

`--config=…` and `--config.x.y=…` are the command that trained it: what they give must be the run's config, and the card
shows them. Every number on the card is the run's own or measured here. The weights or their moving average are packed,
whichever the run found better, in half precision if that changes the accuracy by less than 0.05 %.
"""

import ast
import itertools
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    from posmlp_jax.command_line import begin_program

    begin_program()

import jax
from absl import app, flags
from etils import epath
from ml_collections import ConfigDict, config_flags

from posmlp_jax.analysis.curves import read_metrics
from posmlp_jax.checkpoints import zoo
from posmlp_jax.checkpoints.evaluations import Metric
from posmlp_jax.checkpoints.packed import write_packed
from posmlp_jax.checkpoints.pretrained import Pretrained, open_pretrained
from posmlp_jax.checkpoints.selection import STEP_HELP, WEIGHTS_HELP
from posmlp_jax.checkpoints.store import Checkpoints
from posmlp_jax.command_line import quieten_libraries, raise_at_ctrl_c
from posmlp_jax.errors import CheckpointError, ConfigError, exit_on_mistake
from posmlp_jax.models import list_models, model_config
from posmlp_jax.models.backbone import COMPUTING
from posmlp_jax.paths import as_path
from posmlp_jax.tasks import find_task
from posmlp_jax.terminal import report
from posmlp_jax.training import evaluate
from posmlp_jax.training.config import plain
from posmlp_jax.training.flags import parse_config_flags
from posmlp_jax.training.saved_config import get_config
from posmlp_jax.training.workdir import differences, read_config
from posmlp_jax.writing import atomic_folder, check_output
from posmlp_jax.zoo.sample import sample_file, save_sample, take_sample, top1

# Half precision is as good as single where the accuracies differ by less.
_AS_GOOD = 0.0005
# What other devices, and bfloat16 on them, may change.
_ROUNDING = 0.005
_LICENCE = "Apache-2.0"
# What a card calls a checkpoint's items.
_RECORDED = {"weights": "weights", "ema": "moving_average"}


@dataclass(frozen=True)
class Told:
    """What a run does not record, as the card says it.

    Attributes:
      command: what a reader can do to train it again.
      about: what it is, in one sentence.
      machine: what it was trained on.
      data_licence: of the data, and whose they are.
      commit: of this project, with which it was trained.
    """

    command: str
    about: str
    machine: str
    data_licence: str
    commit: str


def pack(
    workdir: epath.PathLike,
    name: str,
    config: ConfigDict,
    told: Told,
    *,
    step: str | int = "latest",
    weights: str = "best",
    sample: int = 0,
) -> dict[str, Any]:
    """Makes a model of the zoo of a run, or nothing at all.

    Args:
      workdir: the run's.
      name: what the model is to be called.
      config: what `told.command` trains, which must be what the run has trained.
      told: what only people know.
      step: which checkpoint, as for `open_pretrained`.
      weights: which of its weights, likewise.
      sample: how many test examples are to come with it; 0: none, where every machine has the data.

    Returns:
      The card.

    Raises:
      ConfigError: for a name that cannot be, or another config than the run's.
      CheckpointError: if the checkpoint was not evaluated, or its data are no longer what they were.
      DataError: if the run has no log.
    """
    output, workdir = _new_folder(name), as_path(workdir)
    _check_config(workdir, config, told.command)
    pretrained = open_pretrained(workdir, step=step, weights=weights)
    if sample and pretrained.config.is_detector:
        raise ConfigError("a sample is of labelled examples, and this is a detector; leave --sample out")
    with closing(Checkpoints(workdir, alone=True)) as checkpoints:
        results, run = checkpoints.evaluations[pretrained.step], checkpoints.run(pretrained.step)
    if results is None:
        raise CheckpointError(f"no evaluation of step {pretrained.step} is on record in {workdir}; take another --step")
    metric, data = find_task(pretrained.task).metrics[0], _read_data(workdir)
    # Where data lie, how many devices there were, and what else is no part of an experiment, is as in the command.
    kept = ("step", "model", "class_names", "class_ids", "metrics")
    run = {key: run[key] for key in kept if key in run} | {"config": plain(config)}
    with atomic_folder(output) as folder:
        parts = {"item": pretrained.item, "run": run, "results": results, "data": data}
        write = partial(write_packed, folder, pretrained.weights, **parts)
        accuracies = {}
        for dtype in ("float32", "float16"):
            write(dtype=dtype, card={})
            accuracies[dtype] = _accuracy(folder, workdir, metric)
        recorded = {
            "weights": results["eval"][metric.name],
            "moving_average": results.get("ema", {}).get(metric.name),
        }
        _check_record(accuracies["float32"], recorded[_RECORDED[pretrained.item]], metric)
        dtype = "float16" if abs(accuracies["float16"] - accuracies["float32"]) < _AS_GOOD else "float32"
        write(dtype=dtype, card={})
        measured = {
            "metric": metric.label,
            "accuracy": {**recorded, "packed": accuracies[dtype]},
            "minutes": round(training_seconds(workdir, pretrained.step) / 60, 1),
            "sample": _pack_sample(open_pretrained(folder), workdir, sample) if sample else None,
        }
        about = _describe(pretrained, config, data)
        write(dtype=dtype, card={"name": name, **asdict(told), **about, **measured, "licence": _LICENCE})
    report(f"packed the {pretrained.choice} as {dtype}: {metric.label} {metric.format(accuracies[dtype])}")
    return zoo.read_card(output)


def _new_folder(name: str) -> epath.Path:
    """Where a model of that name is to be.

    Raises:
      ConfigError: for a name that cannot be.
      CheckpointError: if there is one.
    """
    if not re.fullmatch(r"[a-z]\w*", name) or name in list_models():
        raise ConfigError(
            f"'{name}' is no name for a trained model: a small letter, then letters, digits and _, and no model of "
            "list_models()"
        )
    check_output(zoo.FOLDER / name, "--name")
    return zoo.FOLDER / name


def _check_config(workdir: epath.Path, config: ConfigDict, command: str) -> None:
    """Raises a CheckpointError where there is no run, and a ConfigError if it has trained something else."""
    saved = read_config(workdir)
    if saved is None:
        raise CheckpointError(f"{workdir} has no config.json; name the working directory of a run")
    if changed := list(differences(saved, plain(config))):
        raise ConfigError(f"`{command}` does not train what is in {workdir}: {'; '.join(changed[:5])}")


def _describe(pretrained: Pretrained, config: ConfigDict, data: Mapping[str, Any]) -> dict[str, Any]:
    """What a card says of the model and of how it was trained, by the run's own record."""
    splits = {"training": config.data.train_split, "evaluation": config.data.eval_split}
    examples = {name: {"split": split, "examples": data[name]["examples"]} for name, split in splits.items()}
    epoch = examples["training"]["examples"] * config.data.repeats
    return {
        "model": pretrained.name,
        "fields": _fields(pretrained),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(pretrained.weights.params)),
        "input": [*pretrained.config.input_size, 3],
        "task": pretrained.task,
        "data": {"name": config.data.name, **examples},
        "epochs": round(pretrained.step * config.batch_size / epoch, 2),
        "steps": pretrained.step,
        "seed": config.seed,
    }


def _fields(pretrained: Pretrained) -> dict[str, Any]:
    """Those in which a model's config is not the named model's, for `create_model`; without how it computes."""
    named, own = model_config(pretrained.name), pretrained.config
    fields = {name: getattr(own, name) for name in own.__dataclass_fields__ if name not in COMPUTING}
    return {name: value for name, value in fields.items() if value != getattr(named, name)}


def _accuracy(folder: epath.Path, workdir: epath.Path, metric: Metric) -> float:
    """What packed weights make of the data that the run was evaluated on."""
    (result,) = evaluate(get_config(workdir), folder).values()
    return result[metric.name]


def _check_record(found: float, recorded: float, metric: Metric) -> None:
    """Raises a CheckpointError if an evaluation gives something else than the run's own did."""
    if abs(found - recorded) > _ROUNDING:
        raise CheckpointError(
            f"{metric.label} is {metric.format(found)} here, and was {metric.format(recorded)} when the run was "
            "evaluated: are these its data?"
        )


def _pack_sample(packed: Pretrained, workdir: epath.Path, count: int) -> dict[str, Any]:
    """Writes the sample, if it is not there yet; what the card says of it."""
    data = get_config(workdir).data
    source = find_task(packed.task).open_source(data, "eval", packed.config.kind)
    sample = take_sample(source, packed, count)
    file = f"{data.name}_{'x'.join(map(str, packed.config.input_size))}.npz"
    sha256 = save_sample(sample, sample_file(file))
    return {"file": file, "examples": len(sample.labels), "top1": top1(packed, sample), "sha256": sha256}


def _read_data(workdir: epath.Path) -> dict[str, Any]:
    try:
        return json.loads((workdir / "data.json").read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{workdir / 'data.json'}, which says what the run's data were, is missing") from error


def training_seconds(workdir: epath.Path, last: int) -> float:
    """How long the steps up to `last` took, by the log: without compiling, evaluating and saving.

    Raises:
      DataError: if there is none.
    """
    total, before = 0.0, 0
    for line in read_metrics(workdir):
        if line["split"] == "train" and line["step"] <= last:
            total += (line["step"] - before) * line["step_seconds"]
            before = line["step"]
    return total


def command_of(arguments: Sequence[str]) -> str:
    """The command that trains what a command line's `--config…` say.

    Raises:
      ConfigError: for a value that follows its flag without a =, which may as well be none of it.
    """
    for argument, following in itertools.pairwise(arguments):
        if re.fullmatch(r"--?config(\.[^=]+)?", argument) and not following.startswith("-"):
            raise ConfigError(f"write {argument}={shlex.quote(following)}, with a =, as the card will show it")
    return shlex.join(["python", "main.py", *(each for each in arguments if re.match(r"--?(no)?config[.=]", each))])


def _commit() -> str | None:
    """That of the clone that this package is in; None where it is in none."""
    git = ["git", "-C", Path(__file__).parent, "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def run() -> None:
    """The program: packs what the command line asks for."""
    # Not at the top: whoever imports this module may have flags of these names.
    config = config_flags.DEFINE_config_file("config", None, "What the run was trained with, and --config.x.y=….")
    workdir = flags.DEFINE_string("workdir", None, "The run's.")
    name = flags.DEFINE_string("name", None, "What the model is to be called.")
    about = flags.DEFINE_string("about", None, "What it is; by default the first sentence of the config file.")
    machine = flags.DEFINE_string("machine", None, "What it was trained on, as 'two CPU cores'.")
    data_licence = flags.DEFINE_string("data_licence", None, "Of the data, and whose they are.")
    commit = flags.DEFINE_string("commit", _commit(), "Of this project, with which it was trained; by default today's.")
    step = flags.DEFINE_string("step", "latest", STEP_HELP)
    weights = flags.DEFINE_string("weights", "best", WEIGHTS_HELP)
    sample = flags.DEFINE_integer("sample", 0, "How many test examples come with it.", lower_bound=0)

    def main(argv: list[str]) -> None:
        del argv
        quieten_libraries()
        for flag in (workdir, name, machine, data_licence, commit):
            if flag.value is None:
                raise ConfigError(f"--{flag.name} is missing; --help explains it")
        told = Told(
            command=command_of(sys.argv[1:]),
            about=about.value or first_sentence(Path(config_flags.get_config_filename(flags.FLAGS["config"]))),
            machine=machine.value,
            data_licence=data_licence.value,
            commit=commit.value,
        )
        selection = {"step": step.value, "weights": weights.value}
        pack(workdir.value, name.value, config.value, told, **selection, sample=sample.value)

    raise_at_ctrl_c()
    with exit_on_mistake():
        app.run(main, flags_parser=parse_config_flags)


def first_sentence(file: Path) -> str:
    """Of the docstring of a config file."""
    about = ast.get_docstring(ast.parse(file.read_text())) or ""
    return " ".join(about.split("\n\n")[0].split()).split(". ")[0].removesuffix(".")


if __name__ == "__main__":
    run()
