"""The published recipes of PosMLP-Video on Something-Something and Kinetics-400, shared by the files beside this one.

    python -m posmlp_jax.data.prepare something_something_v2 --source=DIR    (something_something_v1, kinetics400)

What was published is in the two functions' fields; their comments say where it leaves something open. Batches are of
64 videos with two augmented samples of each, so of 128 clips. docs/video.md explains it.
"""

from ml_collections import ConfigDict

from posmlp_jax.training import default_config

# Mirrored, the one is the other: only used with --config.data.flip=True.
SIDES = (
    ("Pulling something from left to right", "Pulling something from right to left"),
    ("Pushing something from left to right", "Pushing something from right to left"),
    ("Turning the camera left while filming something", "Turning the camera right while filming something"),
)


def something_something(version: int, model: str) -> ConfigDict:
    """One frame of each of 16 or 32 segments, no flips; tested with 1 clip × 3 crops."""
    config = _shared(model)
    config.data.update(name=f"something_something_v{version}", sampling="segment", flip=False, flip_label_pairs=SIDES)
    config.data.update(test_clips=1, test_crops=3)
    config.optimizer.update(peak_rate=4e-4, warmup="5 epochs")
    return config


def kinetics(model: str) -> ConfigDict:
    """16 or 32 frames at a stride of 4, flips; tested with 4 clips × 1 crop."""
    config = _shared(model)
    config.data.update(name="kinetics400", sampling="dense", stride=4, flip=True, test_clips=4, test_crops=1)
    # Published: 10 to 30 epochs of warm-up. The length is Something-Something's.
    config.optimizer.update(peak_rate=2e-4, warmup="10 epochs")
    return config


def _shared(model: str) -> ConfigDict:
    config = default_config(model)
    # Published: 0.1 to 0.6 by size. These are its ends.
    large = model.startswith("posmlp_video_b")
    config.model.update(drop_path=0.6 if large else 0.1, remat=large)
    config.data.update(
        mean=(0.45, 0.45, 0.45),
        std=(0.225, 0.225, 0.225),
        repeats=2,
        randaugment="rand-m7-n4-mstd0.5-inc1",
        erasing_probability=0.25,
        eval_crop=1.0,
        threads=16,
    )
    config.mixing.update(mixup=0.8, cutmix=1.0, probability=1.0, switch_probability=0.5)
    config.label_smoothing = 0.1
    config.batch_size = 128
    config.eval_batch_size = 32
    config.length = "60 epochs"
    # Nothing was published of ε, clipping and the rate at the very beginning.
    config.optimizer.update(warmup_rate=1e-6, final_rate=1e-6, constant="0 epochs", weight_decay=0.05, eps=1e-8)
    config.ema_decay = 0.0
    config.eval_every = "5 epochs"
    return config
