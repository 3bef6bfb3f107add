"""PosMLP-T on ImageNet-1k at 224²: 20.9 M parameters, 5.18 GMACs; the paper prints 82.1 % top-1, its best epoch.

    python main.py --config=configs/posmlp_t.py

What the authors' log was made with, whose best moving average is 81.98 % (docs/recipes.md).
"""

from configs.recipe import imagenet_recipe


def get_config():
    return imagenet_recipe("posmlp_t")
