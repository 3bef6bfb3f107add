"""A small PosMLP on the 8×8 handwritten digits that ship with the project, drawn at 32×32.

python main.py --config=configs/digits.py
"""

from posmlp_jax.training import default_config


def get_config():
    config = default_config("posmlp_t")
    config.model.update(
        image_size=32, widths=(48, 96), depths=(2, 2), expansions=(4, 4), windows=(8, 4), groups=(8, 16), drop_path=0.1
    )
    config.data.update(
        name="digits", eval_split="test", crop="pad", crop_padding=3, flip=False, eval_crop=1.0, threads=2
    )
    config.batch_size = 64
    config.length = "40 epochs"
    config.optimizer.update(peak_rate=3e-3, warmup="3 epochs", constant="2 epochs")
    config.update(ema_decay=0.99, ema_warmup=True)
    config.log_every = "2 epochs"
    config.eval_every = "10 epochs"
    config.checkpoint_every = "10 epochs"
    return config
