"""gMLP-B on ImageNet-1k at 224²: 73.1 M parameters, 15.72 GMACs; its own paper prints 81.6 % top-1.

    python main.py --config=configs/gmlp_b.py

That paper's recipe is another. This is PosMLP's, as its authors trained their gMLPs on half of the data
(configs/gmlp_s_half.py).
"""

from configs.recipe import imagenet_recipe


def get_config():
    return imagenet_recipe("gmlp_b")
