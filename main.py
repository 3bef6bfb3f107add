"""Trains or evaluates what a config describes: `python main.py --config=configs/digits.py [--mode=eval]`.

Any field is overridden with `--config.x.y=…`. Exit codes: 0 done; 2 a mistake that the message explains; 130 or 143
stopped by SIGINT or SIGTERM with a checkpoint written, from which the same command goes on.
"""

import re
import sys
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from posmlp_jax import training
from posmlp_jax.errors import ConfigError, exit_on_mistake, nearest
from posmlp_jax.training.config import check_override
from posmlp_jax.training.stopping import Stopped

MODES = ("train", "eval")

_CONFIG = config_flags.DEFINE_config_file("config", None, "A file in configs/.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Where checkpoints and metrics go; by default runs/<config name>.")
_MODE = flags.DEFINE_string("mode", "train", "train, or eval: the workdir's newest checkpoint on the evaluation split.")


def parse_flags(argv: list[str]) -> list[str]:
    """Absl's flag parsing, with one clear line for whatever is wrong."""
    for argument in argv[1:]:
        override = re.match(r"--?(?:no)?config\.([^=]+)", argument)
        if override:
            check_override(override[1])
        path = re.fullmatch(r"--?config=(.*)", argument)
        if path and not Path(path[1].split(":")[0]).is_file():
            known = sorted(str(path) for path in Path("configs").glob("*.py"))
            raise ConfigError(f"there is no config file '{path[1]}'; {nearest(path[1], known)}")
    try:
        rest = app.parse_flags_with_usage(argv) if "--help" in argv else flags.FLAGS(argv)
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(str(error)) from error
    if len(rest) > 1:
        raise ConfigError(f"unexpected argument '{rest[1]}'; options look like --config=configs/digits.py")
    if _CONFIG.value is None:
        raise ConfigError("which config? for example --config=configs/digits.py")
    if _MODE.value not in MODES:
        raise ConfigError(f"unknown mode '{_MODE.value}'; {nearest(_MODE.value, MODES)}")
    return rest


def main(argv: list[str]) -> None:
    """Runs what the flags ask for."""
    del argv
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # Orbax tells at INFO level of every array it writes.
    name = Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem
    workdir = _WORKDIR.value or f"runs/{name}"
    if _MODE.value == "eval":
        training.evaluate(_CONFIG.value, workdir)
        return
    results = training.train(_CONFIG.value, workdir)
    averaged = f" (moving average {100 * results['ema']['top1']:.2f} %)" if "ema" in results else ""
    print(f"\ntest top-1: {100 * results['eval']['top1']:.2f} %{averaged}; everything is in {workdir}")
    command = f"python main.py --config={config_flags.get_config_filename(flags.FLAGS['config'])}"
    print(f"next: {command} --workdir={workdir} --mode=eval  evaluates it again (with the same --config.… overrides)")
    print(f"      python -m posmlp_jax.analysis.curves {workdir}  draws its curves")
    print("      --config.data.name=image_folder --config.data.data_dir=DIR  trains on your own images (see README)")


def run() -> None:
    """Runs `main`, turning what users can mend into one line and an exit code."""
    try:
        with exit_on_mistake():
            app.run(main, flags_parser=parse_flags)
    except Stopped as stop:
        print(stop, file=sys.stderr)
        sys.exit(stop.exit_code)


if __name__ == "__main__":
    run()
