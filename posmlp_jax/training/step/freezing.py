"""Which parameters learn, and how fast: frozen ones and layer-wise decay of the rate.

Both go by parameter names, such as `stem.convs.0.kernel`, `mergings.0.bias`, `stages.1.blocks.0.gate.relation.center`,
`norm.scale` and `head.kernel`.
"""

import re
from collections.abc import Mapping

import jax
from flax import nnx

from posmlp_jax.checkpoints.state import (
    Arrays,
    Bind,
    Weights,
    abstract_weights,
    parameter_name,
    split_model,
)
from posmlp_jax.errors import ConfigError
from posmlp_jax.models import registry
from posmlp_jax.models.backbone import Backbone, BackboneConfig


def frozen_mask(params: Arrays, pattern: str) -> Arrays:
    """True for the parameters that do not learn: those whose name begins with a match of the pattern.

    'stem|mergings.0|stages.[01]' freezes the first two stages, '(?!head)' all but the head (a linear probe), '' none.

    Raises:
      ConfigError: if the pattern is no regular expression, or matches no name or every name.
    """
    try:
        matches = re.compile(pattern).match
    except re.error as error:
        raise ConfigError(f"freeze '{pattern}' is no regular expression: {error}") from error
    mask = jax.tree_util.tree_map_with_path(lambda path, _: bool(pattern and matches(parameter_name(path))), params)
    if pattern and len(set(jax.tree.leaves(mask))) == 1:
        names = [parameter_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
        which = "every" if any(jax.tree.leaves(mask)) else "no"
        raise ConfigError(f"freeze '{pattern}' matches {which} parameter; names are like {names[0]} and {names[-1]}")
    return mask


def check_probe(config: BackboneConfig, pattern: str) -> None:
    """Raises a ConfigError unless `pattern` freezes everything but the head, as `optimizer.standardize_head` needs.

    The head is a classifier's: a detector's sees more than the average of a map.
    """
    if config.is_detector:
        raise ConfigError("optimizer.standardize_head is for a classifier's head, and this is a detector")
    mask = frozen_mask(abstract_weights(config).params, pattern)
    if not all(frozen != name.startswith("head.") for name, frozen in _named(mask)):
        raise ConfigError(
            f"optimizer.standardize_head is for a head that learns alone, but freeze is '{pattern}'; set "
            "--config.freeze='(?!head)'"
        )


def _named(mask: Arrays) -> list[tuple[str, bool]]:
    return [(parameter_name(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(mask)]


def training_bind(config: BackboneConfig, pattern: str) -> Bind:
    """`state.bind_model` for training: no gradient reaches what is frozen, and it computes as in evaluation.

    Its BatchNorms take their running statistics, and nothing is dropped in it: what does not learn cannot get used to
    noise, so what comes after it should learn from what it will see.
    """
    model = registry.abstract_model(config)
    mask = frozen_mask(split_model(model)[1].params, pattern)
    _settle(model, mask)
    bind, _ = split_model(model)

    def bind_frozen(weights: Weights) -> Backbone:
        params = jax.tree.map(lambda frozen, x: jax.lax.stop_gradient(x) if frozen else x, mask, weights.params)
        return bind(Weights(params, weights.batch_stats))

    return bind_frozen


def _settle(model: Backbone, mask: Arrays) -> None:
    """Lets the frozen BatchNorms, and the dropout and drop path of frozen modules, be as in evaluation."""
    for path, module in nnx.iter_modules(model):
        if isinstance(module, nnx.BatchNorm):
            module.use_running_average = _all_frozen(mask, path)
        elif isinstance(module, nnx.Dropout):  # It has no parameters: those of the module around it decide.
            module.deterministic = _all_frozen(mask, path[:-1])


def _all_frozen(mask: Arrays, path: tuple[str | int, ...]) -> bool:
    for part in path:
        mask = mask[part]
    return all(jax.tree.leaves(mask))


def layer_scales(params: Arrays, decay: float) -> Arrays:
    """The share of the learning rate that each parameter learns with: decayⁿ, n layers below the head.

    A block is a layer, with the merging before it where there is one; the stem with absolute positions is the first,
    the last norm and the head are the last (as BEiT and Swin are fine-tuned).
    """
    depths: dict[int, int] = {}
    for path, _ in jax.tree_util.tree_leaves_with_path(params):
        if (block := _block(parameter_name(path))) is not None:
            depths[block[0]] = max(depths.get(block[0], 0), block[1] + 1)
    last = sum(depths.values()) + 1

    def scale(path, _) -> float:
        return decay ** (last - _layer(parameter_name(path), depths, last))

    return jax.tree_util.tree_map_with_path(scale, params)


def _layer(name: str, depths: Mapping[int, int], last: int) -> int:
    if name.startswith(("stem.", "position")):
        return 0
    block = _block(name)
    if block is None:
        return last
    stage, index = block
    return 1 + sum(depths[before] for before in range(stage)) + index


def _block(name: str) -> tuple[int, int] | None:
    """The stage and block of a parameter; a merging's is the first block after it."""
    if match := re.match(r"stages\.(\d+)\.blocks\.(\d+)\.", name):
        return int(match[1]), int(match[2])
    if match := re.match(r"mergings\.(\d+)\.", name):
        return int(match[1]) + 1, 0
    return None
