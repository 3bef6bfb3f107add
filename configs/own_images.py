"""A small PosMLP from random weights on a few hundred photos of one's own, for two CPU cores.

    python main.py --config=configs/own_images.py --config.data.data_dir=DIR

DIR/CLASS/*.jpg: a fifth of each class is held out for evaluation; where there is a DIR/val/CLASS, that is taken
instead. 5 classes × 100 photos take 750 steps; docs/own_images.md says what came out of it and where to go from there.
Where a trained model is at hand, configs/finetune.py starts from it.

    --config.data.balance=classes      draws unequal classes equally often
    --config.model.image_size=96       looks at finer detail, for twice the time
    --config.length='120 epochs'       trains longer
"""

from posmlp_jax.training import default_config


def get_config():
    config = default_config("posmlp_t")
    config.model.update(
        image_size=64,
        widths=(48, 96, 192),
        depths=(1, 2, 2),
        expansions=(4, 4, 4),
        windows=(8, 8, 4),
        groups=(8, 16, 16),
        dropout=0.0,
        drop_path=0.1,
    )
    config.data.update(name="image_folder", holdout=0.2, crop_scale=(0.25, 1.0), color_jitter=0.2, threads=2)
    config.batch_size = 32
    config.length = "60 epochs"
    config.optimizer.update(peak_rate=1e-3, warmup="5 epochs", constant="0 epochs", weight_decay=0.05, eps=1e-8)
    config.update(ema_decay=0.0, ema_length="3 epochs")
    config.log_every = "5 epochs"
    config.eval_every = "10 epochs"
    config.checkpoint_every = "10 epochs"
    return config
