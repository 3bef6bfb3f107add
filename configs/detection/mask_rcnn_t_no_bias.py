"""Table 9, neither token bias nor absolute positions: Mask R-CNN on such a PosMLP-T; box AP 41.6, mask AP 38.3.

    python main.py --config=configs/posmlp_t.py --config.model.token_bias=False --workdir=runs/posmlp_t_no_bias
    python main.py --config=configs/detection/mask_rcnn_t_no_bias.py --config.init_from=runs/posmlp_t_no_bias

The numbers are the paper's: not trained by us.
"""

from configs.detection.recipe import coco_recipe


def get_config():
    return coco_recipe("mask_rcnn_posmlp_t", token_bias=False)
