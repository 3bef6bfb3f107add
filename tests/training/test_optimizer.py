import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from posmlp_jax.models import create_model
from posmlp_jax.training import default_config
from posmlp_jax.training.optimizer import create_optimizer, decay_mask

TINY = {"image_size": 16, "widths": (4,), "depths": (1,), "expansions": (2,), "windows": (4,), "groups": (2,)}


def test_decay_leaves_out_biases_norms_and_one_axis():
    params = nnx.to_pure_dict(nnx.state(create_model("posmlp_t", **TINY), nnx.Param))
    decayed = {
        jax.tree_util.keystr(path, simple=True, separator=".")
        for path, applies in jax.tree_util.tree_leaves_with_path(decay_mask(params))
        if applies
    }
    assert decayed == {
        "head.kernel",
        "stages.0.blocks.0.expand.kernel",
        "stages.0.blocks.0.gate.relation.center",
        "stages.0.blocks.0.gate.relation.spread",
        "stages.0.blocks.0.project.kernel",
        "stem.convs.0.kernel",
        "stem.convs.1.kernel",
        "stem.convs.2.kernel",
    }


def test_three_steps_of_adamw_with_clipping_by_hand():
    config = default_config().optimizer
    config.update(clip_norm=1.0, weight_decay=0.1, eps=1e-5)
    params = {"kernel": jnp.full((2, 2), 0.5), "bias": jnp.full((2,), 0.5)}
    optimizer = create_optimizer(config, lambda step: 0.01 * (step + 1))
    state = optimizer.init(params)
    random = np.random.default_rng(0)

    value = {name: np.asarray(p, np.float64) for name, p in params.items()}
    first = {name: np.zeros_like(p) for name, p in value.items()}
    second = {name: np.zeros_like(p) for name, p in value.items()}
    for step in range(3):
        grads = {name: random.normal(0, 10**step, p.shape) for name, p in value.items()}
        updates, state = optimizer.update(jax.tree.map(jnp.float32, grads), state, params)
        params = jax.tree.map(jnp.add, params, updates)

        norm = np.sqrt(sum((g**2).sum() for g in grads.values()))
        for name, gradient in grads.items():
            clipped = gradient / max(norm, 1.0)
            first[name] = 0.9 * first[name] + 0.1 * clipped
            second[name] = 0.999 * second[name] + 0.001 * clipped**2
            direction = first[name] / (1 - 0.9 ** (step + 1))
            direction /= np.sqrt(second[name] / (1 - 0.999 ** (step + 1))) + 1e-5
            decay = 0.1 * value[name] if name == "kernel" else 0.0
            value[name] = value[name] - 0.01 * (step + 1) * (direction + decay)
    for name in value:
        np.testing.assert_allclose(params[name], value[name], rtol=1e-5)
