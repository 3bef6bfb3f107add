"""Trains what a config describes, `python main.py --config=configs/digits.py`, or evaluates a run, `--mode=eval
--workdir=runs/digits`. With `--mode=leave_one_out` it trains a model for each person of the data, without that person's
examples, and evaluates all of them together (`training/folds.py`).

Any field is overridden with `--config.x.y=…`; a run is evaluated by its own config, and what it learned is not to be
overridden (`training/saved_config.py`). On several hosts each runs the same command: on SLURM and Cloud TPUs they
find each other, elsewhere `--coordinator_address`, `--num_processes` and `--process_id` say where they are.

Exit codes: 0 done; 2 a mistake that the message explains; 3 the loss became infinite or not a number; 130 or 143
stopped by SIGINT or SIGTERM with a checkpoint written, from which the same command goes on.
"""

import re
import shlex
import sys
from pathlib import Path

if __name__ == "__main__":
    from posmlp_jax.command_line import begin_program

    begin_program()

import jax
from absl import app, flags
from ml_collections import config_flags

from posmlp_jax import training
from posmlp_jax.checkpoints.folders import folder_of
from posmlp_jax.checkpoints.selection import BEST_WEIGHTS, STEP_HELP, check_selection
from posmlp_jax.checkpoints.zoo import name_of
from posmlp_jax.command_line import quieten_libraries, raise_at_ctrl_c
from posmlp_jax.devices.hosts import connect
from posmlp_jax.errors import ConfigError, exit_on_mistake, nearest
from posmlp_jax.tasks import find_task
from posmlp_jax.training import saved_config
from posmlp_jax.training.flags import given_value, overridden, parse_config_flags
from posmlp_jax.training.stopping import RunEnded

MODES = ("train", "eval", "leave_one_out")

_CONFIG = config_flags.DEFINE_config_file("config", None, "A file in configs/.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Where checkpoints and metrics go; by default runs/<config name>.")
_MODE = flags.DEFINE_string(
    "mode",
    "train",
    "train; eval: a checkpoint of the workdir on the evaluation split; or leave_one_out: a model for each person of "
    "the data, trained on the others.",
)
_STEP = flags.DEFINE_string("step", "latest", f"For eval, which checkpoint: {STEP_HELP}.")
_WEIGHTS = flags.DEFINE_string(
    "weights", None, f"For eval, which of its weights: raw, ema (the moving average) or best ({BEST_WEIGHTS}); all."
)
_COORDINATOR = flags.DEFINE_string("coordinator_address", None, "Several hosts: host:port of process 0.")
_PROCESSES = flags.DEFINE_integer("num_processes", None, "Several hosts: how many processes.", lower_bound=1)
_PROCESS = flags.DEFINE_integer("process_id", None, "Several hosts: which process this is, from 0.", lower_bound=0)


@flags.validator(_MODE)
def _check_mode(mode: str) -> bool:
    """Says what is wrong with a mode before there is talk of the config, which not every mode needs."""
    if mode in MODES:
        return True
    raise flags.ValidationError(f"unknown mode '{mode}'; {nearest(mode, MODES)}")


def parse_flags(argv: list[str]) -> list[str]:
    """Absl's flag parsing, with one clear line for whatever is wrong."""
    for argument in argv[1:]:
        if re.match(r"--?checkpoint(=|$)", argument):
            raise ConfigError("which checkpoint of --workdir is --step=latest, best or a step, and not --checkpoint")
    evaluates, workdir = given_value(argv, "mode") == "eval", given_value(argv, "workdir")
    if evaluates and given_value(argv, "config") is None:
        if workdir is None:
            raise ConfigError("which run? for example --workdir=runs/digits")
        saved_config.get_config(workdir)  # Its mistakes are no mistakes in flags.
        argv = [argv[0], f"--config={saved_config.__file__}:{workdir}", *argv[1:]]
    rest = parse_config_flags(argv)
    if not evaluates and (_STEP.present or _WEIGHTS.present):
        raise ConfigError(
            "--step and --weights are for --mode=eval; a run goes on from its newest checkpoint, and starts from what "
            "--config.init_from, init_step and init_weights name"
        )
    check_selection(_STEP.value, _WEIGHTS.value or "best", "--")
    return rest


def main(argv: list[str]) -> None:
    """Runs what the flags ask for."""
    del argv
    quieten_libraries()
    connect(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
    name = Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem
    workdir = _WORKDIR.value or f"runs/{name}"
    if _MODE.value == "eval":
        saved_config.check_overrides(overridden(sys.argv), _CONFIG.value, workdir)
        # What comes with the package is nothing to write into.
        output = f"runs/{zoo}" if (zoo := name_of(folder_of(workdir))) else None
        training.evaluate(_CONFIG.value, workdir, _STEP.value, _WEIGHTS.value, output=output)
        return
    if _MODE.value == "leave_one_out":
        training.leave_one_out(_CONFIG.value, workdir)
        return
    results = training.train(_CONFIG.value, workdir)
    if jax.process_index():
        return
    metrics = find_task(_CONFIG.value.task).metrics
    metric = next(metric for metric in metrics if metric.brief)
    value, *average = (metric.format(results[split][metric.name]) for split in results)
    averaged = f" (moving average {average[0]})" if average else ""
    folder = shlex.quote(workdir)
    print(f"\ntest {metric.label}: {value}{averaged}; everything is in {workdir}")
    print(f"next: python main.py --mode=eval --workdir={folder}  evaluates it again")
    print(f"      python -m posmlp_jax.analysis.curves {folder}  draws its curves")
    if find_task(_CONFIG.value.task).predicts_files:
        print(f"      python -m posmlp_jax.predict --checkpoint={folder} FILES  says what is in yours")


def run() -> None:
    """Runs `main`, turning what users can mend into one line and an exit code."""
    raise_at_ctrl_c()
    try:
        with exit_on_mistake():
            app.run(main, flags_parser=parse_flags)
    except RunEnded as end:
        print(end, file=sys.stderr)
        sys.exit(end.exit_code)
    except KeyboardInterrupt:
        # Before the first step and after the last one, when there is nothing to save.
        print("\nstopped", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    run()
