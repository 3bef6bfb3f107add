"""What a function costs, in multiply-accumulates and in memory for its gradient, and what each model does."""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax.extend import core

from posmlp_jax.downsampling import depthwise_conv
from posmlp_jax.errors import ConfigError
from posmlp_jax.models import parameter_count, registry
from posmlp_jax.models.detectors.config import ActionDetectorConfig


def count_macs(jaxpr: core.ClosedJaxpr) -> int:
    """Multiply-accumulates in the matrix products and convolutions of a traced function.

    That is what the papers call FLOPs. Element-wise work is left out. Loops count as often as
    they run, branches as their longest.
    """
    return sum(_equation_macs(equation) for equation in jaxpr.jaxpr.eqns)


def forward_macs(function, *args) -> int:
    """`count_macs` of `function(*args)`, which is traced and not run; the arguments may be `jax.ShapeDtypeStruct`."""
    return count_macs(jax.make_jaxpr(function)(*args))


def kept_bytes(function, *args) -> int:
    """Bytes that the forward pass of `function(*args)` leaves for the backward pass, arguments that it needs included.

    That is what JAX keeps for a gradient with respect to all arguments, before a compiler decides otherwise. The
    function is traced and not run; the arguments may be `jax.ShapeDtypeStruct`.
    """
    kept = jax.eval_shape(lambda *args: jax.vjp(function, *args)[1], *args)
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(kept))


def model_cost(name: str, **overrides) -> tuple[int, int]:
    """Parameters, and multiply-accumulates for one image or clip of the model's size; no parameters are made.

    Those of a detector of actions are for one box in the clip.
    """
    model = registry.abstract_model(registry.model_config(name, **overrides))
    graph, state = nnx.split(model)
    inputs = [jax.ShapeDtypeStruct((1, *model.config.input_size, 3), jnp.float32)]
    if isinstance(model.config, ActionDetectorConfig):
        inputs.append(jax.ShapeDtypeStruct((1, 1, 4), jnp.float32))
    return parameter_count(model), forward_macs(lambda state, *inputs: nnx.merge(graph, state)(*inputs), state, *inputs)


def model_memory(name: str, batch_size: int = 1, **overrides) -> int:
    """`kept_bytes` of a model in training: its parameters, and the activations of a batch of its size.

    Dropout and drop path are off. The optimizer's state and the gradients come on top. No parameters are made.

    Raises:
      ConfigError: for a detector, whose loss is not of what it finds (`analysis.complexity.detector_memory`).
    """
    model = registry.abstract_model(registry.model_config(name, **overrides | {"dropout": 0.0, "drop_path": 0.0}))
    if model.config.is_detector:
        raise ConfigError(
            f"{name} is a detector; of RetinaNet and Mask R-CNN analysis.complexity.detector_memory counts the memory "
            "in training"
        )
    graph, state = nnx.split(model)
    images = jax.ShapeDtypeStruct((batch_size, *model.config.input_size, 3), jnp.float32)
    return kept_bytes(lambda state, images: nnx.merge(graph, state)(images, train=True), state, images)


def _equation_macs(equation) -> int:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracting, _), _ = params["dimension_numbers"]
        depth = math.prod(equation.invars[0].aval.shape[axis] for axis in contracting)
        return math.prod(equation.outvars[0].aval.shape) * depth
    if name == "conv_general_dilated":
        output_axis = params["dimension_numbers"].rhs_spec[0]
        kernel = equation.invars[1].aval.shape
        return math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) // kernel[output_axis]
    if params.get("name") == depthwise_conv.__name__:  # Slices and products that are a convolution of 3×3 taps.
        return 9 * math.prod(equation.outvars[0].aval.shape)
    if name == "pallas_call":  # Of one cell of its grid.
        return math.prod(params["grid_mapping"].grid) * sum(map(_equation_macs, params["jaxpr"].eqns))
    inner = [_as_jaxpr(value) for param in params.values() for value in _leaves(param)]
    counts = [sum(map(_equation_macs, jaxpr.eqns)) for jaxpr in inner if jaxpr is not None]
    if name == "cond":
        return max(counts, default=0)
    if name == "shard_map":  # Of one device.
        return sum(counts) * params["mesh"].size
    return sum(counts) * (params["length"] if name == "scan" else 1)


def _leaves(param) -> tuple:
    return tuple(param) if isinstance(param, list | tuple) else (param,)


def _as_jaxpr(value) -> core.Jaxpr | None:
    if isinstance(value, core.ClosedJaxpr):
        return value.jaxpr
    return value if isinstance(value, core.Jaxpr) else None
