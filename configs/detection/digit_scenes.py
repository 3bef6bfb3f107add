"""A small RetinaNet on the built-in scenes of handwritten digits, for two CPU cores.

    python main.py --config=configs/detection/digit_scenes.py
    python main.py --config=configs/detection/digit_scenes.py --config.model.name=mask_rcnn_posmlp_t

The second is a Mask R-CNN, which also says which pixels are an object's.
"""

from posmlp_jax.training import default_config


def get_config():
    config = default_config("retinanet_posmlp_t", "detection")
    config.model.update(
        image_size=128,
        widths=(32, 64, 128),
        depths=(1, 2, 2),
        expansions=(4, 4, 4),
        windows=(8, 8, 8),
        groups=(4, 8, 16),
        dropout=0.0,
        drop_path=0.0,
        fpn_width=32,
        first_map=0,
        levels=3,
        candidates=100,
        anchor_scale=4.0,
    )
    config.data.update(name="digit_scenes", crop="fit", flip=False, threads=2)
    config.batch_size = 16
    config.length = "12 epochs"
    config.optimizer.update(peak_rate=1e-3, warmup="100 steps", constant="0 epochs", weight_decay=0.05, eps=1e-8)
    config.update(ema_decay=0.0, max_objects=8)
    config.mask_rcnn.update(anchors=64, candidates=256, proposals=128, regions=64)
    config.keep_best = "eval/box_ap"
    config.log_every = "50 steps"
    config.eval_every = "4 epochs"
    config.checkpoint_every = "4 epochs"
    return config
