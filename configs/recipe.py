"""PosMLP's recipe on ImageNet-1k, and the one of its half-data runs: what the configs of image models share.

    python -m posmlp_jax.data.prepare imagenet2012 --source=FOLDER_OF_THE_TWO_TARS

Each value is what the authors' logs were made with, and has its source beside it: the paper (section 5.2), a log
(logs/ of their repository Zhicaiwww/PosMLP) or a file (config/ there; without a commit, PosMLP_T.yaml and PosMLP_S.yaml
of d363f57, the day before the logs, which agree unless it says so). docs/recipes.md has the command of every row of the
paper's tables, and what stays different.
"""

from ml_collections import ConfigDict

from posmlp_jax.training import default_config

GPUS = 8  # The paper says "4/8"; the logs' moving averages rise as 8 · 120 (T) and 8 · 60 images a step would let them.


def imagenet_recipe(model: str, images_a_gpu: int = 120) -> ConfigDict:
    """300 epochs with mixup, CutMix, RandAugment and a moving average, whose best epoch is what the paper prints.

    Args:
      model: a name of the registry.
      images_a_gpu: of a step; 120 in the paper and in T's file.
    """
    config = default_config(model)
    config.batch_size = GPUS * images_a_gpu
    config.length = "300 epochs"  # Paper, file.
    config.model.update(dropout=0.02333, drop_path=0.1)  # File.
    config.data.update(
        crop_scale=(0.08, 1.0),  # File.
        crop_ratio=(0.67, 1.5),  # File.
        interpolation="random",  # File: train_interpolation.
        randaugment="rand-m6-n3-mstd1.0-inc1",  # File.
        color_jitter=0.4,  # File; timm leaves it out where there is RandAugment, and so do we.
        erasing_probability=0.0,  # File. The paper's text has random erasing.
        eval_crop=0.9,  # File: crop_pct.
        threads=16,
    )
    config.mixing.update(
        mixup=0.5,  # File.
        cutmix=1.0,  # File.
        probability=1.0,  # File.
        switch_probability=0.5,  # File.
        group=images_a_gpu,  # timm draws one λ for the images of each GPU.
    )
    config.label_smoothing = 0.1  # File.
    config.optimizer.update(
        schedule="timm",  # File: sched cosine, lr_cycle_limit 1.
        peak_rate=1e-3,  # Paper, file.
        warmup="10 epochs",  # File.
        warmup_rate=1e-5,  # File.
        final_rate=1e-6,  # File. The paper: 1e-5.
        constant="10 epochs",  # T's file and S's log; T's log ends at 300 epochs, and S's file has none.
        b1=0.9,  # Paper; AdamW's own in the file.
        b2=0.999,  # AdamW's own in the file.
        eps=1e-5,  # File.
        weight_decay=0.067,  # Paper, file.
        clip_norm=1.0,  # File.
    )
    config.update(ema_decay=0.99992, ema_warmup=False)  # File; timm's average has no warm-up.
    config.keep_best = "ema/top1"  # The paper prints the best epochs: docs/recipes.md.
    config.eval_every = "1 epochs"  # Log.
    config.checkpoint_every = "5 epochs"
    return config


def half_data_recipe(model: str) -> ConfigDict:
    """120 epochs of half of each class: the paper's Table 1, Figure 1 (f) and ablations.

    Where it differs from `imagenet_recipe`, it is config/gmlp/nest_gmlp_s_24_0.5data_posonly.yaml of commit 67754cd.
    Which rows used this and which an earlier file is not said; those have rates of 7e-4 to 1.5e-3 and other batches.
    """
    config = imagenet_recipe(model)
    config.data.train_fraction = 0.5  # sample_ratio.
    config.length = "120 epochs"
    config.optimizer.update(peak_rate=1.6e-3, final_rate=1e-5, eps=1e-6)
    return config
