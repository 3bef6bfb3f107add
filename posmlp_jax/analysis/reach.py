"""What feeds a place, for given pixels: by the gradient through all layers, or in the mixing of one gating unit."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Float32, Int

from posmlp_jax.analysis.units import Place, Unit, center, check_number, check_place
from posmlp_jax.checkpoints.state import Weights, abstract_weights, bind_model, module_weights
from posmlp_jax.errors import ConfigError
from posmlp_jax.models.backbone import Backbone, BackboneConfig, Images
from posmlp_jax.windows import WindowLayout, partition, window_layout


class Mixing(NamedTuple):
    """What each token of a map gives to one place in one gating unit, group by group; 0 outside its window.

    Attributes:
      weights: the relation's, W[q, j] of Eq. 9 and 12, which depend on no pixel.
      contributions: the norm of W[q, j]·x̃ⱼ over the group's channels, with the tokens x̃ = Norm(X₁) that the pixels
        make: the summands of what is mixed, before the bias and the gate.
    """

    weights: Float32[np.ndarray, "groups *map"]
    contributions: Float32[np.ndarray, "groups *map"]


def noise(model: Backbone, count: int | None = None, seed: int = 0) -> Float[Array, "count *size 3"]:
    """Independent standard normal pixels, for where no picture is given: by default of 4 images, or 1 clip."""
    if count is None:
        count = 1 if model.config.kind == "video" else 4
    return jax.random.normal(jax.random.key(seed), (count, *model.config.input_size, 3))


def receptive_field(
    model: Backbone,
    images: Images,
    *,
    stage: int | None = None,
    place: Sequence[int] | None = None,
    directions: int | None = None,
) -> Float32[np.ndarray, "*size"]:
    """The effective receptive field: how much the features at one place of a stage's map change with each pixel.

    It is √mean_images Σ_colours Σ_c (∂f_c/∂pixel)², the Jacobian's norm over the place's channels c and a pixel's
    colours. The sum over channels is over all of them where `directions` allows, else estimated without bias from as
    many orthonormal random directions. (Not the gradient of the channels' plain sum, of which a LayerNorm leaves
    little.)

    Args:
      model: in evaluation mode.
      images: normalised, as `Backbone.features` takes them; `noise(model)` for pixels of no picture.
      stage: from 1; None: the last, whose features are those after the final norm.
      place: (row, column), or (frame, row, column) of a clip, on that stage's map; None: its middle.
      directions: how many backward passes, at most as many as channels; None: 16 for images, 4 for clips.

    Returns:
      Of the images' size, (rows, columns) or (frames, rows, columns): features for a unit of normalised pixels.

    Raises:
      ConfigError: for a stage or place that there is not, no direction, or images that the model does not take.
    """
    if directions is not None and directions < 1:
        raise ConfigError(f"directions is {directions}, and should be 1 or more")
    stage = len(model.stages) if stage is None else stage
    check_number("stage", stage, len(model.stages), "the model")
    images = jnp.asarray(images)
    if not images.size:
        raise ConfigError(f"there is no pixel in images of shape {images.shape}; give one image or more")
    weights, maps = _weights(model), _maps(model.config, images)
    size, channels = maps[stage - 1].shape[1:-1], maps[stage - 1].shape[-1]
    place = center(size) if place is None else check_place(place, size, f"the map of stage {stage}")
    # For each stage where and along what to look; all but one of them are zero, so that one program does for all.
    spots = [np.zeros(each.shape[1:-1], np.float32) for each in maps]
    spots[stage - 1][place] = 1
    if directions is None:
        directions = 4 if model.config.kind == "video" else 16
    count = min(directions, channels)
    basis, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((channels, count)))
    along = [np.zeros((count, each.shape[-1]), np.float32) for each in maps]
    along[stage - 1] = basis.T.astype(np.float32) * np.sqrt(channels / count, dtype=np.float32)
    return np.sqrt(_squared_gradients(model.config, weights, images, spots, along))


@partial(jax.jit, static_argnums=0)
def _squared_gradients(
    config: BackboneConfig,
    weights: Weights,
    images: Float[Array, "batch *size 3"],
    spots: list[ArrayLike],
    along: list[ArrayLike],
) -> Float[Array, "*size"]:
    """The images' mean of Σ (∂ spots·along / ∂ pixel)², over colours and the rows of `along`."""
    maps, pull_back = jax.vjp(bind_model(config)(weights).features, images)

    def squares(vectors: list[Float[Array, "_channels"]]) -> Float[Array, "*size"]:
        cotangents = [
            jnp.broadcast_to(spot[..., None] * vector, each.shape).astype(each.dtype)
            for each, spot, vector in zip(maps, spots, vectors, strict=True)
        ]
        (gradient,) = pull_back(cotangents)
        return jnp.mean(jnp.sum(gradient.astype(jnp.float32) ** 2, axis=-1), axis=0)

    return jnp.sum(jax.lax.map(squares, along), axis=0)


def mixing(model: Backbone, images: Images, units: Sequence[Unit], place: Sequence[int] | None = None) -> list[Mixing]:
    """Which tokens feed one place of a map in gating units, through the window and the mask that the place has there.

    Args:
      model: of which the units are.
      images: one image or clip, normalised: `[1, …, 3]`.
      units: of one stage, from `find_units(model, stage=…)`.
      place: (row, column), or (frame, row, column) of a clip, on that stage's map; None: its middle.

    Raises:
      ConfigError: for a place that is not on the map, units of several stages, whose maps differ, several images, or
        one that the model does not take.
    """
    if len(stages := sorted({unit.stage for unit in units})) != 1:
        raise ConfigError(f"units of stages {' and '.join(map(str, stages)) or 'none'}; give those of one")
    (stage,) = stages
    size = map_sizes(model, images)[stage - 1]
    if len(images) != 1:
        raise ConfigError(f"mixing is shown of one image or clip, not {len(images)}")
    place = center(size) if place is None else check_place(place, size, f"the map of stage {stage}")
    tokens = _gate_inputs(model.config, tuple(unit.path for unit in units), _weights(model), jnp.asarray(images))
    return [
        _mixing(unit, each, _layout(model, unit, size), size, place) for unit, each in zip(units, tokens, strict=True)
    ]


def _mixing(
    unit: Unit,
    tokens: Float[Array, "1 windows tokens channels"],
    layout: WindowLayout,
    size: Place,
    place: Place,
) -> Mixing:
    # Where each token of each window is on the map, from 1; padding is 0.
    numbers = partition(jnp.arange(1, np.prod(size) + 1).reshape(1, *size, 1), layout)
    if unit.gate.over_frames:
        # A window for each place, whose tokens are those of all frames there.
        frames, layout = unit.relation.grid[0], None
        tokens, numbers = (rearrange(each, "b (t n) k c -> b (n k) t c", t=frames) for each in (tokens, numbers))
    numbers = np.asarray(numbers[0, ..., 0])
    ((window, query),) = np.argwhere(numbers == np.ravel_multi_index(place, size) + 1)
    masked = layout is not None and layout.masks is not None
    matrix = unit.relation(layout.masks)[layout.mask_index[window]] if masked else unit.relation()
    weights = np.asarray(matrix[:, query], np.float32)
    grouped = np.asarray(tokens[0, window], np.float32).reshape(len(numbers[window]), len(weights), -1)
    contributions = np.abs(weights) * np.linalg.norm(grouped, axis=-1).T
    return Mixing(_on_map(weights, numbers[window], size), _on_map(contributions, numbers[window], size))


def _layout(model: Backbone, unit: Unit, size: Place) -> WindowLayout:
    """How the map of a unit's stage is cut into windows in its block."""
    stage = model.stages[unit.stage - 1]
    return window_layout(size, stage.window, stage.shift and unit.block % 2 == 0)


@partial(jax.jit, static_argnums=(0, 1))
def _gate_inputs(
    config: BackboneConfig, paths: tuple[tuple[str | int, ...], ...], weights: Weights, images: Images
) -> list[Float[Array, "batch windows _tokens _channels"]]:
    """Norm(X₁), the tokens that are mixed, of the gating units at these paths."""
    # What a rematerialised block computes cannot leave it.
    model, seen = bind_model(config.replace(remat=False))(weights), {}
    for path in paths:
        owner = model
        for step in path[:-1]:
            owner = owner[step] if isinstance(step, int) else getattr(owner, step)
        gate = getattr(owner, path[-1])

        def record(parts, layout=None, gate=gate, path=path):
            seen[path] = jnp.moveaxis(gate.mixed_part(parts), 0, -1)
            return gate(parts, layout)

        record.parts = gate.parts

        # Who has a gating unit calls it, and no more.
        setattr(owner, path[-1], record)
    model.features(images)
    return [seen[path] for path in paths]


def map_sizes(model: Backbone, images: Images) -> list[Place]:
    """The sizes of the stages' maps of images or clips, (rows, columns) or (frames, rows, columns).

    Raises:
      ConfigError: for images that the model does not take.
    """
    return [each.shape[1:-1] for each in _maps(model.config, jax.ShapeDtypeStruct(images.shape, images.dtype))]


def _maps(config: BackboneConfig, images: jax.Array | jax.ShapeDtypeStruct) -> list[jax.ShapeDtypeStruct]:
    """The stages' maps of images, nothing being computed."""
    return jax.eval_shape(lambda weights, x: bind_model(config)(weights).features(x), abstract_weights(config), images)


def _weights(model: Backbone) -> Weights:
    """A model's arrays; of a folded one some are not what its config says, and it cannot be trained either."""
    if model.folded:
        raise ConfigError("a folded model is for inference; analyse the model that fold() was called on")
    return module_weights(model)


def _on_map(
    values: Float32[np.ndarray, "groups tokens"], numbers: Int[np.ndarray, "tokens"], size: tuple[int, ...]
) -> Float32[np.ndarray, "groups *map"]:
    """A window's values on the map; those of padding, number 0, are dropped."""
    result = np.zeros((len(values), 1 + int(np.prod(size))), np.float32)
    result[:, numbers] = values
    return result[:, 1:].reshape(len(values), *size)
