"""A small Mask R-CNN on the built-in scenes of handwritten digits, for two CPU cores.

    python main.py --config=configs/detection/digit_scenes_masks.py

docs/detection.md goes through what comes of it; digit_scenes.py has a RetinaNet, which finds boxes alone.
"""

from posmlp_jax.training import default_config


def get_config():
    config = default_config("mask_rcnn_posmlp_t", "detection")
    config.model.update(
        image_size=128,
        widths=(24, 48, 96),
        depths=(1, 1, 2),
        expansions=(3, 3, 3),
        windows=(8, 8, 8),
        groups=(4, 8, 8),
        drop_path=0.0,
        fpn_width=48,
        # Digits are of 14 to 48 pixels: anchors of 16, 32 and 64, at strides 4, 8 and 16.
        levels=3,
        anchor_scale=4.0,
        candidates=200,
        proposals=50,
        box_width=128,
        mask_depth=2,
    )
    config.data.update(name="digit_scenes", crop="fit", flip=False, threads=2)
    config.max_objects = 8
    config.mask_rcnn.update(anchors=64, candidates=200, proposals=100, regions=32)
    config.batch_size = 16
    config.length = "6 epochs"
    config.optimizer.update(peak_rate=3e-3, warmup="100 steps", constant="0 epochs", weight_decay=0.05, eps=1e-8)
    config.ema_decay = 0.0
    config.keep_best = "eval/box_ap"
    config.log_every = "100 steps"
    config.eval_every = "2 epochs"
    config.checkpoint_every = "2 epochs"
    return config
