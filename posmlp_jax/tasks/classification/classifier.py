"""From pixels to logits, as evaluation and predictions go by them."""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float, UInt8

from posmlp_jax.models.backbone import Backbone
from posmlp_jax.tasks.objective import normalize_images


def classifier(
    model: Backbone, mean: Sequence[float], std: Sequence[float], average: str = "softmax"
) -> Callable[[UInt8[ArrayLike, "batch *views_and_size 3"]], Float[Array, "batch classes"]]:
    """A trained model as a compiled function from pixels to `evaluation_logits`, on the device of its weights.

    Args:
      model: which is folded (`Backbone.fold`): its weights are taken as they are now.
      mean: the data's.
      std: the data's.
      average: as in `evaluation_logits`.
    """
    graph, state = nnx.split(model.fold())

    @jax.jit
    def classify(state, images: UInt8[ArrayLike, "batch *views_and_size 3"]) -> Float[Array, "batch classes"]:
        return evaluation_logits(nnx.merge(graph, state), images, mean, std, average)

    # Weights are arguments: XLA would spend its time on folding constants.
    return partial(classify, nnx.to_pure_dict(state))


def evaluation_logits(
    model: Backbone, images: UInt8[ArrayLike, "batch *views_and_size 3"], mean, std, average: str
) -> Float[Array, "batch classes"]:
    """The logits that evaluation and predictions go by.

    Args:
      model: in evaluation mode.
      images: of the model's `input_size`, or several views of each example, `[batch, views, *input_size, 3]`.
      mean: the data's.
      std: the data's.
      average: of several views, 'softmax' or 'logits'.

    Returns:
      Of several views, the mean of their logits, or the logarithm of the mean of their softmax scores.
    """

    def logits_of(view: UInt8[ArrayLike, "batch *size 3"]) -> Float[Array, "batch classes"]:
        return model(normalize_images(view, mean, std))

    if images.ndim == len(model.config.input_size) + 2:
        return logits_of(images)
    # One view after the other takes the memory of one.
    views = jax.lax.map(logits_of, jnp.moveaxis(images, 1, 0))
    if average == "logits":
        return jnp.mean(views, axis=0)
    # The mean's logarithm has the mean scores as its softmax.
    return jax.nn.logsumexp(jax.nn.log_softmax(views), axis=0) - jnp.log(len(views))
