"""A small PosMLP on CIFAR-10, for two CPU cores and an hour and a quarter. docs/cifar10.md has its curves.

python -m posmlp_jax.data.prepare cifar10 --source=cifar-10-python.tar.gz
python main.py --config=configs/cifar10.py
"""

from posmlp_jax.training import default_config


def get_config():
    config = default_config("posmlp_t")
    config.model.update(
        image_size=32,
        widths=(96, 192),
        depths=(2, 4),
        expansions=(4, 4),
        windows=(8, 4),
        groups=(8, 16),
        dropout=0.0,
        drop_path=0.1,
    )
    config.data.update(name="cifar10", eval_split="test", crop="pad", crop_padding=4, eval_crop=1.0, threads=2)
    config.data.update(mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))
    config.data.randaugment = "rand-m5-n2-mstd0.5-inc1"
    config.mixing.update(cutmix=1.0, probability=0.5)
    config.batch_size = 128
    config.eval_batch_size = 500
    config.length = "60 epochs"
    config.optimizer.update(peak_rate=2e-3, warmup="3 epochs", constant="0 epochs", weight_decay=0.05, eps=1e-8)
    config.update(ema_decay=0.999, ema_warmup=True)
    config.log_every = "1 epochs"
    config.eval_every = "5 epochs"
    config.checkpoint_every = "1 epochs"
    return config
