"""ImageNet-1k as PosMLP-T, S and B are trained on it: what their config files share.

    python -m posmlp_jax.data.prepare imagenet2012 --source=FOLDER_OF_THE_TWO_TARS
"""

from ml_collections import ConfigDict

from posmlp_jax.training import default_config


def imagenet_config(model: str) -> ConfigDict:
    """300 epochs at batch 1024 and 10 more at the lowest rate, the released optimizer settings, EMA, drop path.

    Augmentation is random resized crops and flips; of the released recipe RandAugment, mixup and cutmix are missing.
    """
    config = default_config(model)
    config.data.update(crop_scale=(0.08, 1.0), crop_ratio=(0.67, 1.5), threads=16)
    config.checkpoint_every = "5 epochs"
    return config
