"""PosMLP-B on ImageNet-1k at 224²: 82.0 M parameters, 18.53 GMACs; the paper reports 83.6 % top-1.

python main.py --config=configs/posmlp_b.py
"""

from configs.recipe import released_recipe


def get_config():
    config = released_recipe("posmlp_b")
    config.optimizer.peak_rate = 1e-3
    return config
