"""Mask R-CNN on PosMLP-S, COCO 2017: 56.2 M parameters; the paper prints 56.1 M, box AP 43.2, mask AP 39.4 (Table 8).

    python main.py --config=configs/detection/mask_rcnn_s.py --config.init_from=runs/posmlp_s

`init_from` is a PosMLP-S trained on ImageNet, as by configs/posmlp_s.py. Not trained by us.
"""

from configs.detection.recipe import coco_recipe


def get_config():
    return coco_recipe("mask_rcnn_posmlp_s")
