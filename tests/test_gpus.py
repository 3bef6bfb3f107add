"""What is written for GPUs in a way of its own: values and derivatives are those of the other way."""

import jax
import jax.numpy as jnp
import naive
import numpy as np
from flax import nnx

from posmlp_jax.blocks import GatedBlock
from posmlp_jax.gating import GatingUnit
from posmlp_jax.gpus import by_token, hold, pack_bits
from posmlp_jax.layers import Dropout
from posmlp_jax.relations import QuadraticRelation


def test_a_block_is_the_same_in_both_ways(monkeypatch):
    rngs = nnx.Rngs(0)

    def make_gate(channels):
        return GatingUnit(channels, QuadraticRelation((2, 3), 2, rngs=rngs), rngs=rngs)

    graph, state = nnx.split(GatedBlock(5, 4, make_gate, rngs=rngs))
    leaves, tree = jax.tree.flatten(state)
    rng = np.random.default_rng(0)
    # Biases of 0 would hide what is wrong with them.
    parameters = jax.tree.unflatten(tree, [leaf + 0.1 * rng.normal(size=leaf.shape) for leaf in leaves])
    x = jnp.asarray(rng.normal(size=(3, 2, 6, 5)), jnp.float32)

    def results():
        def total(parameters, x):
            return jnp.sum(jnp.sin(nnx.merge(graph, parameters)(x)))

        reverse = jax.value_and_grad(total, argnums=(0, 1))
        forward = jax.jit(lambda *arguments: jax.jvp(total, arguments, arguments))
        return jax.tree.leaves((jax.jit(reverse)(parameters, x), forward(parameters, x)))

    expected = results()
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *arguments, cuda, default, **_: cuda(*arguments))
    for mine, other in zip(results(), expected, strict=True):
        naive.assert_close(mine, other)


def test_what_is_dropped_is_kept_as_bits(monkeypatch):
    rng = np.random.default_rng(0)
    bits = rng.random((3, 5, 24)) < 0.7
    np.testing.assert_array_equal(pack_bits(jnp.asarray(bits)), np.packbits(bits, axis=-1, bitorder="little"))
    x, key = jnp.asarray(rng.normal(size=(3, 5, 24)), jnp.float32), jax.random.key(0)

    def results():
        return jax.jit(jax.value_and_grad(lambda x: jnp.sum(Dropout(0.3)(x, rngs=key) ** 2)))(x)

    expected = results()
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *arguments, cuda, default, **_: cuda(*arguments))
    for mine, other in zip(results(), expected, strict=True):
        np.testing.assert_array_equal(mine, other)
    np.testing.assert_array_equal(hold(jnp.asarray(bits)), bits)
    np.testing.assert_array_equal(hold(jnp.asarray(bits[..., :7])), bits[..., :7])


def test_only_gpus_hold_gradients_apart():
    traced = jax.jit(lambda bias: by_token(bias, 2, 3)).trace(jax.ShapeDtypeStruct((2, 1), jnp.float32))
    assert "optimization_barrier" in traced.lower(lowering_platforms=("cuda",)).as_text()
    assert "optimization_barrier" not in traced.lower(lowering_platforms=("cpu",)).as_text()
