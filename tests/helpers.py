"""What several test files need of modules: their parameters by name, random values, and pure functions."""

import functools
import importlib
import operator
import types
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from posmlp_jax.models import GMLPConfig, PosMLPConfig, PosMLPVideoConfig, model_config
from posmlp_jax.relations import create_relation

# Options of `jax.jit` with which XLA compiles as it does for users, where the tests' own setting is to optimise little.
OPTIMIZED = {
    "xla_backend_optimization_level": 3,
    "xla_llvm_disable_expensive_passes": False,
    "xla_cpu_use_fusion_emitters": True,
}


def torchvision() -> types.ModuleType:
    """The library, or a skip, of a whole file where that asks for it."""
    try:
        return importlib.import_module("torchvision")
    # The latter is what importing it ends with where its operations are made for another build of torch than there is.
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"torchvision: {error}", allow_module_level=True)


def functional(module: nnx.Module, apply: Callable = operator.call) -> tuple[dict[str, jax.Array], Callable]:
    """A module as its parameters, by dotted name, and a pure function `call(parameters, *args, **kwargs)`.

    It does `apply(module, *args, **kwargs)`.
    """
    graph, learned, rest = nnx.split(module, nnx.Param, ...)
    rest = nnx.to_pure_dict(rest)  # Arrays: what a call updates are then variables of its own.
    paths = {".".join(map(str, path)): path for path, _ in nnx.to_flat_state(learned)}

    def call(parameters, *args, **kwargs):
        nested = {}
        for name, path in paths.items():
            level = nested
            for part in path[:-1]:
                level = level.setdefault(part, {})
            level[path[-1]] = parameters[name]
        return apply(nnx.merge(graph, nested, rest), *args, **kwargs)

    return {".".join(map(str, path)): leaf[...] for path, leaf in nnx.to_flat_state(learned)}, call


@functools.cache
def _outputs(compiler_options: frozenset) -> Callable:
    def call(graph, state, images):
        model = nnx.merge(graph, state)
        return model.features(images), model(images)

    return jax.jit(call, static_argnums=0, compiler_options=dict(compiler_options) or None)


def outputs(model: nnx.Module, images, **compiler_options) -> tuple[list[jax.Array], jax.Array]:
    """All maps and the logits. Models that only differ in their weights and folded matrices share a compiled call."""
    graph, state = nnx.split(model)
    return _outputs(frozenset(compiler_options.items()))(graph, nnx.to_pure_dict(state), images)


def randomized(create: Callable[[], nnx.Module], scale: float = 0.3, seed: int = 0) -> nnx.Module:
    """The module that `create` makes, every parameter and statistic random, so that nothing vanishes or cancels.

    Kernels and biases are N(0, scale²); scales, variances (kept positive) and Γ have that around 1 or I. Nothing of
    `create` is run, which saves XLA the compilation of every initial value.
    """
    random = np.random.default_rng(seed)
    graph, state = nnx.split(nnx.eval_shape(create))

    def fill(path, leaf):
        value = scale * random.standard_normal(leaf.shape)
        name = [part.key for part in path if isinstance(part, jax.tree_util.DictKey)][-1]
        if name in ("scale", "var"):
            value = np.exp(value)
        if name == "center":  # Attention centres beyond the next token.
            value = 4 * value
        if name == "spread":
            value = value + (1 if value.ndim == 1 else np.identity(value.shape[-1]))
        return jnp.asarray(value, leaf.dtype)

    return nnx.merge(graph, jax.tree_util.tree_map_with_path(fill, state))


def random_relation(kind: str, grid, groups: int, **options):
    """A relation whose parameters are all random."""
    return randomized(lambda: create_relation(kind, grid, groups, **options, rngs=nnx.Rngs(0)), scale=0.5)


def last_names(parameters: dict) -> dict[str, np.ndarray]:
    """Parameters in float64 under the last part of their names, which is what `naive` calls them."""
    return {name.rsplit(".", 1)[-1]: np.asarray(value, np.float64) for name, value in parameters.items()}


def small(name: str) -> dict:
    """Overrides that leave a model its kind and its place among its relatives, but little to compute."""
    config = model_config(name)
    common = {"num_classes": 5, "dropout": 0.2, "drop_path": 0.3}
    if isinstance(config, PosMLPConfig):
        return common | {
            "image_size": 32 if config.image_size == (224, 224) else 64,
            "widths": tuple(width // 8 for width in config.widths[:2]),
            "depths": (1, 1),
            "expansions": (4, 2),
            "windows": tuple(max(side // 4, 3) for side, _ in config.windows[:2]),
            "groups": (2, 4),
        }
    if isinstance(config, PosMLPVideoConfig):
        return common | {
            "num_frames": config.num_frames // 4,
            "image_size": 32,
            "widths": tuple(width // 9 for width in config.widths[:2]),
            "depths": (1, 1),
            "windows": (3, 3),
            "groups": (2, 4),
        }
    assert isinstance(config, GMLPConfig)
    return common | {"image_size": 48, "width": config.width // 16, "depth": 2}


def assert_same_batches(batches: list[dict], others: list[dict]) -> None:
    """Lists of batches, to the last bit."""
    assert len(batches) == len(others)
    for one, other in zip(batches, others, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


def gate_tokens(unit: nnx.Module, tokens: jax.Array, layout=None) -> jax.Array:
    """A gating unit of `[B, windows, N, C]`, as the papers write it, given and back with channels after tokens."""
    parts = jnp.split(jnp.moveaxis(tokens, -1, 0), unit.parts)
    return jnp.moveaxis(jnp.concatenate(unit(parts, layout)), 0, -1)
