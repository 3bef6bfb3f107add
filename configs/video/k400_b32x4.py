"""PosMLP-Video-B on Kinetics-400, 32 frames at a stride of 4 of 224²: 45.0 M parameters, 134.8 GMACs a view.

    python main.py --config=configs/video/k400_b32x4.py --config.init_from=runs/posmlp_video_b_image
    python main.py --config=configs/video/k400_b32x4.py --mode=eval    (the published protocol, 4 clips × 1 crop)

60 epochs are 2.3·10¹⁹ operations; without `init_from` it starts from random weights. The paper's best on this data
set is 82.1 % top-1, of a model that its abstract does not name.
"""

from configs.video.recipe import kinetics


def get_config():
    return kinetics("posmlp_video_b_32")
