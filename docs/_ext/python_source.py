"""The API reference as the source has it: signatures as they are written there, and docstrings in their Markdown.

Sphinx itself would show annotations as Python evaluates them, `jaxlib._jax.Array` for `Array`, and reads docstrings as
reStructuredText, where a single backtick and a table look different.
"""

import ast
import contextlib
import dataclasses
import functools
import importlib.util
import inspect
import re
import textwrap

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.domains.python import PyObject
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode


def signature_in_source(app: Sphinx, what: str, name: str, obj, options, arguments: str | None, returns: str | None):
    """The parameters and the returned type as they are written; None where Sphinx knows better."""
    if what not in ("class", "function", "method") or not str(getattr(obj, "__module__", "")).startswith("posmlp_jax"):
        return None
    function = inspect.unwrap(obj)
    if what == "class":
        if dataclasses.is_dataclass(obj):
            return None
        if obj.__init__.__qualname__ != f"{obj.__qualname__}.__init__":
            return "", None
        function = obj.__init__
    try:
        definition = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    except OSError:
        return None
    given = definition.args
    given.args = [argument for argument in given.args if argument.arg not in ("self", "cls")]
    plain = functools.partial(_written_out, module=function.__module__)
    for argument in ast.walk(given):
        if isinstance(argument, ast.arg) and argument.annotation:
            argument.annotation = plain(argument.annotation)
    returned = definition.returns if what != "class" else None
    return f"({ast.unparse(given)})", ast.unparse(plain(returned)) if returned else None


def _written_out(annotation: ast.expr, module: str) -> ast.expr:
    """An annotation with a module's names for types, such as `Batch`, replaced by what they stand for."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        annotation = ast.parse(annotation.value, mode="eval").body

    class WriteOut(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.expr:
            return _alias(module, node.id) or node

    return WriteOut().visit(annotation)


@functools.cache
def _alias(module: str, name: str) -> ast.expr | None:
    """What a module's name for a type stands for, be it from another module of ours; None where it is no such name."""
    for statement in ast.parse(inspect.getsource(importlib.import_module(module))).body:
        match statement:
            case ast.Assign(targets=[ast.Name() as target], value=ast.Subscript() | ast.BinOp()) if target.id == name:
                return _written_out(statement.value, module)
            case ast.ImportFrom(module=str(other)) if name in [imported.name for imported in statement.names]:
                return _alias(other, name) if other.startswith("posmlp_jax") else None
    return None


_CODE = re.compile(r"(`[^`]+`)")
# What begins a list's item: the letter of an equation and a full stop are none.
_LETTER = re.compile(r"(^ *(?:\w+: )?)(\w)\.(?= |$)")


def markdown_docstring(app: Sphinx, what: str, name: str, obj, options, lines: list[str]) -> None:
    """Makes reStructuredText of a docstring's Markdown: code, tables and, in a module's, blocks of code."""
    blocks = ["\n".join(block) for block in _split(lines)]
    for index, block in enumerate(blocks):
        if what == "module" and block.startswith("    "):
            blocks[index] = f"::\n\n{block}"
        elif block.startswith("| "):
            rows = [[cell.strip() for cell in row.strip("| ").split(" | ")] for row in block.split("\n")]
            items = ["   * - " + "\n     - ".join(map(_roles, row)) for row in [rows[0], *rows[2:]]]
            blocks[index] = ".. list-table::\n   :header-rows: 1\n\n" + "\n".join(items)
        else:
            blocks[index] = "\n".join(_LETTER.sub(r"\1\2\\.", line) for line in _roles(block).split("\n"))
    if what in ("property", "attribute"):
        blocks[0] = f": {blocks[0]}"  # Of these, Napoleon takes what is before a colon for the type.
    lines[:] = "\n\n".join(blocks).split("\n")


def plain_fields(app: Sphinx, what: str, name: str, obj, options, lines: list[str]) -> None:
    """Keeps what Napoleon has made fields of from being read otherwise."""
    for index, line in enumerate(lines):
        if line.startswith(":vartype "):
            lines[index] = line.replace("*", r"\*")  # `"groups *map"` begins no emphasis.
        elif line.startswith((":ivar ", ":param ")):
            names, colon, text = line.partition(": ")
            lines[index] = names.replace(", ", ",") + colon + text  # All but the last would be a type.


def _split(lines: list[str]) -> list[list[str]]:
    """The blocks between empty lines."""
    blocks: list[list[str]] = [[]]
    for line in lines:
        if line.strip():
            blocks[-1].append(line)
        elif blocks[-1]:
            blocks.append([])
    return blocks


def _roles(text: str) -> str:
    """Code as references where it is a name, and emphasis nowhere."""
    parts = _CODE.split(text)
    for index, part in enumerate(parts):
        if index % 2:
            code = part[1:-1]
            name = code.removesuffix("()")
            # A field of that name is meant: `windows`.
            is_module = importlib.util.find_spec(f"posmlp_jax.{name}") if name.isidentifier() else None
            is_name = re.fullmatch(r"[A-Za-z_][\w.]*", name) and not is_module
            parts[index] = f":py:obj:`{code} <{name}>`" if is_name else f"``{code}``"
        else:
            parts[index] = re.sub(r"(?<!\n)\*(?=\w)(?!\*)", r"\\*", part)
    return "".join(parts)


def find_short_name(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement):
    """Finds what a name without its module is, and lets names of other libraries be."""
    if node["refdomain"] != "py":
        return None
    target = node["reftarget"]
    found = {
        (entry.docname, entry.node_id)
        for name, entry in env.domains.python_domain.objects.items()
        if name.endswith(f".{target}") and not entry.aliased and entry.objtype in ("class", "function", "exception")
    }
    if len(found) == 1:
        ((document, anchor),) = found
        with contextlib.suppress(KeyError):
            return make_refnode(app.builder, node["refdoc"], document, anchor, content, target)
    # What is raised, and what has the package's name, should be found.
    strict = node["reftype"] == "exc" or (target.startswith("posmlp_jax.") and node["reftype"] != "obj")
    return None if strict else content


def without_field_numbers(app: Sphinx, what: str, name: str, obj, skip: bool, options) -> bool | None:
    """Leaves out the fields of named tuples, of which Python says their numbers; `Attributes:` has what they are."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def setup(app: Sphinx) -> dict:
    """Called by Sphinx."""
    # As docstrings call them.
    next(field for field in PyObject.doc_field_types if field.name == "variable").label = "Attributes"
    app.connect("autodoc-skip-member", without_field_numbers)
    app.connect("autodoc-process-signature", signature_in_source)
    # Before Napoleon.
    app.connect("autodoc-process-docstring", markdown_docstring, priority=400)
    app.connect("autodoc-process-docstring", plain_fields, priority=600)
    app.connect("missing-reference", find_short_name)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
