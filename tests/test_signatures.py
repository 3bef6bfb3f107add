"""The shapes and types in signatures are checked while tests run (conftest.py), so that they cannot go stale."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import TypeCheckError
from runs import ROOT

from posmlp_jax.gating import mix_frames, mix_tokens
from posmlp_jax.layers import gelu
from posmlp_jax.relations import LearnedRelation, quadratic_coefficients
from posmlp_jax.tasks.classification.losses import cross_entropy
from posmlp_jax.windows import WindowLayout


def test_every_annotated_module_is_checked():
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in sorted((ROOT / "posmlp_jax").rglob("*.py"))
        if "from jaxtyping import" in path.read_text()
    ]
    assert "posmlp_jax.relations" in names
    loaders = {name: type(importlib.import_module(name).__spec__.loader).__module__ for name in names}
    assert {name for name, loader in loaders.items() if not loader.startswith("jaxtyping.")} == set()


def wrong_mask():
    """Numbers, of which `where` would take what is not 0."""
    LearnedRelation((2,))(np.ones((2, 2)))


def wrong_layout():
    WindowLayout((2,), (2,), (0,), (1,), np.ones((1, 2, 3), bool), np.zeros(1, int))


WRONG = {
    "square": lambda: mix_tokens(jnp.ones((1, 2, 3)), jnp.ones((4, 3))),
    "tokens": lambda: mix_tokens(jnp.ones((1, 3, 3)), jnp.ones((4, 2))),
    "groups": lambda: quadratic_coefficients(jnp.ones((1, 2)), jnp.ones((3, 2, 2))),
    "axes": lambda: mix_frames(jnp.ones((1, 2, 2)), jnp.ones((4, 3))),
    "examples": lambda: cross_entropy(jnp.ones((4, 3)), jnp.ones((1, 3))),
    "integers": lambda: gelu(jnp.arange(3)),
    "mask": wrong_mask,
    "layout": wrong_layout,
}


@pytest.mark.parametrize("call", WRONG.values(), ids=WRONG)
def test_what_a_signature_does_not_say_is_an_error(call):
    with pytest.raises(TypeCheckError):
        call()


def test_also_while_a_function_is_traced():
    with pytest.raises(TypeCheckError, match="tokens"):
        jax.eval_shape(mix_tokens, jnp.ones((1, 3, 3)), jnp.ones((4, 2)))
