"""Table 9, absolute positions and no token bias: Mask R-CNN on such a PosMLP-T; box AP 41.6, mask AP 38.4.

    python main.py --config=configs/posmlp_t.py --workdir=runs/posmlp_t_position_no_bias \
        --config.model.token_bias=False --config.model.absolute_position=True
    python main.py --config=configs/detection/mask_rcnn_t_position_no_bias.py \
        --config.init_from=runs/posmlp_t_position_no_bias

Positions are learned for images of 224², and interpolated to each canvas. The numbers are the paper's: not trained by
us.
"""

from configs.detection.recipe import coco_recipe


def get_config():
    return coco_recipe("mask_rcnn_posmlp_t", token_bias=False, absolute_position=True)
