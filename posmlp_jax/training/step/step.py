"""One step of training and one of evaluation, as pure functions to be jitted."""

from collections.abc import Callable
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Key, Shaped

from posmlp_jax.checkpoints.state import Bind, TrainState, Weights, module_weights
from posmlp_jax.tasks.classification.classifier import evaluation_logits
from posmlp_jax.tasks.classification.losses import correct_top, cross_entropy, soft_targets
from posmlp_jax.tasks.classification.mixing import MixOptions, draw_masks, mix
from posmlp_jax.tasks.pixels import normalize_images
from posmlp_jax.training.step.moving_average import update_average

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]
Masks = Float[Array, "groups height width"]


@dataclass(frozen=True)
class StepOptions:
    """What a training step does beside the model and the optimizer.

    Attributes:
      num_classes: of the loss's targets.
      mean, std: the data's, in units of 1 (white).
      label_smoothing: ε.
      ema_decay, ema_warmup: of the moving average, if the state has one (`moving_average.update_average`).
      accumulate: parts that the batch is worked through in.
      mixing: mixup and CutMix.
      seed: of mixing, dropout and drop path; each step's draws are a function of (seed, step) alone.
      test_average: of several views of one example, 'softmax' or 'logits' (`classifier.evaluation_logits`).
    """

    num_classes: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    label_smoothing: float = 0.0
    ema_decay: float = 0.0
    ema_warmup: bool = False
    accumulate: int = 1
    mixing: MixOptions = field(default_factory=MixOptions)
    seed: int = 0
    test_average: str = "softmax"


def split_batch(x: Shaped[Array, "batch *example"], parts: int) -> Shaped[Array, "{parts} batch//{parts} *example"]:
    """A batch in parts of one size.

    Neighbours go round the parts pair by pair: each device's examples are spread over all parts, and the pairs that
    `mixing.mix` mixes stay together.
    """
    together = 2 if x.shape[0] // parts % 2 == 0 else 1
    pairs = x.reshape(-1, parts, together, *x.shape[1:])
    return jnp.swapaxes(pairs, 0, 1).reshape(parts, -1, *x.shape[1:])


def make_train_step(
    bind: Bind, optimizer: optax.GradientTransformation, schedule: optax.Schedule, options: StepOptions
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """Builds `train_step(state, batch)`.

    The batch has `image` uint8 `[B, H, W, 3]`, or `[B, T, H, W, 3]` of clips, and `label`, int `[B]` or soft
    `[B, num_classes]`. The metrics are scalars: `loss`, `top1`, `grad_norm` (before clipping) and `learning_rate`.
    """

    def loss(params, batch_stats, batch: Batch, masks: Masks | None, key: Key[Array, ""]):
        model = bind(Weights(params, batch_stats))
        images = normalize_images(batch["image"], options.mean, options.std)
        targets = soft_targets(batch["label"], options.num_classes, options.label_smoothing)
        if masks is not None:
            images, targets = mix(images, targets, masks[0] if len(masks) == 1 else masks[batch["group"]])
        logits = model(images, train=True, rngs=nnx.Rngs(dropout=key))
        value = cross_entropy(logits, targets).mean()
        top1 = correct_top(logits, targets, 1).astype(jnp.float32).mean()
        return value, (module_weights(model).batch_stats, {"loss": value, "top1": top1})

    def gradients(weights: Weights, batch: Batch, masks: Masks | None, key: Key[Array, ""]):
        """Gradients, batch statistics and metrics of the whole batch; BatchNorm sees one part at a time."""
        grad = jax.grad(loss, has_aux=True)
        if options.accumulate == 1:
            grads, (batch_stats, metrics) = grad(weights.params, weights.batch_stats, batch, masks, key)
            return grads, batch_stats, metrics

        def add_part(carry, part):
            sums, batch_stats = carry
            index, examples = part
            part_key = jax.random.fold_in(key, index)
            grads, (batch_stats, metrics) = grad(weights.params, batch_stats, examples, masks, part_key)
            return (jax.tree.map(jnp.add, sums, grads), batch_stats), metrics

        parts = {name: split_batch(x, options.accumulate) for name, x in batch.items()}
        zeros = jax.tree.map(jnp.zeros_like, weights.params)
        (sums, batch_stats), metrics = jax.lax.scan(
            add_part, (zeros, weights.batch_stats), (jnp.arange(options.accumulate), parts)
        )
        grads = jax.tree.map(lambda total: total / options.accumulate, sums)
        return grads, batch_stats, jax.tree.map(jnp.mean, metrics)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        mix_key, drop_key = jax.random.split(jax.random.fold_in(jax.random.key(options.seed), state.step))
        masks = None
        if options.mixing.active:
            size, height_and_width = len(batch["image"]), batch["image"].shape[-3:-1]
            masks = draw_masks(mix_key, size, height_and_width, options.mixing)
            # With `accumulate` a group's examples are in several parts.
            batch = batch | {"group": jnp.arange(size) // (options.mixing.group or size)}
        grads, batch_stats, metrics = gradients(state.weights, batch, masks, drop_key)
        updates, optimizer_state = optimizer.update(grads, state.optimizer, state.weights.params)
        weights = Weights(optax.apply_updates(state.weights.params, updates), batch_stats)
        ema = state.ema
        if ema is not None:
            ema = update_average(ema, weights, state.step, options.ema_decay, warmup=options.ema_warmup)
        metrics["grad_norm"] = optax.global_norm(grads)
        metrics["learning_rate"] = schedule(state.step)
        return TrainState(state.step + 1, weights, optimizer_state, ema), metrics

    return train_step


def make_eval_step(bind: Bind, options: StepOptions) -> Callable[[Weights, Batch], Metrics]:
    """Builds `eval_step(weights, batch)`, which gives sums over the batch's examples of weight 1.

    The batch has `image`, `label` (int `[B]`) and `weight` (0 for padding). The sums are `loss`, `top1`, `top5` (of
    more than five classes) and `count`; besides them there are int `[B]` `label` and `prediction`, the likeliest class,
    both -1 for padding. Where `image` has several views of each example, it is judged as `evaluation_logits` says, and
    the loss is that of these logits.
    """

    def eval_step(weights: Weights, batch: Batch) -> Metrics:
        logits = evaluation_logits(bind(weights), batch["image"], options.mean, options.std, options.test_average)
        labels, weight = batch["label"], batch["weight"]
        losses = cross_entropy(logits, soft_targets(labels, options.num_classes))
        # Among five classes or fewer, everything is among the first five.
        ranks = (1, 5) if options.num_classes > 5 else (1,)
        return {
            "loss": jnp.sum(losses * weight),
            **{f"top{k}": jnp.sum(correct_top(logits, labels, k) * weight) for k in ranks},
            "count": jnp.sum(weight),
            "label": jnp.where(weight > 0, labels, -1),
            "prediction": jnp.where(weight > 0, jnp.argmax(logits, axis=-1), -1),
        }

    return eval_step


def batch_shapes(batch_size: int, input_size: tuple[int, ...], sharding) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes of a training batch of images or clips (`BackboneConfig.input_size`), before there is data."""
    return {
        "image": jax.ShapeDtypeStruct((batch_size, *input_size, 3), np.uint8, sharding=sharding),
        "label": jax.ShapeDtypeStruct((batch_size,), np.int32, sharding=sharding),
    }
