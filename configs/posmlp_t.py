"""PosMLP-T on ImageNet-1k at 224²: 20.9 M parameters, 5.18 GMACs; the paper reports 82.1 % top-1.

python main.py --config=configs/posmlp_t.py
"""

from configs.recipe import released_recipe


def get_config():
    config = released_recipe("posmlp_t")
    config.optimizer.peak_rate = 2e-3
    return config
