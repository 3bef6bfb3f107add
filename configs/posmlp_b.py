"""PosMLP-B on ImageNet-1k at 224²: 82.0 M parameters, 18.53 GMACs; the paper prints 83.6 % top-1.

    python main.py --config=configs/posmlp_b.py

Neither a file nor a log of it was published: this is T's recipe, which says what the paper's text says of all three.
"""

from configs.recipe import imagenet_recipe


def get_config():
    return imagenet_recipe("posmlp_b")
