"""PosMLP-T on ImageNet-1k as the authors' file is now: 1024 images a step and a peak rate of 2e-3.

    python main.py --config=configs/posmlp_t_released.py

These two values came into it eight months after its log, which configs/posmlp_t.py follows; no result of them is known.
"""

from configs.recipe import imagenet_recipe


def get_config():
    config = imagenet_recipe("posmlp_t", images_a_gpu=128)
    config.optimizer.peak_rate = 2e-3
    return config
