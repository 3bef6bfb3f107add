"""PosMLP-Video-S on Something-Something V1, 32 frames of 224²: 13.5 M parameters, 40.6 GMACs a view.

    python main.py --config=configs/video/ssv1_s32.py --config.init_from=runs/posmlp_video_s_image
    python main.py --config=configs/video/ssv1_s32.py --mode=eval    (the published protocol, 1 clip × 3 crops)

Training is that of the published configs/SSV1/SSV1_MLP_S32.yaml (docs/video.md lists what differs). The network is an
extrapolation: the file gives the widths 112/224/392/784, which the published code cannot build with 32 groups: this
is the published S of SSV1 with 16 frames. For 32 frames another network was published; ours halves time in its stem.

60 epochs are 2.5·10¹⁸ operations; without `init_from` it starts from random weights. The paper's best on this data
set is 59.0 % top-1, of a model that its abstract does not name.
"""

from configs.video.recipe import something_something


def get_config():
    return something_something(1, "posmlp_video_s_32", drop_path=0.3, epochs=60, videos=64)
