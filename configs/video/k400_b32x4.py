"""PosMLP-Video-B on Kinetics-400, 32 frames of 224² from 128 of 30 a second: 45.0 M parameters, 134.8 GMACs a view.

    python main.py --config=configs/video/k400_b32x4.py --config.init_from=runs/posmlp_video_b_image
    python main.py --config=configs/video/k400_b32x4.py --mode=eval    (the published protocol, 4 clips × 1 crop)

Training is that of the published configs/K400/K400_MLP_B32x4.yaml (docs/video.md lists what differs). The network is
an extrapolation: the file gives the widths 112/224/392/784, which the published code cannot build with 32 groups:
ours are 112/224/448/896. For 32 frames another network was published; ours halves time in its stem.

60 epochs are 2.3·10¹⁹ operations; without `init_from` it starts from random weights. The paper's best on this data
set is 82.1 % top-1, of a model that its abstract does not name.
"""

from configs.video.recipe import kinetics


def get_config():
    return kinetics("posmlp_video_b_32", drop_path=0.3, warmup=30, epochs=60, videos=64)
