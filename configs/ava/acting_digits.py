"""A small detector of actions on the built-in films of acting digits, for two CPU cores.

    python main.py --config=configs/ava/acting_digits.py
    python -m benchmarks.acting runs/acting_digits

97.1 % mAP in the ground truth's boxes; in a detector's 93.8 %, by --mode=eval and
--config.data.films.eval_boxes=annotations/detections_val.csv. The second command shows that it is the order of the
frames that tells: played backwards, left is right. docs/actions.md has the numbers.

    --config.model.block=spatial                    the same network without its temporal parts, which cannot tell them
"""

from posmlp_jax.training import default_config


def get_config():
    config = default_config("action_posmlp_video_s", "action_detection")
    config.model.update(
        num_frames=9,
        image_size=48,
        widths=(32, 64),
        depths=(1, 2),
        windows=(6, 6),
        groups=(8, 16),
        drop_path=0.0,
        box_dropout=0.0,
    )
    config.data.update(name="acting_digits", stride=1, fps=7.5, threads=2)
    config.data.update(crop="scaled", scale_sides=(48, 52), canvases=((48, 72),))
    config.data.update(mean=(0.1, 0.1, 0.1), std=(0.25, 0.25, 0.25))
    # A mirrored digit that moves to the left moves to the right.
    config.data.flip_label_pairs = (("left", "right"), ("clockwise", "counterclockwise"))
    config.max_boxes = 4
    config.batch_size = 16
    config.length = "9 epochs"
    config.optimizer.update(peak_rate=3e-3, warmup="1 epochs", constant="0 epochs", weight_decay=0.05, eps=1e-8)
    config.update(ema_decay=0.99, ema_warmup=True)
    config.log_every = "1 epochs"
    config.eval_every = "9 epochs"
    config.checkpoint_every = "9 epochs"
    return config
