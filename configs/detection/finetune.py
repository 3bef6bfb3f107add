"""Fine-tunes a trained PosMLP-T, a classifier or a detector, on annotated images of one's own.

    python -m posmlp_jax.data.prepare coco_folder --source=DIR --name=mine
    python main.py --config=configs/detection/finetune.py --config.data.name=mine --config.init_from=runs/posmlp_t

`init_from` is the working directory of a run, or what `python -m posmlp_jax.convert` wrote. Of a classifier the
backbone is taken, of a detector all but the layers that tell classes apart. The pixels' mean and std are the
checkpoint's. This is for a GPU: two CPU cores take minutes for a step.

    --config.model.name=''                                is the model of `init_from`, where that is a detector
    --config.model.name=mask_rcnn_posmlp_t                masks, too, where the JSON has them
    --config.freeze='stem|mergings.0|stages.[01]'         keeps the first two stages
    --config.data.canvases='((800,1088),(1088,800))'      looks at finer detail
"""

from posmlp_jax.training import default_config


def get_config():
    config = default_config("retinanet_posmlp_t", "detection")
    config.model.update(dropout=0.0, drop_path=0.1)
    config.data.update(name="", crop="fit", canvases=((512, 672), (672, 512)), mean=(), std=(), threads=8)
    config.batch_size = 8
    config.length = "24 epochs"
    config.optimizer.update(
        schedule="step", peak_rate=1e-4, warmup="1 epochs", milestones=("67 %", "92 %"), constant="0 epochs"
    )
    config.optimizer.update(weight_decay=0.05, eps=1e-8, layer_decay=0.9)
    config.ema_decay = 0.0
    config.keep_best = "eval/box_ap"
    config.log_every = "1 epochs"
    config.eval_every = "4 epochs"
    config.checkpoint_every = "4 epochs"
    return config
