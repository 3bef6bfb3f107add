"""PosMLP-B on ImageNet-1k at 224²: 82.0 M parameters, 18.53 GMACs; the paper's top-1 is 83.6 %, with augmentation still missing here.

    python main.py --config=configs/posmlp_b.py
"""

from configs.imagenet import imagenet_config


def get_config():
    config = imagenet_config("posmlp_b")
    config.optimizer.peak_rate = 1e-3
    return config
