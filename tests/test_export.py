"""The training step of every registered model lowers for TPUs and GPUs, on whatever machine the tests run."""

import collections
from functools import partial

import jax
import pytest
from jax import export
from runs import classification

from posmlp_jax import list_models
from posmlp_jax.checkpoints.state import bind_model, create_state
from posmlp_jax.models import GMLPConfig
from posmlp_jax.training.compiled import batch_shapes
from posmlp_jax.training.config import default_config, resolve_model
from posmlp_jax.training.step.optimizer import create_optimizer
from posmlp_jax.training.step.schedules import learning_rate
from posmlp_jax.training.step.step import StepOptions, make_train_step

pytestmark = pytest.mark.heavy

PLATFORMS = ["tpu", "cuda"]


@pytest.mark.parametrize("name", list_models())
def test_train_step_lowers(name):
    config = default_config(name)
    config.model.dtype = "bfloat16"  # As it is chosen on accelerators.
    model = resolve_model(config, {"num_classes": 1000})
    # A block of each kind: the others only repeat it.
    model = model.replace(depth=1) if isinstance(model, GMLPConfig) else model.replace(depths=(1,) * len(model.depths))
    schedule = learning_rate(config.optimizer, config.length, batch_size=8, num_examples=80)
    optimizer = create_optimizer(config.optimizer, schedule)
    task = classification(model, label_smoothing=config.label_smoothing)
    step = make_train_step(bind_model(model), task, optimizer, schedule, StepOptions(ema_decay=config.ema_decay))
    state = jax.eval_shape(partial(create_state, model, optimizer, 0, ema=True))
    batch = batch_shapes(8, model.input_size, task.targets(task.source).columns, None)
    exported = export.export(jax.jit(step), platforms=PLATFORMS)(state, batch)
    assert exported.platforms == tuple(PLATFORMS)
    # The state comes back with the shapes and types it came with, and four scalars beside it.
    metrics = [jax.ShapeDtypeStruct((), "float32")] * 4
    returned, expected = (
        collections.Counter((value.shape, value.dtype.name) for value in values)
        for values in (exported.out_avals, [*jax.tree.leaves(state), *metrics])
    )
    assert returned == expected
    assert "bf16" in exported.mlir_module()
