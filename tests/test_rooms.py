"""Nothing imports upwards: a module knows what is in its own row of rooms, and in the rows above that."""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "posmlp_jax"
ROWS = [
    {"lazy", "errors", "paths", "writing", "terminal", "figures", "command_line"},
    {"gpus", "normalization", "relations", "gating", "windows", "layers"}
    | {"downsampling", "fused_branch", "blocks", "detection"},
    {"models"},
    {"devices"},
    {"checkpoints"},
    {"data"},
    {"tasks"},
    {"training"},
    {"analysis", "convert", "predict", "export", "preview", "zoo"},
]
ROW = {room: number for number, row in enumerate(ROWS) for room in row}
# What data are, and what a model is, have nothing to do with each other: tasks bring them together.
APART = {"data": {*ROWS[1], "models", "checkpoints"}}


def imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The lines of all imports, also those inside functions, and the rooms that they are from; '' is the package."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"line {node.lineno}: imports name the package"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for package, _, rest in (name.partition(".") for name in names):
            if package == PACKAGE.name:
                room = rest.split(".")[0]
                yield node.lineno, room if room in ROW else ""


def test_nothing_imports_upwards():
    files = [path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py"]
    assert {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in files} == set(ROW)
    offenders = []
    for path in files:
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for line, other in imported(ast.parse(path.read_text())):
            # What the package itself offers is from all over it.
            if not other or ROW[other] > ROW[room] or other in APART.get(room, ()):
                offenders.append(f"{path.relative_to(PACKAGE.parent)}:{line} imports {other or PACKAGE.name}")
    assert not offenders, "\n".join(sorted(offenders))
