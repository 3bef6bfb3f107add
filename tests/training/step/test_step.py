import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from helpers import OPTIMIZED
from runs import classification

from posmlp_jax.checkpoints.state import TrainState, Weights, create_state, split_model
from posmlp_jax.devices.mesh import batch_sharding, create_mesh
from posmlp_jax.models import create_model, model_config
from posmlp_jax.tasks.classification.losses import soft_targets
from posmlp_jax.tasks.classification.task import Classification
from posmlp_jax.tasks.task import normalize_images
from posmlp_jax.training.step.moving_average import update_average
from posmlp_jax.training.step.step import StepOptions, make_eval_step, make_train_step

pytestmark = pytest.mark.heavy

TINY = {"image_size": 16, "widths": (8,), "depths": (2,), "expansions": (2,), "windows": (4,), "groups": (2,)}
TINY |= {"num_classes": 5, "stem_norm": "layer", "dropout": 0.0, "drop_path": 0.0}
RATE = 0.1
SMOOTHED = {"label_smoothing": 0.1}
MIXED = {"mixing.mixup": 0.5, "mixing.cutmix": 1.0}


MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


def task(config=None, **changes) -> Classification:
    changes = {"data.mean": MEAN, "data.std": STD, **changes}
    return classification(config or model_config("posmlp_t", **TINY), **changes)


def batch(size=8) -> dict:
    random = np.random.default_rng(0)
    return {
        "image": random.integers(0, 256, (size, 16, 16, 3), dtype=np.uint8),
        "label": random.integers(0, 5, size).astype(np.int32),
    }


def rate(step):
    return RATE + step


def one_step(model_changes=None, data=None, task_changes=None, compiler_options=None, **options):
    """The state before and after a step of plain gradient descent, and its metrics."""
    config = model_config("posmlp_t", **(TINY | (model_changes or {})))
    optimizer = optax.sgd(RATE)
    bind, _ = split_model(create_model("posmlp_t", **(TINY | (model_changes or {}))))
    state = create_state(config, optimizer, seed=0, ema=options.get("ema_decay", 0) > 0)
    step = make_train_step(bind, task(config, **(task_changes or {})), optimizer, rate, StepOptions(**options))
    step = jax.jit(step, compiler_options=compiler_options)
    after, metrics = step(state, data or batch())
    return state, after, metrics


def assert_close(left, right, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), left, right)


def test_a_step_is_the_gradient_of_the_written_out_loss():
    state, after, metrics = one_step(task_changes=SMOOTHED)
    bind, _ = split_model(create_model("posmlp_t", **TINY))
    data = batch()
    images = (data["image"].astype(np.float64) / 255 - np.array([0.5, 0.4, 0.3])) / np.array([0.2, 0.3, 0.4])
    np.testing.assert_allclose(normalize_images(data["image"], MEAN, STD), images, rtol=1e-5, atol=1e-6)
    targets = np.full((8, 5), 0.02) + 0.9 * np.eye(5)[data["label"]]

    def loss(params):
        logits = bind(Weights(params, {}))(jnp.float32(images), train=True)
        return -jnp.mean(jnp.sum(targets * jnp.log(jnp.exp(logits) / jnp.exp(logits).sum(-1, keepdims=True)), -1))

    value, grads = jax.jit(jax.value_and_grad(loss))(state.weights.params)
    assert metrics["loss"] == pytest.approx(float(value), rel=1e-5)
    assert metrics["grad_norm"] == pytest.approx(float(optax.global_norm(grads)), rel=1e-4)
    assert metrics["learning_rate"] == pytest.approx(RATE)
    wanted = jax.tree.map(lambda p, g: p - RATE * g, state.weights.params, grads)
    assert_close(after.weights.params, wanted, rtol=1e-4, atol=1e-6)
    assert after.step == 1


def test_integer_labels_and_their_soft_targets_are_the_same():
    soft = batch() | {"label": np.asarray(soft_targets(batch()["label"], 5))}
    _, hard_state, hard = one_step(task_changes=SMOOTHED, compiler_options=OPTIMIZED)
    _, soft_state, metrics = one_step(task_changes=SMOOTHED, data=soft, compiler_options=OPTIMIZED)
    # Biases before a BatchNorm, of about 1e-7, have gradients of rounding alone.
    assert_close(soft_state.weights.params, hard_state.weights.params, rtol=1e-6, atol=1e-8)
    assert_close(metrics, hard, rtol=1e-6)


@pytest.mark.parametrize("mixing", [{}, MIXED | {"mixing.group": 4}])
def test_accumulation_changes_nothing_where_parts_do_not_see_each_other(mixing):
    _, whole, metrics = one_step(task_changes=mixing)
    _, parts, part_metrics = one_step(task_changes=mixing, accumulate=4)
    assert_close(parts.weights.params, whole.weights.params, rtol=1e-5, atol=1e-6)
    assert_close(part_metrics, metrics, rtol=1e-5)


def test_groups_that_no_device_has_alone_are_mixed_alike():
    """Groups of 6, the last of 4, over eight devices with two examples each."""
    mixing = MIXED | {"mixing.group": 6}
    data = batch(16)
    _, one, metrics = one_step(data=data, task_changes=mixing)
    sharding = batch_sharding(create_mesh(8))
    _, eight, metrics_of_eight = one_step(data=jax.device_put(data, sharding), task_changes=mixing)
    assert_close(eight.weights.params, one.weights.params, rtol=1e-5, atol=1e-6)
    assert_close(metrics_of_eight, metrics, rtol=1e-5)
    _, _, whole = one_step(data=data, task_changes=MIXED)
    assert whole["loss"] != metrics["loss"]


def test_accumulated_batch_statistics_go_from_part_to_part():
    state, after, _ = one_step({"stem_norm": "batch"}, accumulate=2)
    bind, _ = split_model(create_model("posmlp_t", **(TINY | {"stem_norm": "batch"})))
    stats = state.weights.batch_stats
    for part in ([0, 1, 4, 5], [2, 3, 6, 7]):
        model = bind(Weights(state.weights.params, stats))
        model(normalize_images(batch()["image"][part], MEAN, STD), train=True)
        stats = split_model(model)[1].batch_stats
    assert_close(after.weights.batch_stats, stats, rtol=1e-5, atol=1e-6)


def test_the_moving_average_covers_parameters_and_batch_statistics():
    state, after, _ = one_step({"stem_norm": "batch"}, ema_decay=0.75)
    wanted = jax.tree.map(lambda old, new: 0.75 * old + 0.25 * new, state.weights, after.weights)
    assert_close(after.ema, wanted, rtol=1e-5, atol=1e-7)
    assert differs(after.ema.batch_stats, state.ema.batch_stats)


def test_the_average_of_a_run_is_the_recursion_of_its_decays():
    """Against NumPy in float64, long enough for the warm-up to reach the decay: (1 + 9) / (10 + 9) < 0.6."""
    random = np.random.default_rng(1)
    path = random.normal(size=(30, 7))
    for warmup in (False, True):
        average = wanted = path[0]
        for step, new in enumerate(path[1:]):
            decay = min(0.6, (1 + step) / (10 + step)) if warmup else 0.6
            wanted = decay * wanted + (1 - decay) * new
            average = update_average(average, jnp.float32(new), jnp.int32(step), 0.6, warmup=warmup)
        np.testing.assert_allclose(average, wanted, rtol=2e-6, atol=1e-7)
    # The step alone decides: nothing but it has to be kept.
    late = update_average(jnp.ones(()), jnp.zeros(()), jnp.int32(10**6), 0.99992, warmup=True)
    assert late == pytest.approx(0.99992, rel=1e-7)


def test_the_first_step_with_warmup_leaves_a_tenth_of_the_start():
    state, after, _ = one_step(ema_decay=0.75, ema_warmup=True)
    wanted = jax.tree.map(lambda old, new: 0.1 * old + 0.9 * new, state.weights, after.weights)
    assert_close(after.ema, wanted, rtol=1e-5, atol=1e-7)


def differs(left, right) -> bool:
    return any(bool((a != b).any()) for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True))


def test_what_is_dropped_is_a_function_of_seed_and_step():
    drops = {"dropout": 0.5, "drop_path": 0.5}
    before, first, _ = one_step(drops)
    assert not differs(first.weights, one_step(drops)[1].weights)
    assert differs(first.weights, one_step(drops, seed=1)[1].weights)
    bind, _ = split_model(create_model("posmlp_t", **(TINY | drops)))
    step = jax.jit(make_train_step(bind, task(), optax.sgd(RATE), rate, StepOptions()))
    from_step_one, _ = step(TrainState(first.step, before.weights, before.optimizer, None), batch())
    assert differs(first.weights, from_step_one.weights)


def test_evaluation_sums_over_examples_of_weight_one():
    model = create_model("posmlp_t", **TINY, rngs=nnx.Rngs(3))
    bind, weights = split_model(model)
    data = batch() | {"weight": np.float32([1, 1, 1, 0, 1, 0, 1, 1]), "index": np.arange(3, 11)}
    sums, rows = jax.jit(make_eval_step(bind, task(**SMOOTHED)))(weights, data)
    logits = np.asarray(model(normalize_images(data["image"], MEAN, STD)), np.float64)
    loss = np.log(np.exp(logits).sum(-1)) - logits[np.arange(8), data["label"]]
    kept = data["weight"] > 0
    assert sums["count"] == 6
    assert sums["loss"] == pytest.approx(loss[kept].sum(), rel=1e-5)
    assert sums["top1"] == (logits.argmax(-1) == data["label"])[kept].sum()
    assert "top5" not in sums  # Of five classes.
    wanted = {name: data[name] for name in ("label", "weight", "index")} | {"prediction": logits.argmax(-1)}
    assert_close(rows, wanted)
