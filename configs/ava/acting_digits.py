"""A small detector of actions on the built-in films of acting digits, for two CPU cores.

python main.py --config=configs/ava/acting_digits.py
python -m benchmarks.acting runs/acting_digits
"""

from posmlp_jax.training import default_config


def get_config():
    config = default_config("action_posmlp_video_s", "action_detection")
    config.model.update(
        num_frames=9,
        image_size=64,
        widths=(32, 64),
        depths=(1, 2),
        windows=(8, 4),
        groups=(8, 16),
        drop_path=0.0,
        box_dropout=0.0,
    )
    config.data.update(name="acting_digits", stride=1, fps=7.5, threads=2)
    config.data.update(crop="scaled", scale_sides=(64, 64), short_side=0, canvases=((64, 96),))
    config.data.update(mean=(0.1, 0.1, 0.1), std=(0.25, 0.25, 0.25))
    # A mirrored digit that moves to the left moves to the right.
    config.data.flip_label_pairs = (("left", "right"), ("clockwise", "counterclockwise"))
    config.max_boxes = 4
    config.batch_size = 32
    config.length = "20 epochs"
    config.optimizer.update(peak_rate=3e-3, warmup="1 epochs", constant="0 epochs", weight_decay=0.05, eps=1e-8)
    config.update(ema_decay=0.98, ema_warmup=True)
    config.log_every = "1 epochs"
    config.eval_every = "5 epochs"
    config.checkpoint_every = "5 epochs"
    return config
