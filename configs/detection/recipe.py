"""The detectors of the paper's Tables 8 and 9 on COCO 2017: what the files beside this one share.

    python -m posmlp_jax.data.prepare coco2017 --source=FOLDER_OF_THE_ZIPS

The paper (section 5.5) says in a paragraph what it did with mmdetection, and its code has no detector. Each value has
its source beside it: "paper"; "mmdetection", its configs retinanet_r50_fpn_1x_coco and mask-rcnn_r50_fpn_1x_coco, the
"basic protocol" that the paper follows; "Swin", mmdetection's mask-rcnn_swin-t-p4-w7_fpn_1x_coco, for what has no place
in a ResNet; or "ours", where neither says anything. The detectors' own fields (anchors, thresholds, heads) and their
losses are mmdetection's by default.
"""

from ml_collections import ConfigDict

from posmlp_jax.training import default_config

GPUS = 8  # mmdetection. The paper: "batch-size 2 per GPU", and elsewhere "4/8" of them.


def coco_recipe(detector: str, *, token_bias: bool = True, absolute_position: bool = False) -> ConfigDict:
    """The 1× schedule: 12 epochs from a backbone trained on ImageNet, which `init_from` is to name.

    Args:
      detector: one of `list_detectors()`.
      token_bias: of the backbone, which is to be trained with the same (Table 9).
      absolute_position: likewise.
    """
    config = default_config(detector, "detection")
    config.model.update(
        shift_windows=True,  # Paper.
        token_bias=token_bias,
        absolute_position=absolute_position,
        drop_path=0.2,  # Swin.
        dropout=0.0,  # Swin.
    )
    config.data.update(
        name="coco2017",  # Paper.
        crop="fit",
        short_side=800,  # Paper.
        long_side=1333,  # Paper.
        # Ours: mmdetection pads each batch to its largest image, which would be a new shape, and a compilation, in
        # nearly every step. It groups images by being wide or high, too.
        canvases=((800, 1088), (800, 1344), (1088, 800), (1344, 800)),
        flip=True,  # mmdetection.
        mean=(0.485, 0.456, 0.406),  # mmdetection.
        std=(0.229, 0.224, 0.225),  # mmdetection.
        threads=16,
    )
    config.max_objects = 100  # All of COCO: its most crowded training image has 93.
    config.batch_size = 2 * GPUS  # Paper.
    config.length = "12 epochs"  # Paper.
    config.optimizer.update(
        schedule="step",  # mmdetection.
        peak_rate=1e-4,  # Paper.
        milestones=("8 epochs", "11 epochs"),  # mmdetection.
        decay=0.1,  # mmdetection.
        warmup="500 steps",  # mmdetection. Swin: 1000.
        warmup_rate=1e-7,  # mmdetection: 0.001 of the rate.
        constant="0 epochs",  # mmdetection.
        b1=0.9,  # Swin.
        b2=0.999,  # Swin.
        eps=1e-8,  # AdamW's own in PyTorch, which Swin leaves as it is.
        weight_decay=0.067,  # Paper.
        clip_norm=0.0,  # mmdetection.
    )
    config.ema_decay = 0.0  # mmdetection.
    config.keep_best = "eval/box_ap"  # Ours. The paper does not say which epoch it prints.
    config.eval_every = "1 epochs"  # mmdetection.
    config.checkpoint_every = "1 epochs"  # mmdetection.
    return config
