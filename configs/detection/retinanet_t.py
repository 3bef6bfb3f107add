"""RetinaNet on PosMLP-T, COCO 2017: 31.1 M parameters; the paper prints AP 41.9 (Table 8).

    python main.py --config=configs/detection/retinanet_t.py --config.init_from=runs/posmlp_t

`init_from` is a PosMLP-T trained on ImageNet, as by configs/posmlp_t.py. Not trained by us: docs/detection.md says what
a step costs.
"""

from configs.detection.recipe import coco_recipe


def get_config():
    return coco_recipe("retinanet_posmlp_t")
