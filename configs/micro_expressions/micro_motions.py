"""A small PosMLP-Video on faces whose brows or mouth move by a pixel or two, of ten people of whom each is left out.

    python main.py --mode=leave_one_out --config=configs/micro_expressions/micro_motions.py
    python -m benchmarks.micro_motion runs/micro_motions

The folds start from the zoo's model of moving digits, which reads motion: from random weights they would need several
times as many steps. docs/micro_expressions.md has the numbers. The second command says how often the direction of a
motion, up or down, was decided right, which no frame shows.

    --config.model.block=spatial --config.init_from=     the same network without its temporal parts, which cannot tell
"""

from posmlp_jax.training import default_config


def get_config():
    config = default_config("posmlp_video_s", task="micro_expressions")
    config.model.update(
        num_frames=8, image_size=32, widths=(32, 64), depths=(1, 2), windows=(8, 4), groups=(8, 16), drop_path=0.0
    )
    # Shifts and changes of light are the same for all frames of a clip: what moves in it stays as it is.
    config.data.update(name="micro_motions", crop="pad", crop_padding=2, color_jitter=0.2, eval_crop=1.0, threads=2)
    config.data.update(frame_side=32, mean=(0.59, 0.59, 0.59), std=(0.1, 0.1, 0.1))
    config.init_from = "posmlp_video_moving_digits"
    config.update(batch_size=16, eval_batch_size=40)
    config.length = "280 steps"
    config.optimizer.update(peak_rate=2e-3, final_rate=3e-4, warmup="10 steps", constant="0 steps")
    config.optimizer.update(weight_decay=0.05, eps=1e-8)
    config.update(label_smoothing=0.0, ema_decay=0.95, ema_warmup=True)
    config.log_every = "70 steps"
    # Only at the end: there is nothing to choose.
    config.eval_every = "280 steps"
    config.checkpoint_every = "280 steps"
    return config
