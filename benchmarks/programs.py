"""What accelerators are to run fast, as traced programs: a model's forward pass, its gradient and a training step.

Their arguments are described, with where they lie, and need not exist: devices may be described as well
(`benchmarks.chips`).
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from posmlp_jax.checkpoints.state import Weights, abstract_weights, bind_model, create_state, module_weights
from posmlp_jax.devices.mesh import batch_sharding, place, replicated
from posmlp_jax.models.backbone import BackboneConfig
from posmlp_jax.tasks import find_task
from posmlp_jax.training.compiled import batch_shapes, jit_train_step
from posmlp_jax.training.config import default_config
from posmlp_jax.training.step.optimizer import create_optimizer
from posmlp_jax.training.step.schedules import learning_rate
from posmlp_jax.training.step.step import StepOptions

# Of ImageNet-1k, for the schedule.
_EXAMPLES = 1_281_167


def forward(model: BackboneConfig, batch_size: int, mesh: Mesh) -> jax.stages.Traced:
    """A model's logits for images or clips of its size."""
    weights = _placed(abstract_weights(model), replicated(mesh))
    images = _placed(jax.ShapeDtypeStruct((batch_size, *model.input_size, 3), jnp.float32), batch_sharding(mesh))
    return jax.jit(lambda weights, images: bind_model(model)(weights)(images)).trace(weights, images)


def gradient(model: BackboneConfig, batch_size: int, mesh: Mesh) -> jax.stages.Traced:
    """The gradient of a training step without what is around it: of a loss of the logits, by all parameters."""
    weights = _placed(abstract_weights(model), replicated(mesh))
    images = _placed(jax.ShapeDtypeStruct((batch_size, *model.input_size, 3), jnp.float32), batch_sharding(mesh))

    def loss(params, batch_stats, images, seed):
        network = bind_model(model)(Weights(params, batch_stats))
        logits = network(images, train=True, rngs=nnx.Rngs(dropout=jax.random.key(seed)))
        return jnp.mean(jax.nn.logsumexp(logits, axis=-1)), module_weights(network).batch_stats

    seed = _placed(jax.ShapeDtypeStruct((), jnp.uint32), replicated(mesh))
    return jax.jit(jax.grad(loss, has_aux=True)).trace(weights.params, weights.batch_stats, images, seed)


def train_step(name: str, model: BackboneConfig, batch_size: int, accumulate: int, mesh: Mesh) -> jax.stages.Traced:
    """A step of a model's recipe: draws, gradients, AdamW and the moving average."""
    config = default_config(name)
    config.data.name = "synthetic"
    source = find_task(config.task).open_source(config.data, "train", model.kind, model)
    task = find_task(config.task)(config, model, source)
    schedule = learning_rate(config.optimizer, config.length, batch_size=batch_size, num_examples=_EXAMPLES)
    optimizer = create_optimizer(config.optimizer, schedule)
    options = StepOptions(ema_decay=config.ema_decay, accumulate=accumulate)
    state = place(jax.eval_shape(lambda: create_state(model, optimizer, 0, ema=config.ema_decay > 0)), mesh)
    step = jit_train_step(bind_model(model), task, optimizer, schedule, options, state=state, mesh=mesh)
    batch = batch_shapes(batch_size, model.input_size, task.targets(source), batch_sharding(mesh))
    return step.trace(state, batch)


def _placed(tree, sharding):
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)
