"""What is written for GPUs in a way of its own: values and derivatives are those of the other way."""

import jax
import jax.numpy as jnp
import naive
import numpy as np
import pytest
from flax import nnx

from posmlp_jax.blocks import GatedBlock
from posmlp_jax.downsampling import ConvMerging
from posmlp_jax.gating import GatingUnit
from posmlp_jax.gpus import by_token, hold, own_gradient, pack_bits, together
from posmlp_jax.layers import Dropout
from posmlp_jax.relations import QuadraticRelation


def assert_same_in_both_ways(results, monkeypatch, assert_close=naive.assert_close):
    expected = jax.tree.leaves(results())
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *arguments, cuda, default, **_: cuda(*arguments))
    for mine, other in zip(jax.tree.leaves(results()), expected, strict=True):
        assert_close(mine, other)


def derivatives(module, x):
    """A way to compute a module's values and derivatives, forwards and backwards, by parameters and x."""
    graph, state = nnx.split(module)
    leaves, tree = jax.tree.flatten(state)
    rng = np.random.default_rng(0)
    # Biases of 0 would hide what is wrong with them.
    parameters = jax.tree.unflatten(tree, [leaf + 0.1 * rng.normal(size=leaf.shape) for leaf in leaves])

    def total(parameters, x):
        return jnp.sum(jnp.sin(nnx.merge(graph, parameters)(x)))

    def results():
        reverse = jax.value_and_grad(total, argnums=(0, 1))
        forward = jax.jit(lambda *arguments: jax.jvp(total, arguments, arguments))
        return jax.jit(reverse)(parameters, x), forward(parameters, x)

    return results


def test_a_block_is_the_same_in_both_ways(monkeypatch):
    rngs = nnx.Rngs(0)

    def make_gate(channels):
        return GatingUnit(channels, QuadraticRelation((2, 3), 2, rngs=rngs), rngs=rngs)

    x = jax.random.normal(jax.random.key(0), (3, 2, 6, 5))
    assert_same_in_both_ways(derivatives(GatedBlock(5, 4, make_gate, rngs=rngs), x), monkeypatch)


def test_a_merging_is_the_same_in_both_ways(monkeypatch):
    x = jax.random.normal(jax.random.key(0), (2, 5, 4, 3))
    assert_same_in_both_ways(derivatives(ConvMerging(3, "layer", jnp.float32, nnx.Rngs(0)), x), monkeypatch)


def test_what_is_dropped_is_kept_as_bits(monkeypatch):
    rng = np.random.default_rng(0)
    bits = rng.random((3, 5, 24)) < 0.7
    np.testing.assert_array_equal(pack_bits(jnp.asarray(bits)), np.packbits(bits, axis=-1, bitorder="little"))
    x, key = jnp.asarray(rng.normal(size=(3, 5, 24)), jnp.float32), jax.random.key(0)

    def total(x):
        return sum(jnp.sum(drop(x, rngs=key) ** 2) for drop in (Dropout(0.3), Dropout(0.3, broadcast_dims=(1, 2))))

    def results():
        return jax.jit(jax.value_and_grad(total))(x)

    assert_same_in_both_ways(results, monkeypatch, np.testing.assert_array_equal)
    for count in (24, 7):
        np.testing.assert_array_equal(hold(jnp.asarray(bits[..., :count])), bits[..., :count])


@pytest.mark.parametrize(
    "function",
    [lambda bias: by_token(bias, 2, 3), lambda x: jax.jvp(own_gradient, (x,), (x,)), together],
    ids=["bias", "gradient", "together"],
)
def test_only_gpus_hold_what_they_join_otherwise(function):
    traced = jax.jit(function).trace(jax.ShapeDtypeStruct((2, 1), jnp.float32))
    assert "optimization_barrier" in traced.lower(lowering_platforms=("cuda",)).as_text()
    assert "optimization_barrier" not in traced.lower(lowering_platforms=("cpu",)).as_text()
