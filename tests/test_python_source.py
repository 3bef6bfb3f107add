"""Signatures and docstrings on their way into the API reference; where Sphinx is installed, as by `make docs`."""

from pathlib import Path

import pytest

from posmlp_jax import relations
from posmlp_jax.models import PosMLPConfig
from posmlp_jax.models.backbone import Backbone
from posmlp_jax.tasks.task import Task

napoleon = pytest.importorskip("sphinx.ext.napoleon")
python_source = pytest.importorskip("python_source")


def signature(what: str, obj) -> tuple[str, str | None] | None:
    return python_source.signature_in_source(None, what, "", obj, None, None, None)


def converted(text: str, what: str = "function") -> str:
    lines = text.split("\n")
    python_source.markdown_docstring(None, what, "", None, None, lines)
    return "\n".join(lines)


def test_signatures_are_as_written_but_for_names_of_types():
    assert signature("method", relations.DenseRelation.__call__) == (
        "(mask: Bool[np.ndarray, '*masks tokens tokens'] | None=None)",
        "Float[Array, '*masks groups tokens tokens']",
    )
    # The name is of another module than the one that has its meaning.
    assert signature("method", Backbone.__call__)[0].startswith(
        "(images: Shaped[ArrayLike, 'batch ...'], *, train: bool"
    )
    parameters, returned = signature("class", relations.FoldedRelation)
    assert parameters.startswith("(relation: QuadraticRelation | LearnedRelation |")
    assert parameters.endswith("dtype=jnp.float32)")
    assert returned is None
    assert signature("method", Task.fields) == ("()", "dict[str, Any]")


def test_signatures_that_sphinx_knows_better_or_that_say_nothing():
    assert signature("class", PosMLPConfig) is None
    assert signature("class", relations.FoldedMatrix) == ("", None)
    assert signature("class", Path) is None


def test_code_becomes_references_and_emphasis_stays_out():
    assert converted("As `GatingUnit` and `list_models()` do, `a + b` of *args.") == (
        "As :py:obj:`GatingUnit <GatingUnit>` and :py:obj:`list_models() <list_models>` do, ``a + b`` of \\*args."
    )
    assert converted("`windows` is a field.") == "``windows`` is a field."
    assert converted("Args:\n  groups: s.") == "Args:\n  groups: s\\."


def test_tables_and_blocks_of_code():
    table = converted("Text:\n\n| a | b |\n| --- | --- |\n| `x y` | 2 |")
    assert table.split("\n")[5:] == ["   * - a", "     - b", "   * - ``x y``", "     - 2"]
    assert "::\n\n    python -m x" in converted("Text:\n\n    python -m x", "module")


def test_fields_of_napoleon_stay_what_they_are():
    """A colon in a property's first line, several names, types with an asterisk, and commas of the text."""
    assert converted("Height: or width.", "property") == ": Height: or width."
    lines = [":ivar stage, block: from 1, or 2", ":vartype stage: Float[Array, '*map']", ":param path: a, b, or `c`: d"]
    python_source.plain_fields(None, "class", "", None, None, lines)
    assert lines[:2] == [":ivar stage,block: from 1, or 2", ":vartype stage: Float[Array, '\\*map']"]
    assert lines[2] == ":param path: a, b, or `c`: d"
    assert ":type:" not in str(napoleon.GoogleDocstring(": Height: or width.", what="property"))
