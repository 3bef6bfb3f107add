"""PosMLP-Video-B without its temporal parts on ImageNet-1k at 224²: 26.0 M parameters, 4.9 GMACs.

    python main.py --config=configs/posmlp_video_b_image.py

What the video models start from (configs/video/). How it was trained was not published: this is PosMLP's recipe, with
the mean and standard deviation of the clips. 310 epochs are 1.2·10¹⁹ operations.
"""

from configs.recipe import imagenet_recipe


def get_config():
    config = imagenet_recipe("posmlp_video_b_image")
    config.data.update(mean=(0.45, 0.45, 0.45), std=(0.225, 0.225, 0.225))
    return config
