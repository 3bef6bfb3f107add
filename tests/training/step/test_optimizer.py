import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from test_convert import PUBLISHED, load, make_model

from posmlp_jax.checkpoints.state import parameter_name
from posmlp_jax.convert.posmlp import posmlp_rows
from posmlp_jax.convert.posmlp_video import posmlp_video_rows
from posmlp_jax.convert.table import Row
from posmlp_jax.models import PosMLPVideo, create_model
from posmlp_jax.training import default_config
from posmlp_jax.training.step.optimizer import create_optimizer, decay_mask

TINY = {"image_size": 16, "widths": (4,), "depths": (1,), "expansions": (2,), "windows": (4,), "groups": (2,)}


def decays(params) -> dict[str, bool]:
    return {parameter_name(path): x for path, x in jax.tree_util.tree_leaves_with_path(decay_mask(params))}


def test_decay_leaves_out_biases_norms_and_one_axis():
    params = nnx.to_pure_dict(nnx.state(create_model("posmlp_t", **TINY), nnx.Param))
    assert {name for name, applies in decays(params).items() if applies} == {
        "head.kernel",
        "stages.0.blocks.0.expand.kernel",
        "stages.0.blocks.0.gate.bias",
        "stages.0.blocks.0.gate.relation.center",
        "stages.0.blocks.0.gate.relation.spread",
        "stages.0.blocks.0.project.kernel",
        "stem.convs.0.kernel",
        "stem.convs.1.kernel",
        "stem.convs.2.kernel",
    }


@pytest.mark.parametrize(("name", "overrides"), PUBLISHED.items(), ids=PUBLISHED)
def test_what_decays_is_what_the_published_code_decays(name, overrides):
    """timm's rule and SlowFast's on the published names and shapes: not those of one axis, and no '.bias'."""
    there = {name: array.ndim > 1 and not name.endswith(".bias") for name, array in load(name)[0].items()}
    model = make_model(**overrides)
    ours = {id(leaf): ".".join(map(str, path)) for path, leaf in nnx.iter_graph(model) if isinstance(leaf, nnx.Param)}
    rows = posmlp_video_rows(model) if isinstance(model, PosMLPVideo) else posmlp_rows(model)
    wanted = {
        ours[id(variable)]: there[published]
        for row in rows
        if isinstance(row, Row)  # Buffers do not learn.
        for published, variable in zip(row.shapes, row.variables, strict=False)  # An unused bias has no variable.
        if id(variable) in ours  # Batch statistics have not.
    }
    assert decays(nnx.to_pure_dict(nnx.state(model, nnx.Param))) == wanted


def test_a_token_bias_decays_whether_or_not_its_relation_learns():
    config = default_config().optimizer
    config.weight_decay = 0.5
    optimizer = create_optimizer(config, lambda step: 1.0, freeze=r".*relation")
    shapes = nnx.to_pure_dict(nnx.state(nnx.eval_shape(lambda: create_model("posmlp_t", **TINY)), nnx.Param))
    params = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), shapes)
    updates, _ = optimizer.update(jax.tree.map(np.zeros_like, params), optimizer.init(params), params)
    gate = updates["stages"][0]["blocks"][0]["gate"]
    np.testing.assert_allclose(gate["bias"], -0.5)
    assert not np.any(gate["relation"]["spread"])


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
