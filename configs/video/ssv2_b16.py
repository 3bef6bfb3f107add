"""PosMLP-Video-B on Something-Something V2, 16 frames of 224²: 45.0 M parameters, 134.1 GMACs a view.

    python main.py --config=configs/video/ssv2_b16.py --config.init_from=runs/posmlp_video_b_image
    python main.py --config=configs/video/ssv2_b16.py --mode=eval    (the published protocol, 1 clip × 3 crops)

60 epochs are 1.6·10¹⁹ operations; without `init_from` it starts from random weights. The paper's best on this data
set is 70.3 % top-1, of a model that its abstract does not name.
"""

from configs.video.recipe import something_something


def get_config():
    return something_something(2, "posmlp_video_b")
