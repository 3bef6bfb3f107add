"""What was published of the recipes, read off the authors' repositories and papers: fields of a config, by source.

Images: Zhicaiwww/PosMLP on GitHub, whose files are those of a commit, and the paper's section 5.2. Where two sources
say two things, the one that the logs were made with is here (docs/recipes.md).
"""

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

# Top-1, or top-1 / top-5, by the names of tests/models/test_tables.py.
PRINTED = {
    "table 1: gMLP SGU": "72.14",
    "table 1: gMLP LRPE-M": "73.96",
    "table 1: gMLP LRPE": "72.44",
    "table 1: gMLP GLRPE": "74.56",
    "table 1: gMLP GGQPE": "74.02",
    "table 1: PosMLP SGU": "76.33",
    "table 1: PosMLP LRPE-M": "76.95",
    "table 1: PosMLP LRPE": "76.93",
    "table 1: PosMLP GLRPE": "77.41",
    "table 1: PosMLP GGQPE": "77.40",
    "table 2: T": "82.1",
    "table 2: T 384": "83.0",
    "table 2: S": "83.0",
    "table 2: B": "83.6",
    "table 2: gMLP-S": "79.6",
    "table 2: gMLP-B": "81.6",
    "table 3: gMLP (original)": "72.18 / 90.52",
    "table 3: gMLP+GGQPE": "74.02 / 92.00",
    "table 3: gMLP+ConvLHS": "76.33 / 93.07",
    "table 3: gMLP+ConvLHS+GGQPE": "77.40 / 93.58",
    "table 4: (1, 1, 1, 1)": "76.70 / 93.02",
    "table 4: (4, 4, 4, 4)": "76.87 / 93.40",
    "table 4: (4, 8, 16, 32)": "77.10 / 93.24",
    "table 4: (32, 32, 32, 32)": "77.02 / 93.14",
    "table 4: (8, 16, 32, 64)*": "77.40 / 93.58",
    "table 5: 28×28": "77.81 / 93.91",
    "table 5: 14×14*": "77.40 / 93.58",
    "table 5: 7×7": "76.98 / 93.45",
    "table 6: αI ✓": "76.49",
    "table 6: Γ ✓": "77.61",
    "table 6: ΓΓᵀ ✓*": "77.40",
    "table 6: ΓΓᵀ ×": "77.20",
    "table 7: neither": "76.8",
    "table 7: APE": "77.3",
    "table 7: bias*": "77.4",
    "table 7: both": "77.3",
    "table 10: original": "72.18",
    "table 10: linear, linear": "74.68",
    "table 10: conv, linear": "75.43",
    "table 10: linear, conv": "75.81",
    "table 10: conv, conv*": "76.33",
    "figure 3 a*": "77.40",
    "figure 3 b": "—",
    "figure 3 c": "—",
    "figure 3 d": "76.95",
    "figure 3 e": "75.49",
}


def values(sources: dict[str, dict]) -> dict[str, object]:
    """The published fields of a config."""
    return {field: value for fields in sources.values() for field, value in fields.items()}
