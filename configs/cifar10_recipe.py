"""PosMLP's recipe with random erasing too, at a scale that two CPU cores can train: CIFAR-10, a small PosMLP.

    python main.py --config=configs/cifar10_recipe.py

It shows that the recipe is alive; docs/training.md has what each part does to the accuracy of so short a run. For
accuracy on CIFAR-10 take configs/cifar10.py.
"""

from configs import cifar10


def get_config():
    config = cifar10.get_config()
    config.model.update(widths=(64, 128), depths=(1, 2), drop_path=0.1, dropout=0.02333)
    config.data.update(randaugment="rand-m6-n3-mstd1.0-inc1", erasing_probability=0.25)
    config.mixing.update(mixup=0.5, cutmix=1.0, probability=1.0)
    config.length = "3 epochs"
    config.optimizer.warmup = "1 epochs"
    config.update(ema_decay=0.99, ema_warmup=True)
    config.update(log_every="0.5 epochs", eval_every="3 epochs", checkpoint_every="3 epochs")
    return config
