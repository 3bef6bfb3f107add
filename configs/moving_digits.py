"""A small PosMLP-Video on clips of moving handwritten digits, whose class is the motion: left, clockwise, growing, …

    python main.py --config=configs/moving_digits.py
    python -m benchmarks.motion runs/moving_digits

100 % top-1 on two CPU cores in about two minutes; some seconds more the first time, when the clips are made from
the digits that ship with the project and written as MP4 files. The second command shows that it is the order of the
frames that tells: shuffled, `left` and `right` are as one. docs/video.md has the numbers.

    --config.model.block=spatial                    the same network without its temporal parts, which cannot tell them
"""

from posmlp_jax.training import default_config


def get_config():
    config = default_config("posmlp_video_s")
    config.model.update(
        num_frames=8, image_size=32, widths=(32, 64), depths=(1, 2), windows=(8, 4), groups=(8, 16), drop_path=0.0
    )
    config.data.update(name="moving_digits", eval_split="test", crop="pad", crop_padding=2, eval_crop=1.0, threads=2)
    config.data.update(mean=(0.1, 0.1, 0.1), std=(0.25, 0.25, 0.25))
    # A mirrored digit that moves to the left moves to the right.
    config.data.flip_label_pairs = (("left", "right"), ("clockwise", "counterclockwise"))
    config.batch_size = 64
    config.length = "12 epochs"
    config.optimizer.update(peak_rate=3e-3, warmup="1 epochs", constant="0 epochs", weight_decay=0.05, eps=1e-8)
    config.update(ema_decay=0.98, ema_warmup=True)
    config.log_every = "1 epochs"
    config.eval_every = "4 epochs"
    config.checkpoint_every = "4 epochs"
    return config
