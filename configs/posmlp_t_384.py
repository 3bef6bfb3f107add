"""PosMLP-T on ImageNet-1k at 384²: 20.9 M parameters, 17.67 GMACs; the paper prints 83.0 % top-1.

    python main.py --config=configs/posmlp_t_384.py

Nothing else was published of it: the windows 32/16/12/12 give the GMACs that the paper prints, and the recipe is that
of 224².
"""

from configs.recipe import imagenet_recipe


def get_config():
    config = imagenet_recipe("posmlp_t_384")
    config.model.remat = True
    return config
