"""The released training recipe of PosMLP-T and S on ImageNet-1k, shared by posmlp_t, s and b.

    python -m posmlp_jax.data.prepare imagenet2012 --source=FOLDER_OF_THE_TWO_TARS

docs/training.md explains each part, and where the paper says something else than the released file.
"""

from ml_collections import ConfigDict

from posmlp_jax.training import default_config


def released_recipe(model: str) -> ConfigDict:
    """300 epochs and 10 more at the lowest rate, RandAugment, mixup and CutMix, EMA; batch 1024 (the model's drops)."""
    config = default_config(model)
    config.data.update(
        crop_scale=(0.08, 1.0),
        crop_ratio=(0.67, 1.5),
        randaugment="rand-m6-n3-mstd1.0-inc1",
        color_jitter=0.4,  # Inactive while RandAugment is on, as in the released recipe.
        erasing_probability=0.0,  # The paper's text has random erasing, as DeiT; the released file has not.
        threads=16,
    )
    config.mixing.update(mixup=0.5, cutmix=1.0, probability=1.0, switch_probability=0.5)
    config.label_smoothing = 0.1
    config.length = "300 epochs"
    config.optimizer.update(
        peak_rate=1e-3,
        warmup="10 epochs",
        warmup_rate=1e-5,
        final_rate=1e-6,  # The paper: 1e-5.
        constant="10 epochs",
        eps=1e-5,
        weight_decay=0.067,
        clip_norm=1.0,
    )
    config.update(ema_decay=0.99992, ema_warmup=False)
    config.checkpoint_every = "5 epochs"
    return config
