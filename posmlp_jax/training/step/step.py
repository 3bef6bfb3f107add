"""One step of training and one of evaluation, as pure functions to be jitted."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Key, Shaped

from posmlp_jax.checkpoints.state import Bind, TrainState, Weights, module_weights
from posmlp_jax.tasks.objective import Batch, Objective, Rows, Scalars
from posmlp_jax.training.step.moving_average import update_average


@dataclass(frozen=True)
class StepOptions:
    """What a training step does beside the model, the task and the optimizer.

    Attributes:
      ema_decay, ema_warmup: of the moving average, if the state has one (`moving_average.update_average`).
      accumulate: parts that the batch is worked through in.
      seed: of what the task draws, dropout and drop path; each step's draws are a function of (seed, step) alone.
    """

    ema_decay: float = 0.0
    ema_warmup: bool = False
    accumulate: int = 1
    seed: int = 0


def split_batch(x: Shaped[Array, "batch *example"], parts: int) -> Shaped[Array, "{parts} batch//{parts} *example"]:
    """A batch in parts of one size.

    Neighbours go round the parts pair by pair: each device's examples are spread over all parts, and pairs, which a
    task may mix, stay together.
    """
    together = 2 if x.shape[0] // parts % 2 == 0 else 1
    pairs = x.reshape(-1, parts, together, *x.shape[1:])
    return jnp.swapaxes(pairs, 0, 1).reshape(parts, -1, *x.shape[1:])


def make_train_step(
    bind: Bind, task: Objective, optimizer: optax.GradientTransformation, schedule: optax.Schedule, options: StepOptions
) -> Callable[[TrainState, Batch], tuple[TrainState, Scalars]]:
    """Builds `train_step(state, batch)`.

    The batch is what `Task.loss` takes. The metrics are scalars: `loss`, the task's, `grad_norm` (before clipping) and
    `learning_rate`.
    """

    def loss(params, batch_stats, batch: Batch, drawn: Any, key: Key[Array, ""]):
        model = bind(Weights(params, batch_stats))
        value, metrics = task.loss(model, batch, drawn, nnx.Rngs(dropout=key))
        return value, (module_weights(model).batch_stats, {"loss": value, **metrics})

    def gradients(weights: Weights, batch: Batch, drawn: Any, key: Key[Array, ""]):
        """Gradients, batch statistics and metrics of the whole batch; BatchNorm sees one part at a time."""
        grad = jax.grad(loss, has_aux=True)
        if options.accumulate == 1:
            grads, (batch_stats, metrics) = grad(weights.params, weights.batch_stats, batch, drawn, key)
            return grads, batch_stats, metrics

        def add_part(carry, part):
            sums, batch_stats = carry
            index, examples = part
            part_key = jax.random.fold_in(key, index)
            grads, (batch_stats, metrics) = grad(weights.params, batch_stats, examples, drawn, part_key)
            return (jax.tree.map(jnp.add, sums, grads), batch_stats), metrics

        parts = {name: split_batch(x, options.accumulate) for name, x in batch.items()}
        zeros = jax.tree.map(jnp.zeros_like, weights.params)
        (sums, batch_stats), metrics = jax.lax.scan(
            add_part, (zeros, weights.batch_stats), (jnp.arange(options.accumulate), parts)
        )
        grads = jax.tree.map(lambda total: total / options.accumulate, sums)
        return grads, batch_stats, jax.tree.map(jnp.mean, metrics)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Scalars]:
        draw_key, drop_key = jax.random.split(jax.random.fold_in(jax.random.key(options.seed), state.step))
        batch, drawn = task.draw(draw_key, batch)
        grads, batch_stats, metrics = gradients(state.weights, batch, drawn, drop_key)
        updates, optimizer_state = optimizer.update(grads, state.optimizer, state.weights.params)
        weights = Weights(optax.apply_updates(state.weights.params, updates), batch_stats)
        ema = state.ema
        if ema is not None:
            ema = update_average(ema, weights, state.step, options.ema_decay, warmup=options.ema_warmup)
        metrics["grad_norm"] = optax.global_norm(grads)
        metrics["learning_rate"] = schedule(state.step)
        return TrainState(state.step + 1, weights, optimizer_state, ema), metrics

    return train_step


def make_eval_step(bind: Bind, task: Objective) -> Callable[[Weights, Batch], tuple[Scalars, Rows]]:
    """Builds `eval_step(weights, batch)`: what `Task.evaluate` gives, with `count`, `weight` and `index`.

    The batch has `weight`, 0 for padding, and `index`, which example it is. `count` is the weights' sum, and both are
    among what there is of each example.
    """

    def eval_step(weights: Weights, batch: Batch) -> tuple[Scalars, Rows]:
        sums, rows = task.evaluate(bind(weights), batch)
        of_each = {name: batch[name] for name in ("weight", "index")}
        return {**sums, "count": jnp.sum(batch["weight"])}, {**rows, **of_each}

    return eval_step
