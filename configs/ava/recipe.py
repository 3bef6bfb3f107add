"""Action detection on AVA 2.2: what the files beside this one share.

Neither the summary of PosMLP-Video that we have nor its code says how its action detector was trained, so that this is
the field's usual protocol, and nothing to compare with the paper's. Each value has its source beside it: "SlowFast",
its configs/AVA; "mmaction2", its config of a ViT-B, vit-base-p16_videomae-k400-pre_8xb8-16x4x1-20e-adamw, the schedule
for a network that, like ours, learns with AdamW; "Kinetics", configs/video/recipe.py; or "ours".
"""

from ml_collections import ConfigDict

from posmlp_jax.training import default_config

# Both learn from films cut to 900…1801 s, at 30 frames a second: videos/NAME.mp4 or frames/NAME/NAME_000001.jpg, …
_DETECTOR = "annotations/person_box_67091280_iou90/ava_detection_val_boxes_and_labels.csv"


def ava_recipe(model: str, *, stride: int, drop_path: float) -> ConfigDict:
    """20 epochs from a backbone trained on Kinetics, which `init_from` is to name.

    Args:
      model: an action detector, one of `list_detectors()`.
      stride: frames of 30 a second from each of a clip to the next.
      drop_path: as on Kinetics.
    """
    config = default_config(model, "action_detection")
    config.model.update(
        drop_path=drop_path,
        remat="_b" in model,  # Changes nothing but memory and time.
        box_side=7,  # SlowFast.
        box_dropout=0.5,  # SlowFast, mmaction2.
    )
    config.data.update(
        name="ava",
        stride=stride,
        fps=30.0,  # SlowFast, mmaction2.
        crop="scaled",
        scale_sides=(256, 320),  # SlowFast, mmaction2.
        flip=True,  # SlowFast, mmaction2.
        # Evaluation: SlowFast 224, mmaction2 256.
        short_side=256,
        long_side=640,  # Ours: a film that is wider than 5:2 is smaller.
        # Ours: a shape is a compilation. Films of 4:3 (256 × 341), 16:9 (256 × 455) and 2.4:1 (256 × 614), and upright.
        canvases=((256, 352), (256, 464), (256, 640), (640, 256)),
        mean=(0.45, 0.45, 0.45),  # Kinetics.
        std=(0.225, 0.225, 0.225),  # Kinetics.
        threads=16,
    )
    # SlowFast, mmaction2: what a detector found in the films of validation; mmaction2 has the same boxes as
    # ava_dense_proposals_val.FAIR.recall_93.9.pkl. '' scores the ground truth's boxes.
    config.data.films.eval_boxes = _DETECTOR
    config.data.films.eval_score = 0.8  # SlowFast.
    config.batch_size = 64  # mmaction2.
    config.length = "20 epochs"  # mmaction2.
    config.optimizer.update(
        schedule="cosine",  # mmaction2.
        peak_rate=1.25e-4,  # mmaction2.
        warmup="5 epochs",  # mmaction2.
        warmup_rate=1.25e-5,  # mmaction2: a tenth of the rate.
        final_rate=0.0,  # mmaction2.
        constant="0 epochs",
        b1=0.9,  # AdamW's own in PyTorch, which mmaction2 leaves as they are; the next two, too.
        b2=0.999,
        eps=1e-8,
        weight_decay=0.05,  # mmaction2.
        layer_decay=0.75,  # mmaction2.
        clip_norm=40.0,  # mmaction2.
    )
    config.ema_decay = 0.0  # mmaction2.
    config.keep_best = "eval/map"  # mmaction2 and SlowFast print the best of their evaluations.
    config.eval_every = "1 epochs"  # mmaction2.
    config.checkpoint_every = "1 epochs"  # mmaction2.
    return config
