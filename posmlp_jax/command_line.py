"""What the package's programs share: parsers with clear errors, and how a program ends."""

import _thread
import argparse
import ast
import ctypes
import importlib.metadata
import importlib.util
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from logging import CRITICAL, getLogger
from typing import NoReturn

from absl import flags, logging

from posmlp_jax.errors import ConfigError, exit_on_mistake

# Of mallopt, from glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


class CommandParser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, like all of ours, and whose help keeps its lines.

    Args:
      module: what comes behind `python -m`.
      about: the module's docstring.
    """

    def __init__(self, module: str, about: str, **options):
        super().__init__(
            prog=f"python -m {module}",
            description=about,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            **options,
        )

    def error(self, message: str) -> NoReturn:
        """Raises a ConfigError."""
        raise ConfigError(f"{message} (--help explains them)")


def field_value(text: str) -> tuple[str, object]:
    """FIELD and VALUE of `--override=FIELD=VALUE`: a Python literal or, of anything else, the text."""
    field, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--override={text} should be FIELD=VALUE, as covariance=free")
    try:
        return field, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return field, value


def positive(text: str) -> float:
    """A number of an option, to be more than 0, for argparse."""
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"is {text}, and should be more than 0")
    return value


def run_program(main: Callable[[list[str] | None], int | None], argv: list[str] | None, stopped: str = "") -> None:
    """Runs a program's `main`, which returns its exit code, None being 0, and exits where that is another.

    Exit codes besides: 2 for a mistake of the user, in one line; 130 when stopped from the keyboard, with the line
    `stopped`; 141 when whoever read the output has gone (`| head`).
    """
    raise_at_ctrl_c()
    quieten_libraries()
    # Each line goes out when it is known, whatever reads it, and in any encoding.
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    try:
        with exit_on_mistake():
            if code := main(argv):
                sys.exit(code)
    except KeyboardInterrupt:
        print(f"\nstopped{stopped and '; '}{stopped}", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # What is still to be written at the end has nowhere else to go without a complaint.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def begin_program() -> None:
    """To be called by a program before it imports others: Ctrl-C ends it at once, and freed memory is kept.

    Modules being imported may lose Python's exception, and would show where they are otherwise.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Has glibc keep what is freed, where steps run on CPUs, unless the environment sets its allocator up.

    XLA takes its temporaries anew for every step, and glibc gives blocks of their size back to the kernel, which zeroes
    each page of the next ones: a quarter of a training step's time. The main heap grows instead, which threads share
    (they would map large blocks), and shrinks no more. With an accelerator there is nothing to gain from that.
    """
    on_cpu = os.environ.get("JAX_PLATFORMS") == "cpu" or not (
        importlib.metadata.entry_points(group="jax_plugins") or importlib.util.find_spec("libtpu")
    )
    if not on_cpu or any(name.startswith("MALLOC_") for name in os.environ):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # It is glibc's own.
        return
    for option, value in ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1)):
        mallopt(option, value)


def raise_at_ctrl_c() -> None:
    """Undoes what `begin_program` did to Ctrl-C when all is imported."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def quieten_libraries() -> None:
    """Leaves the terminal to us, unless `--verbosity` is given; where `app.run` is used, to be called in it.

    Orbax tells at INFO level of every array it writes, and logs what it raises as well. Pillow warns of odd files that
    it reads all the same. gcsfs logs the traceback of each thing that it gives up.
    """
    sys.unraisablehook = _report_unraisable
    warnings.filterwarnings("ignore", module=r"PIL\.")
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.FATAL)
        getLogger("gcsfs").setLevel(CRITICAL)


def _report_unraisable(unraisable) -> None:
    """Python's own report, but for what Orbax's reads and writes find when another has failed: their loop gone.

    A Ctrl-C that arrived where no exception can be raised, as in JAX's callback of the garbage collector, comes again.
    """
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        # A moment later: here it would be lost as well.
        again = threading.Timer(0.05, _thread.interrupt_main)
        again.daemon = True
        again.start()
    elif str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)
