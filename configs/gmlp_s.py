"""gMLP-S on ImageNet-1k at 224²: 19.4 M parameters, 4.39 GMACs; its own paper prints 79.6 % top-1.

    python main.py --config=configs/gmlp_s.py

That paper's recipe is another. This is PosMLP's, as its authors trained their gMLPs on half of the data
(configs/gmlp_s_half.py).
"""

from configs.recipe import imagenet_recipe


def get_config():
    return imagenet_recipe("gmlp_s")
