"""PosMLP-S on ImageNet-1k at 224²: 36.8 M parameters, 8.71 GMACs; the paper prints 83.0 % top-1, its best epoch.

    python main.py --config=configs/posmlp_s.py

What the authors' log was made with, whose best moving average is 82.96 % (docs/recipes.md).
"""

from configs.recipe import imagenet_recipe


def get_config():
    return imagenet_recipe("posmlp_s", images_a_gpu=60)  # File.
