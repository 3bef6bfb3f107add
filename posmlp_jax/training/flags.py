"""The command line of the programs that take `--config=FILE` and `--config.x.y=…`."""

import re
from pathlib import Path

from absl import app, flags

from posmlp_jax.errors import ConfigError, nearest
from posmlp_jax.training.config import check_override


def given_value(argv: list[str], name: str) -> str | None:
    """The value of a flag on a command line that is not parsed yet, or None."""
    for argument, following in zip(argv, [*argv[1:], None], strict=True):
        if match := re.fullmatch(rf"--?{name}(?:=(.*))?", argument, re.DOTALL):
            return following if match[1] is None else match[1]
    return None


def overridden(argv: list[str]) -> list[str]:
    """The config's fields that a command line sets, as 'data.name'."""
    matches = (re.match(r"--?(?:no)?config\.([^=]+)", argument) for argument in argv)
    return [match[1] for match in matches if match]


def parse_config_flags(argv: list[str]) -> list[str]:
    """Absl's flag parsing for a program with a `config` flag, with one clear line for whatever is wrong.

    Args:
      argv: the program's name and its arguments; `config_flags` looks for overrides in `sys.argv`, which should be it.

    Returns:
      The program's name.

    Raises:
      ConfigError: for an unknown field or flag, a value of the wrong type, a missing config, or anything else given.
    """
    for name in overridden(argv[1:]):
        check_override(name)
    for argument in argv[1:]:
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
    if flags.FLAGS["config"].value is None:
        raise ConfigError("which config? for example --config=configs/digits.py")
    return rest
