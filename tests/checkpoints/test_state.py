"""Models as pure functions of plain arrays."""

import jax
import pytest
from flax import nnx
from helpers import small
from runs import assert_equal

from posmlp_jax.checkpoints.state import abstract_weights, create_weights, module_weights
from posmlp_jax.models import model_config, registry


@pytest.mark.parametrize("name", ["posmlp_t", "gmlp_s", "posmlp_video_s"])
def test_initial_weights_are_those_of_flax_own_keys(name):
    config = model_config(name, **small(name))
    weights = jax.jit(lambda: create_weights(config, 3))()
    assert_equal(weights, jax.jit(lambda: module_weights(registry.build(config, nnx.Rngs(3))))())
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), weights)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), abstract_weights(config)) == shapes


def test_whoever_changes_an_abstract_model_changes_no_other():
    config = model_config("posmlp_t", **small("posmlp_t"))
    registry.abstract_model(config).head = None
    assert registry.abstract_model(config).head is not None
