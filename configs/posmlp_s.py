"""PosMLP-S on ImageNet-1k at 224²: 36.8 M parameters, 8.71 GMACs; the paper reports 83.0 % top-1.

python main.py --config=configs/posmlp_s.py
"""

from configs.recipe import released_recipe


def get_config():
    config = released_recipe("posmlp_s")
    config.optimizer.peak_rate = 1e-3
    return config
