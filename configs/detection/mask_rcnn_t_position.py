"""Table 9, token bias and absolute positions: Mask R-CNN on such a PosMLP-T; box AP 41.7, mask AP 38.4.

    python main.py --config=configs/posmlp_t.py --config.model.absolute_position=True --workdir=runs/posmlp_t_position
    python main.py --config=configs/detection/mask_rcnn_t_position.py --config.init_from=runs/posmlp_t_position

Positions are learned for images of 224², and interpolated to each canvas. The numbers are the paper's: not trained by
us.
"""

from configs.detection.recipe import coco_recipe


def get_config():
    return coco_recipe("mask_rcnn_posmlp_t", absolute_position=True)
