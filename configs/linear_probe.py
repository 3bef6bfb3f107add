"""Trains a new head on a trained model whose other parameters stay as they are: a linear probe.

    python main.py --config=configs/linear_probe.py --config.init_from=runs/digits --workdir=runs/probe \
        --config.data.data_dir=DIR

The head learns alone, on standardised features (training/step/probe.py) of images that are not augmented, with
nothing that would keep it from what scikit-learn's logistic regression on the pooled `features` finds:
tests/training/step/test_linear_probe.py compares.
"""

from configs.finetune import get_config as finetune


def get_config():
    config = finetune()
    config.freeze = "(?!head)"
    # A trunk that cannot adapt sees random crops as other images than those of the evaluation.
    config.data.augment = "none"
    config.length = "40 epochs"
    config.optimizer.update(standardize_head=True, peak_rate=3e-2, layer_decay=1.0, weight_decay=0.0, clip_norm=0.0)
    config.model.dropout = 0.0  # Else the pooled features are dropped before the head.
    config.label_smoothing = 0.0
    config.log_every = "5 epochs"
    config.eval_every = "10 epochs"
    config.checkpoint_every = "10 epochs"
    return config
