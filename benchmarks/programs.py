"""What accelerators are to run fast, as traced programs: a model's forward pass, its gradient and a training step.

Their arguments are described, with where they lie, and need not exist: devices may be described as well
(`benchmarks.chips`). None of this needs data, nor the libraries that read and augment them.
"""

from collections.abc import Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh

from posmlp_jax.checkpoints.state import (
    TrainState,
    Weights,
    abstract_weights,
    bind_model,
    create_state,
    module_weights,
)
from posmlp_jax.devices.mesh import batch_sharding, on_mesh, place, replicated
from posmlp_jax.models.backbone import BackboneConfig
from posmlp_jax.models.detectors.config import MaskRCNNConfig
from posmlp_jax.tasks.classification.mixing import MixOptions
from posmlp_jax.tasks.classification.objective import ClassificationObjective
from posmlp_jax.tasks.detection.columns import target_columns
from posmlp_jax.tasks.detection.mask_rcnn_loss import Samples
from posmlp_jax.tasks.detection.objective import DetectionObjective
from posmlp_jax.tasks.objective import Objective
from posmlp_jax.training.compiled import batch_shapes, jit_train_step
from posmlp_jax.training.step.optimizer import create_optimizer
from posmlp_jax.training.step.schedules import learning_rate
from posmlp_jax.training.step.step import StepOptions

# Of detection's `default_config`: how many objects of an image a batch has place for.
_OBJECTS = 100
# What `default_config` has of ImageNet-1k and its optimizer: `tests/test_compiled.py` compares them.
_MEAN, _STD, _EXAMPLES = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 1_281_167
OPTIMIZER = SimpleNamespace(
    schedule="cosine",
    peak_rate=1e-3,
    warmup="10 epochs",
    warmup_rate=1e-5,
    final_rate=1e-6,
    constant="10 epochs",
    milestones=(),
    decay=0.1,
    b1=0.9,
    b2=0.999,
    eps=1e-5,
    weight_decay=0.067,
    layer_decay=1.0,
    standardize_head=False,
    clip_norm=1.0,
)


def forward(model: BackboneConfig, batch_size: int, mesh: Mesh) -> jax.stages.Traced:
    """A model's logits for images or clips of its size, or what a detector finds in them."""
    weights = _placed(abstract_weights(model), replicated(mesh))
    images = _placed(jax.ShapeDtypeStruct((batch_size, *model.input_size, 3), jnp.float32), batch_sharding(mesh))
    logits = on_mesh(lambda weights, images: bind_model(model)(weights)(images), mesh)
    return jax.jit(logits).trace(weights, images)


def gradient(model: BackboneConfig, batch_size: int, mesh: Mesh) -> jax.stages.Traced:
    """The gradient of a training step without what is around it: of a loss of the logits, by all parameters."""
    weights = _placed(abstract_weights(model), replicated(mesh))
    images = _placed(jax.ShapeDtypeStruct((batch_size, *model.input_size, 3), jnp.float32), batch_sharding(mesh))

    def loss(params, batch_stats, images, seed):
        network = bind_model(model)(Weights(params, batch_stats))
        logits = network(images, train=True, rngs=nnx.Rngs(dropout=jax.random.key(seed)))
        return jnp.mean(jax.nn.logsumexp(logits, axis=-1)), module_weights(network).batch_stats

    seed = _placed(jax.ShapeDtypeStruct((), jnp.uint32), replicated(mesh))
    return jax.jit(on_mesh(jax.grad(loss, has_aux=True), mesh)).trace(weights.params, weights.batch_stats, images, seed)


def train_step(model: BackboneConfig, batch_size: int, accumulate: int, mesh: Mesh) -> jax.stages.Traced:
    """A step of the recipe: draws, gradients, clipping, AdamW and the moving average."""
    objective, columns = _objective(model)
    options = StepOptions(ema_decay=0.99992, accumulate=accumulate)
    state = place(jax.eval_shape(partial(new_state, model, batch_size)), mesh)
    parts = bind_model(model), objective, *_optimizer(batch_size), options
    step = jit_train_step(*parts, state=state, mesh=mesh)
    batch = batch_shapes(batch_size, model.input_size, columns, batch_sharding(mesh))
    return step.trace(state, batch)


def _objective(model: BackboneConfig) -> tuple[Objective, Mapping[str, tuple[tuple[int, ...], Any]]]:
    """What a model is trained for, and the columns of its batches besides pixels."""
    if not model.is_detector:
        objective = ClassificationObjective(
            num_classes=model.num_classes, mean=_MEAN, std=_STD, label_smoothing=0.1, mixing=MixOptions()
        )
        return objective, {"label": ((), jnp.int32)}
    masks = isinstance(model, MaskRCNNConfig)
    return DetectionObjective(_MEAN, _STD, Samples() if masks else None), target_columns(_OBJECTS, masks)


def new_state(model: BackboneConfig, batch_size: int) -> TrainState:
    """What `train_step` begins with: a pure function, to be jitted."""
    return create_state(model, _optimizer(batch_size)[0], 0, ema=True)


def _optimizer(batch_size: int) -> tuple[optax.GradientTransformation, optax.Schedule]:
    schedule = learning_rate(OPTIMIZER, "300 epochs", batch_size=batch_size, num_examples=_EXAMPLES)
    return create_optimizer(OPTIMIZER, schedule), schedule


def _placed(tree, sharding):
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)
