"""PosMLP-Video-S on AVA 2.2, 16 frames, each fourth of 30 a second: 13.5 M parameters, 40.2 GMACs a clip of 224².

    python main.py --config=configs/ava/s16x4.py --config.data.data_dir=AVA --config.init_from=runs/k400_s16x4

AVA is the folder of the films and annotations, and the last a run of configs/video/k400_s16x4.py (docs/actions.md).
From random weights, without `init_from`, little is to be expected: AVA has 235 films to learn from. There is no
result of the paper's to compare with.
"""

from configs.ava.recipe import ava_recipe


def get_config():
    return ava_recipe("action_posmlp_video_s", stride=4, drop_path=0.1)
