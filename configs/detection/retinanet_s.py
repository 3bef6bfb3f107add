"""RetinaNet on PosMLP-S, COCO 2017: 47.4 M parameters; the paper prints 47.3 M and AP 42.4 (Table 8).

    python main.py --config=configs/detection/retinanet_s.py --config.init_from=runs/posmlp_s

`init_from` is a PosMLP-S trained on ImageNet, as by configs/posmlp_s.py. Not trained by us.
"""

from configs.detection.recipe import coco_recipe


def get_config():
    return coco_recipe("retinanet_posmlp_s")
