"""The published recipes of PosMLP-Video on Something-Something and Kinetics-400, shared by the files beside this one.

    python -m posmlp_jax.data.prepare something_something_v2 --source=DIR    (something_something_v1, kinetics400)

Every value is that of the published code (zhouds1918/PosMLP_Video): of one of its files in configs/SSV1, SSV2 and K400,
or, where these say nothing, of its defaults.py. What is the same in all of them is here, the rest in the file that is
named after the experiment. tests/published_recipes.py has the published values again, to compare. What is done in
another way all the same is listed in docs/video.md.
"""

from ml_collections import ConfigDict

from posmlp_jax.training import default_config

# Mirrored, the one is the other: only used with --config.data.flip=True.
SIDES = (
    ("Pulling something from left to right", "Pulling something from right to left"),
    ("Pushing something from left to right", "Pushing something from right to left"),
    ("Turning the camera left while filming something", "Turning the camera right while filming something"),
)


def something_something(version: int, model: str, *, drop_path: float, epochs: int, videos: int) -> ConfigDict:
    """One frame of each of 16 or 32 segments, no flips; tested with 1 clip × 3 crops.

    Args:
      version: of the data set, 1 or 2.
      model: of `posmlp_jax.create_model`.
      drop_path: POSMLP_VIDEO.DROP_DEPTH_RATE.
      epochs: SOLVER.MAX_EPOCH.
      videos: TRAIN.BATCH_SIZE, how many a step has samples of.
    """
    config = _shared(model, drop_path, epochs, videos)
    config.data.update(
        name=f"something_something_v{version}",
        sampling="rounded_segment",  # datasets/sth.py
        flip=False,
        flip_label_pairs=SIDES,
        # The README's commands for testing.
        test_clips=1,
        test_crops=3,
        # Of three crops, each is as high as the frame: datasets/sth.py.
        eval_crop=1.0,
    )
    config.optimizer.update(peak_rate=4e-4, warmup="5 epochs")
    return config


def kinetics(model: str, *, drop_path: float, warmup: int, epochs: int, videos: int) -> ConfigDict:
    """16 or 32 frames of 64 or 128 of 30 a second, flips; tested with 4 clips × 1 crop.

    Args:
      model: of `posmlp_jax.create_model`.
      drop_path: POSMLP_VIDEO.DROP_DEPTH_RATE.
      warmup: SOLVER.WARMUP_EPOCHS.
      epochs: SOLVER.MAX_EPOCH.
      videos: TRAIN.BATCH_SIZE, how many a step has samples of.
    """
    config = _shared(model, drop_path, epochs, videos)
    config.data.update(
        name="kinetics400",
        sampling="dense",
        stride=4,
        fps=30.0,
        frame_side=256,  # Frames are decoded at TRAIN_JITTER_SCALES[0]: datasets/kinetics.py.
        flip=True,
        # The README's commands for testing.
        test_clips=4,
        test_crops=1,
        # A single crop is one of TEST_CROP_SIZE, 224, from frames of 256: datasets/kinetics.py.
        eval_crop=0.875,
    )
    config.optimizer.update(peak_rate=2e-4, warmup=f"{warmup} epochs")
    return config


def _shared(model: str, drop_path: float, epochs: int, videos: int) -> ConfigDict:
    config = default_config(model)
    # Rematerialisation changes nothing but memory and time.
    config.model.update(drop_path=drop_path, remat=model.startswith("posmlp_video_b"))
    config.data.update(
        mean=(0.45, 0.45, 0.45),
        std=(0.225, 0.225, 0.225),
        repeats=2,
        crop_scale=(0.08, 1.0),
        crop_ratio=(0.75, 1.3333),
        interpolation="bilinear",  # datasets/transform.py
        randaugment="rand-m7-n4-mstd0.5-inc1",
        randaugment_on="frame",  # datasets/kinetics.py and sth.py
        randaugment_interpolation="bicubic",
        randaugment_fill=(128, 128, 128),  # datasets/rand_augment.py
        erasing_probability=0.25,
        erasing_mode="pixel",
        erasing_count=1,
        test_average="logits",  # The sum of what the network, without softmax, gives: utils/meters.py.
        threads=16,
    )
    # By each GPU for itself, which has two samples of 8 videos: BATCH_SIZE / NUM_GPUS.
    config.mixing.update(mixup=0.8, cutmix=1.0, probability=1.0, switch_probability=0.5, group=16)
    config.label_smoothing = 0.1
    config.batch_size = 2 * videos
    config.eval_batch_size = 32
    config.length = f"{epochs} epochs"
    config.optimizer.update(
        schedule="cosine",
        warmup_rate=1e-6,
        final_rate=1e-6,
        constant="0 epochs",
        weight_decay=0.05,
        eps=1e-8,  # models/optimizer.py
        clip_norm=20.0,
    )
    config.ema_decay = 0.0
    config.eval_every = "5 epochs"
    return config
