"""What packages offer, imported when it is asked for.

Importing a package, which `python -m` does before it runs a program, and which processes that load data do, then costs
nothing; the libraries that its modules need take seconds.
"""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazily(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """A package's `__getattr__`.

    Args:
      package: its name.
      modules: for each name that it offers, the module that has it: of the package, or with a dot, as `.models`, one
        beside it.
    """

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        return getattr(importlib.import_module(f".{modules[name]}", package), name)

    return get
