"""Normalisation by the statistics of channels or of a batch, which are float32 whatever the compute type."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from posmlp_jax.errors import ConfigError, nearest

NORMS = ("batch", "layer")
NORM_EPSILON = 1e-6  # PosMLP's; PosMLP-Video has its own.


class LayerNorm(nnx.LayerNorm):
    """`nnx.LayerNorm` over one axis, whose derivative is written down: JAX's goes by way of each statistic's own.

    Args:
      features: along the axis.
      axis: of x.
      epsilon: what is added to the variance.
      dtype: of the result.
    """

    def __init__(self, features: int, *, axis: int = -1, epsilon: float = NORM_EPSILON, dtype, rngs: nnx.Rngs):
        super().__init__(features, epsilon=epsilon, dtype=dtype, reduction_axes=axis, feature_axes=axis, rngs=rngs)

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """(x − μ)/√(σ² + ε) · scale + bias."""
        axis = self.reduction_axes % x.ndim
        others = [other for other in range(x.ndim) if other != axis]
        scale, bias = (jnp.expand_dims(each[...], others) for each in (self.scale, self.bias))
        return (standardize(x, axis, self.epsilon) * scale + bias).astype(self.dtype)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def standardize(x: Float[Array, "*shape"], axis: int, epsilon: float) -> Float[Array, "*shape"]:
    """(x − μ)/√(σ² + ε) along an axis, in float32 or x's wider type."""
    return _standardize(x, axis, epsilon)[0]


def _standardize(x, axis: int, epsilon: float):
    """`standardize`, and 1/√(σ² + ε) of each place."""
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    mean = jnp.mean(x, axis, keepdims=True)
    variance = jnp.maximum(jnp.mean(x * x, axis, keepdims=True) - mean * mean, 0)
    inverse = jax.lax.rsqrt(variance + epsilon)
    return (x - mean) * inverse, inverse


@standardize.defjvp
def _standardize_jvp(axis: int, epsilon: float, primals, tangents):
    normal, inverse = _standardize(primals[0], axis, epsilon)
    slope = tangents[0].astype(normal.dtype) * inverse
    mean = functools.partial(jnp.mean, axis=axis, keepdims=True)
    return normal, slope - mean(slope) - normal * mean(normal * slope)


def normalization(
    kind: str, channels: int, dtype, rngs: nnx.Rngs, *, epsilon: float = NORM_EPSILON
) -> nnx.BatchNorm | LayerNorm:
    """'batch' or 'layer' normalisation over the last axis.

    Batch statistics are those of the whole array: under `jax.jit` with a sharded batch, of the global batch.

    Raises:
      ConfigError: for another kind.
    """
    if kind == "batch":
        # Without a dtype, which would round the running statistics too.
        return nnx.BatchNorm(channels, momentum=0.9, epsilon=epsilon, rngs=rngs)
    if kind == "layer":
        return LayerNorm(channels, epsilon=epsilon, dtype=dtype, rngs=rngs)
    raise ConfigError(f"unknown norm '{kind}'; {nearest(kind, NORMS)}")


def normalize(norm: nnx.BatchNorm | LayerNorm, x: Float[Array, "*shape"], train: bool) -> Float[Array, "*shape"]:
    """Applies either kind, in x's type.

    `train` takes the batch's statistics, and updates the running ones by them, unless the norm's own
    `use_running_average` is set, as it is for frozen layers.
    """
    if isinstance(norm, nnx.BatchNorm):
        return norm(x, use_running_average=norm.use_running_average or not train).astype(x.dtype)
    return norm(x)
