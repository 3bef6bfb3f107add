import pytest
from ml_collections import ConfigDict

from posmlp_jax.training import default_config


@pytest.fixture(scope="session")
def tiny_config():
    """Makes a config that trains a two-stage PosMLP with BatchNorm on generated 16×16 images, 16 a step, in seconds."""

    def make(**changes) -> ConfigDict:
        config = default_config("posmlp_t")
        config.model.update(
            image_size=16,
            widths=(8, 16),
            depths=(1, 1),
            expansions=(2, 2),
            windows=(4, 2),
            groups=(2, 4),
            dropout=0.1,
            drop_path=0.2,
        )
        config.data.update(name="synthetic", num_examples=40, num_classes=5, crop="pad", threads=1)
        config.batch_size = 16
        config.length = "8 steps"
        config.optimizer.update(peak_rate=3e-3, warmup="2 steps", constant="1 steps")
        config.ema_decay = 0.9
        config.log_every = "1 steps"
        config.eval_every = "4 steps"
        config.checkpoint_every = "4 steps"
        config.devices = 1
        config.update_from_flattened_dict(changes)
        return config

    return make
