"""PosMLP-Video-S on Something-Something V2, 32 frames of 224²: 13.5 M parameters, 40.6 GMACs a view.

    python main.py --config=configs/video/ssv2_s32.py --config.init_from=runs/posmlp_video_s_image
    python main.py --config=configs/video/ssv2_s32.py --mode=eval    (the published protocol, 1 clip × 3 crops)

60 epochs are 4.9·10¹⁸ operations; without `init_from` it starts from random weights. The paper's best on this data
set is 70.3 % top-1, of a model that its abstract does not name.
"""

from configs.video.recipe import something_something


def get_config():
    return something_something(2, "posmlp_video_s_32")
