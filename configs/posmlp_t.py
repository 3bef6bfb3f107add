"""PosMLP-T on ImageNet-1k at 224²: 20.9 M parameters, 5.18 GMACs; the paper's top-1 is 82.1 %, with augmentation still missing here.

    python main.py --config=configs/posmlp_t.py
"""

from configs.imagenet import imagenet_config


def get_config():
    config = imagenet_config("posmlp_t")
    config.optimizer.peak_rate = 2e-3
    return config
