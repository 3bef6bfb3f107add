"""PosMLP-Video-S on Something-Something V1, 16 frames of 224²: 13.5 M parameters, 40.2 GMACs a view.

    python main.py --config=configs/video/ssv1_s16.py --config.init_from=runs/posmlp_video_s_image
    python main.py --config=configs/video/ssv1_s16.py --mode=eval    (the published protocol, 1 clip × 3 crops)

Network and training are those of the published configs/SSV1/SSV1_MLP_S16.yaml (docs/video.md lists what differs).

60 epochs are 2.5·10¹⁸ operations; without `init_from` it starts from random weights. The paper's best on this data
set is 59.0 % top-1, of a model that its abstract does not name.
"""

from configs.video.recipe import something_something


def get_config():
    return something_something(1, "posmlp_video_s", drop_path=0.1, epochs=60, videos=32)
