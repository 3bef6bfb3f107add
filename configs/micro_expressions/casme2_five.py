"""PosMLP-Video-S on CASME II in five classes: 246 clips of 26 people.

    python -m posmlp_jax.data.prepare casme2_five --source=DIR
    python main.py --mode=leave_one_out --config=configs/micro_expressions/casme2_five.py --config.init_from=CHECKPOINT

What CHECKPOINT may be, megc2019.py beside this file says, and recipe.py what the settings are: none is published. Each
fold is 231 steps of 32 clips; no numbers are at hand. For three classes, `--config.data.name=casme2`.
"""

from configs.micro_expressions.recipe import micro_expressions


def get_config():
    return micro_expressions("casme2_five")
