"""`configs/micro_expressions/`: what can be said of the real data sets' configs without their data."""

import importlib
import re

import pytest

from posmlp_jax.models import registry
from posmlp_jax.training.config import check_values, resolve_model
from posmlp_jax.training.step.schedules import to_steps

# Clips and classes of the data sets.
DATA = {"megc2019": (442, 3), "casme2_five": (246, 5), "samm_five": (136, 5)}


@pytest.mark.parametrize("name", DATA)
def test_a_config_takes_its_data_set_and_chooses_nothing(name):
    clips, classes = DATA[name]
    module = importlib.import_module(f"configs.micro_expressions.{name}")
    config = module.get_config()
    check_values(config)
    assert config.data.name == name
    assert (config.keep_best, config.data.left_out, config.eval_every) == ("", "", config.length)
    model = resolve_model(config, {"num_classes": classes})
    assert registry.abstract_model(model).head.kernel.shape == (576, classes)
    steps = to_steps(config.length, batch_size=config.batch_size, num_examples=clips)
    assert re.search(rf"\b{clips} clips", module.__doc__)
    assert re.search(rf"fold\s+is {steps} steps of {config.batch_size} clips", module.__doc__)
