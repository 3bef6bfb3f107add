"""A small RetinaNet on the built-in scenes of handwritten digits, for two CPU cores.

    python main.py --config=configs/detection/digit_scenes.py

docs/detection.md goes through what comes of it; digit_scenes_masks.py has a Mask R-CNN.
"""

from posmlp_jax.training import default_config


def get_config():
    config = default_config("retinanet_posmlp_t", "detection")
    config.model.update(
        image_size=128,
        widths=(24, 48, 96, 192),
        depths=(1, 1, 2, 1),
        expansions=(3, 3, 3, 2),
        windows=(8, 8, 8, 4),
        groups=(4, 8, 8, 8),
        drop_path=0.0,
        fpn_width=64,
        # Digits are of 14 to 48 pixels: anchors of 16, 32 and 64, at strides 8, 16 and 32.
        levels=3,
        anchor_scale=2.0,
        tower_depth=2,
        candidates=200,
    )
    config.data.update(name="digit_scenes", crop="fit", flip=False, threads=2)
    config.max_objects = 8
    config.batch_size = 16
    config.length = "12 epochs"
    config.optimizer.update(peak_rate=3e-3, warmup="100 steps", constant="0 epochs", weight_decay=0.05, eps=1e-8)
    config.ema_decay = 0.0
    config.keep_best = "eval/box_ap"
    config.log_every = "100 steps"
    config.eval_every = "4 epochs"
    config.checkpoint_every = "4 epochs"
    return config
