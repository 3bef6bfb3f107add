"""What the configs of real micro-expressions beside this file share: a few hundred clips, and a trained model to start.

Neither PosMLP-Video's paper nor its code says how it was trained on these data sets, so nothing here is a published
setting. What was chosen, and why: frames of 112 pixels, in which a face's motion is still a pixel; 8 frames from onset
to apex; few steps from a trained model, as the clips are few; crops, mirror images and changes of light that are the
same for all frames of a clip, so that what moves in it stays as it is; the moving average of the last step.
"""

from ml_collections import ConfigDict

from posmlp_jax.training import default_config


def micro_expressions(name: str) -> ConfigDict:
    """PosMLP-Video-S on a data set that `python -m posmlp_jax.data.prepare NAME` has made."""
    config = default_config("posmlp_video_s", task="micro_expressions")
    config.model.update(num_frames=8, image_size=112, windows=(14, 14, 7, 4), drop_path=0.1)
    config.data.update(name=name, clip_end="apex", frame_side=128, color_jitter=0.2)
    config.data.update(crop_scale=(0.7, 1.0), crop_ratio=(0.9, 1.1))
    config.data.balance = "classes"  # As UF1 counts them.
    config.batch_size = 32
    config.length = "30 epochs"
    config.optimizer.update(peak_rate=3e-4, warmup="3 epochs", constant="0 epochs", weight_decay=0.05, eps=1e-8)
    config.optimizer.layer_decay = 0.75
    config.update(label_smoothing=0.1, ema_decay=0.99, ema_warmup=True)
    config.log_every = "5 epochs"
    # Only at the end: there is nothing to choose.
    config.eval_every = config.length
    config.checkpoint_every = "10 epochs"
    return config
