"""Fine-tunes a trained model on other classes, at its own image size or another.

    python main.py --config=configs/finetune.py --config.init_from=posmlp_cifar10 --workdir=runs/mine \
        --config.data.name=image_folder --config.data.data_dir=DIR

`init_from` is the working directory of a run, what `python -m posmlp_jax.convert` wrote, or one of the models that come
with the package (`python -m posmlp_jax.zoo`). The architecture is that checkpoint's, but for what `--config.model.…`
changes: `image_size` and `windows` interpolate, `drop_path` is often raised. The pixels' mean and std are the
checkpoint's too. Where the classes are others, the head is new. docs/checkpoints.md has a measured example. A fifth of
each class is held out where there is no DIR/val. To train the head alone, take configs/linear_probe.py.

    --config.freeze='stem|mergings.0|stages.[01]'     keeps the first two stages
    --config.optimizer.layer_decay=0.75               lets low layers learn more slowly still
"""

from posmlp_jax.training import default_config


def get_config():
    config = default_config("")
    config.data.update(name="image_folder", holdout=0.2, crop_scale=(0.25, 1.0), mean=(), std=(), threads=2)
    config.batch_size = 64
    config.length = "20 epochs"
    config.optimizer.update(peak_rate=1e-3, warmup="1 epochs", constant="0 epochs", weight_decay=0.05, eps=1e-8)
    config.optimizer.layer_decay = 0.85
    config.ema_decay = 0.0
    config.log_every = "1 epochs"
    config.eval_every = "5 epochs"
    config.checkpoint_every = "5 epochs"
    return config
