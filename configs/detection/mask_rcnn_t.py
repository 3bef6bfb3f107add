"""Mask R-CNN on PosMLP-T, COCO 2017: 40.4 M parameters; the paper prints 40.5 M, box AP 41.6, mask AP 38.4 (Table 8).

    python main.py --config=configs/detection/mask_rcnn_t.py --config.init_from=runs/posmlp_t

`init_from` is a PosMLP-T trained on ImageNet, as by configs/posmlp_t.py. Not trained by us: docs/detection.md says what
a step costs. In Table 9 it is the row with token bias and without absolute positions: box AP 41.6, mask AP 38.5.
"""

from configs.detection.recipe import coco_recipe


def get_config():
    return coco_recipe("mask_rcnn_posmlp_t")
