"""PosMLP-S on ImageNet-1k at 224²: 36.8 M parameters, 8.71 GMACs; the paper's top-1 is 83.0 %, with augmentation still missing here.

    python main.py --config=configs/posmlp_s.py
"""

from configs.imagenet import imagenet_config


def get_config():
    config = imagenet_config("posmlp_s")
    config.optimizer.peak_rate = 1e-3
    return config
