"""PosMLP-T on ImageNet-1k at 384²: 20.9 M parameters, 17.67 GMACs; the paper's top-1 is 83.0 %.

    python main.py --config=configs/posmlp_t_384.py

The paper states neither the windows at 384² nor how the model was trained there; the windows 32/16/12/12 give the GMACs
that it prints.
"""

from configs.recipe import released_recipe


def get_config():
    config = released_recipe("posmlp_t_384")
    config.batch_size = 512
    config.optimizer.peak_rate = 1e-3
    config.model.remat = True
    return config
