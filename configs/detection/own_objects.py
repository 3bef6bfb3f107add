"""A small RetinaNet from random weights on a few hundred annotated images of one's own, for two CPU cores.

    python -m posmlp_jax.data.prepare coco_folder --source=DIR --name=mine
    python main.py --config=configs/detection/own_objects.py --config.data.name=mine

DIR holds images and COCO JSON, as labelme, CVAT, Label Studio and Roboflow write it; docs/detection.md goes through it.
Without a part for evaluation of its own, hold some images out:

    --config.data.train_split='train[:80%]' --config.data.eval_split='train[80%:]'

    --config.model.name=mask_rcnn_posmlp_t       masks, too, where the JSON has them
    --config.data.canvases='((384,384),)'        looks at finer detail, for more than twice the time
    --config.length='120 epochs'                 trains longer

Where a trained PosMLP is at hand, configs/detection/finetune.py starts from it.
"""

from posmlp_jax.training import default_config


def get_config():
    config = default_config("retinanet_posmlp_t", "detection")
    config.model.update(
        widths=(48, 96, 192, 384),
        depths=(1, 1, 2, 1),
        expansions=(4, 4, 4, 2),
        windows=(8, 8, 8, 8),
        groups=(8, 16, 16, 32),
        dropout=0.0,
        drop_path=0.1,
        fpn_width=64,
    )
    config.data.update(name="", crop="fit", canvases=((256, 256),), threads=2)
    config.mask_rcnn.update(anchors=128, candidates=500, proposals=250, regions=128)
    config.batch_size = 8
    config.length = "60 epochs"
    config.optimizer.update(
        schedule="step", peak_rate=5e-4, warmup="2 epochs", milestones=("67 %", "92 %"), constant="0 epochs"
    )
    config.optimizer.update(weight_decay=0.05, eps=1e-8)
    config.ema_decay = 0.0
    config.keep_best = "eval/box_ap"
    config.log_every = "5 epochs"
    config.eval_every = "10 epochs"
    config.checkpoint_every = "10 epochs"
    return config
