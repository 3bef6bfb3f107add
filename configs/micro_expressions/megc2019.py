"""PosMLP-Video-S on MEGC2019's composite of CASME II, SAMM and SMIC-HS: 442 clips of 68 people, in three classes.

    python -m posmlp_jax.data.prepare megc2019 --source=DIR
    python main.py --mode=leave_one_out --config=configs/micro_expressions/megc2019.py --config.init_from=CHECKPOINT

CHECKPOINT is a run of a video config on Kinetics or Something-Something, or of an image config such as
configs/posmlp_video_s_image.py, whose network has no temporal parts yet. docs/micro_expressions.md goes through it, and
recipe.py says what the settings are: none is published. Each fold is 414 steps of 32 clips; no numbers are at hand.

    --config.data.clip_end=offset        clips from onset to offset, in place of the apex
    --config.keep_folds=True             keeps the checkpoint of each fold
"""

from configs.micro_expressions.recipe import micro_expressions


def get_config():
    return micro_expressions("megc2019")
