"""PosMLP-Video-S on SAMM in five classes: 136 clips.

    python -m posmlp_jax.data.prepare samm_five --source=DIR
    python main.py --mode=leave_one_out --config=configs/micro_expressions/samm_five.py --config.init_from=CHECKPOINT

What CHECKPOINT may be, megc2019.py beside this file says, and recipe.py what the settings are: none is published. Each
fold is 128 steps of 32 clips; no numbers are at hand. For three classes, `--config.data.name=samm`.
"""

from configs.micro_expressions.recipe import micro_expressions


def get_config():
    return micro_expressions("samm_five")
