"""What was published of the recipes, read off the authors' repositories and papers: fields of a config, by source.

Images: Zhicaiwww/PosMLP on GitHub, whose files are those of a commit, and the paper's section 5.2. Where two sources
say two things, the one that the logs were made with is here (docs/recipes.md).

Videos: zhouds1918/PosMLP_Video on GitHub, b3b01a2 to 6de3b88.
"""

import functools
import importlib
from types import ModuleType

from ml_collections import ConfigDict

# PosMLP_T.yaml and PosMLP_S.yaml agree. Timm's AdamW has PyTorch's betas, and its moving average no warm-up.
_BOTH_FILES = {
    "length": "300 epochs",
    "label_smoothing": 0.1,
    "ema_decay": 0.99992,
    "ema_length": "",
    "ema_warmup": False,
    "model.dropout": 0.02333,
    "model.drop_path": 0.1,
    "data.name": "imagenet2012",
    "data.train_fraction": 1.0,
    "data.augment": "standard",
    "data.crop": "random_resized",
    "data.crop_scale": (0.08, 1.0),
    "data.crop_ratio": (0.67, 1.5),
    "data.interpolation": "random",
    "data.flip": True,
    "data.randaugment": "rand-m6-n3-mstd1.0-inc1",
    "data.randaugment_on": "crop",
    "data.randaugment_interpolation": "random",
    "data.color_jitter": 0.4,
    "data.erasing_probability": 0.0,
    "data.repeats": 1,
    "data.eval_crop": 0.9,
    "data.mean": (0.485, 0.456, 0.406),
    "data.std": (0.229, 0.224, 0.225),
    "mixing.mixup": 0.5,
    "mixing.cutmix": 1.0,
    "mixing.probability": 1.0,
    "mixing.switch_probability": 0.5,
    "optimizer.schedule": "timm",
    "optimizer.peak_rate": 1e-3,
    "optimizer.warmup": "10 epochs",
    "optimizer.warmup_rate": 1e-5,
    "optimizer.final_rate": 1e-6,
    "optimizer.b1": 0.9,
    "optimizer.b2": 0.999,
    "optimizer.eps": 1e-5,
    "optimizer.weight_decay": 0.067,
    "optimizer.layer_decay": 1.0,
    "optimizer.clip_norm": 1.0,
}
_FILES = "config/PosMLP_T.yaml and PosMLP_S.yaml, d363f57"
_T = {
    _FILES: _BOTH_FILES,
    # Eight GPUs: the README there, and how fast the log's moving average rises.
    "config/PosMLP_T.yaml, d363f57": {
        "batch_size": 8 * 120,
        "mixing.group": 120,
        "optimizer.constant": "10 epochs",
    },
    "logs/PosMLP-T.csv has both, and 82.1 is none of its last epoch's": {
        "keep_best": "ema/top1",
        "eval_every": "1 epochs",
    },
}
_S = {
    _FILES: _BOTH_FILES,
    "config/PosMLP_S.yaml, d363f57": {"batch_size": 8 * 60, "mixing.group": 60},
    "logs/PosMLP-S.csv": {"optimizer.constant": "10 epochs", "keep_best": "ema/top1", "eval_every": "1 epochs"},
}
_HALF = {
    **_T,
    "config/gmlp/nest_gmlp_s_24_0.5data_posonly.yaml, 67754cd": {
        "data.train_fraction": 0.5,
        "length": "120 epochs",
        "optimizer.peak_rate": 1.6e-3,
        "optimizer.final_rate": 1e-5,
        "optimizer.eps": 1e-6,
    },
}
_PAPERS_TEXT = {
    "the paper, section 5.2": {
        "length": "300 epochs",
        "batch_size": 8 * 120,
        "mixing.group": 120,
        "optimizer.peak_rate": 1e-3,
        "optimizer.b1": 0.9,
        "optimizer.weight_decay": 0.067,
    }
}
# By config; a later source's value replaces an earlier one's.
IMAGES = {
    "posmlp_t": _T,
    "posmlp_t_released": {
        **_T,
        "config/PosMLP_T.yaml, 337624f": {"batch_size": 8 * 128, "mixing.group": 128, "optimizer.peak_rate": 2e-3},
    },
    "posmlp_s": _S,
    "posmlp_t_half": _HALF,
    "gmlp_s_half": _HALF,
    "posmlp_b": _PAPERS_TEXT,
    "posmlp_t_384": _PAPERS_TEXT,
    # Nothing: what PosMLP-Video starts from, and the gMLPs of all data, whose accuracies are their own paper's.
    "posmlp_video_s_image": {},
    "posmlp_video_b_image": {},
    "gmlp_s": {},
    "gmlp_b": {},
}

# All twelve files of configs/SSV1, SSV2 and K400 agree. AdamW has PyTorch's betas, and there is no moving average.
_VIDEO_FILES = {
    "model.dropout": None,  # The network's own, 0: it does not read MODEL.DROPOUT_RATE.
    "label_smoothing": 0.1,
    "ema_decay": 0.0,
    "ema_length": "",
    "eval_every": "5 epochs",
    "data.augment": "standard",
    "data.crop": "random_resized",
    "data.crop_scale": (0.08, 1.0),
    "data.crop_ratio": (0.75, 1.3333),
    "data.repeats": 2,
    "data.randaugment": "rand-m7-n4-mstd0.5-inc1",
    "data.randaugment_interpolation": "bicubic",
    "data.erasing_probability": 0.25,
    "data.erasing_mode": "pixel",
    "data.erasing_count": 1,
    "mixing.mixup": 0.8,
    "mixing.cutmix": 1.0,
    "mixing.probability": 1.0,
    "mixing.switch_probability": 0.5,
    "optimizer.schedule": "cosine",
    "optimizer.warmup_rate": 1e-6,
    "optimizer.final_rate": 1e-6,
    "optimizer.constant": "0 epochs",
    "optimizer.b1": 0.9,
    "optimizer.b2": 0.999,
    "optimizer.weight_decay": 0.05,
    "optimizer.layer_decay": 1.0,
}
_VIDEO_CODE = {
    "slowfast/config/defaults.py": {
        "data.mean": (0.45, 0.45, 0.45),
        "data.std": (0.225, 0.225, 0.225),
        "optimizer.clip_norm": 20.0,
    },
    "slowfast/models/optimizer.py": {"optimizer.eps": 1e-8},
    "slowfast/datasets/transform.py": {"data.interpolation": "bilinear"},
    "slowfast/datasets/rand_augment.py": {"data.randaugment_fill": (128, 128, 128)},
    "slowfast/datasets/kinetics.py and sth.py": {"data.randaugment_on": "frame"},
    "slowfast/utils/meters.py, and slowfast/models/posmlp.py, which ends with the logits": {
        "data.test_average": "logits"
    },
}
_SOMETHING_SOMETHING = {
    "the files of configs/SSV1 and SSV2": {
        **_VIDEO_FILES,
        "data.flip": False,
        "optimizer.warmup": "5 epochs",
        "optimizer.peak_rate": 4e-4,
    },
    **_VIDEO_CODE,
    "slowfast/datasets/sth.py": {"data.sampling": "rounded_segment", "data.eval_crop": 1.0, "data.frame_side": 0},
    "README.md": {"data.test_clips": 1, "data.test_crops": 3},
}
_KINETICS = {
    "the files of configs/K400": {
        **_VIDEO_FILES,
        "data.name": "kinetics400",
        "data.stride": 4,
        "optimizer.peak_rate": 2e-4,
    },
    **_VIDEO_CODE,
    "slowfast/config/defaults.py": {
        **_VIDEO_CODE["slowfast/config/defaults.py"],
        "data.flip": True,
        "data.fps": 30.0,
    },
    "slowfast/datasets/decoder.py": {"data.sampling": "dense"},
    # One crop is 224 from frames whose shorter side is TRAIN_JITTER_SCALES[0], at which they are decoded.
    "slowfast/datasets/kinetics.py": {"data.eval_crop": 224 / 256, "data.frame_side": 256},
    "README.md": {"data.test_clips": 4, "data.test_crops": 1},
}


def _video(file: str, drop_path: float, epochs: int, warmup: int, videos: int, gpus: int) -> dict[str, dict]:
    """The values of one file; two samples a video, and mixing for each GPU by itself."""
    version, size = file.split("/")[1].split("_MLP_")
    frames = int(size[1:3])
    return (_KINETICS if version == "K400" else _SOMETHING_SOMETHING) | {
        f"configs/{file}": {
            "data.name": "kinetics400" if version == "K400" else f"something_something_{version[-2:].lower()}",
            "model.name": f"posmlp_video_{size[0].lower()}" + ("_32" if frames == 32 else ""),
            "model.drop_path": drop_path,
            "length": f"{epochs} epochs",
            "optimizer.warmup": f"{warmup} epochs",
            "batch_size": 2 * videos,
            "mixing.group": 2 * videos // gpus,
        }
    }


VIDEO = {
    "ssv1_s16": _video("SSV1/SSV1_MLP_S16.yaml", 0.1, 60, 5, 32, 4),
    "ssv1_s32": _video("SSV1/SSV1_MLP_S32.yaml", 0.3, 60, 5, 64, 8),
    # The file itself has one video on one GPU.
    "ssv1_b16": _video("SSV1/SSV1_MLP_B16.yaml", 0.5, 60, 5, 64, 8),
    "ssv1_b32": _video("SSV1/SSV1_MLP_B32.yaml", 0.5, 60, 5, 64, 8),
    "ssv2_s16": _video("SSV2/SSV2_MLP_S16.yaml", 0.3, 60, 5, 64, 8),
    "ssv2_s32": _video("SSV2/SSV2_MLP_S32.yaml", 0.3, 60, 5, 64, 8),
    "ssv2_b16": _video("SSV2/SSV2_MLP_B16.yaml", 0.6, 60, 5, 64, 8),
    "ssv2_b32": _video("SSV2/SSV2_MLP_B32.yaml", 0.6, 64, 5, 64, 8),
    "k400_s16x4": _video("K400/K400_MLP_S16x4.yaml", 0.1, 60, 10, 64, 8),
    "k400_s32x4": _video("K400/K400_MLP_S32x4.yaml", 0.1, 60, 10, 64, 8),
    "k400_b16x4": _video("K400/K400_MLP_B16x4.yaml", 0.3, 60, 10, 64, 8),
    "k400_b32x4": _video("K400/K400_MLP_B32x4.yaml", 0.3, 60, 30, 64, 8),
}
# What SSV1_MLP_S16.yaml says of its network, the one of the twelve that the published code can build.
VIDEO_NETWORK = {
    "num_frames": 16,
    "image_size": (224, 224),
    "widths": (72, 144, 288, 576),
    "depths": (3, 4, 9, 3),
    "windows": ((14, 14), (14, 14), (14, 14), (7, 7)),
    "groups": (8, 16, 32, 64),
    "stem": "conv2d",
    "block": "parallel",
    "version": "v1",
}


def values(sources: dict[str, dict]) -> dict[str, object]:
    """The published fields of a config."""
    return {field: value for fields in sources.values() for field, value in fields.items()}


def recipe_module(name: str) -> ModuleType:
    """A file of configs/, as 'posmlp_t' or 'video.ssv1_s16'."""
    return importlib.import_module(f"configs.{name}")


def field_value(config: ConfigDict, field: str):
    """A field by its dotted name."""
    return functools.reduce(lambda section, name: section[name], field.split("."), config)


def differing_fields(config: ConfigDict, other: ConfigDict, prefix: str = "") -> set[str]:
    """The dotted names of the fields that two configs of the same schema have other values in."""
    differing = set()
    for name, entry in config.items():
        if isinstance(entry, ConfigDict):
            differing |= differing_fields(entry, other[name], f"{prefix}{name}.")
        elif entry != other[name]:
            differing.add(f"{prefix}{name}")
    return differing
