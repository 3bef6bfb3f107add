"""The schema of a run: every field a config can have, with its default and its meaning.

A file in `configs/` calls `default_config()` and changes what its experiment needs; `--config.x.y=…` changes the rest.
Lengths of time are texts with a unit, `'300 epochs'`, `'1000 steps'` or `'1.28e6 examples'` (`schedules.to_steps`).
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping

import jax
from ml_collections import ConfigDict, config_dict

from posmlp_jax.checkpoints.evaluations import criteria
from posmlp_jax.checkpoints.run import task_of
from posmlp_jax.data import check_config
from posmlp_jax.errors import ConfigError, nearest
from posmlp_jax.models import registry
from posmlp_jax.models.backbone import BackboneConfig
from posmlp_jax.models.registry import NamedModel
from posmlp_jax.tasks import TASKS, find_task
from posmlp_jax.training.records.profile import profiled_steps
from posmlp_jax.training.step.moving_average import has_average
from posmlp_jax.training.step.schedules import SCHEDULES


def default_config(model: str = "posmlp_t", task: str = "classification") -> ConfigDict:
    """A complete, locked config: `model` on ImageNet-1k with crops and flips.

    Args:
      model: one of `list_models()`.
      task: what it is trained for, one of `tasks.TASKS`, whose own fields (`Task.fields`) are among the config's.

    Raises:
      ConfigError: for an unknown task.
    """
    return ConfigDict(
        {
            "seed": 0,
            "task": task,
            "model": _model_section(model),
            "data": {
                # A tfds data set (imagenet2012, cifar10, moving_digits, …), 'image_folder' or 'synthetic'.
                "name": "imagenet2012",
                # Where it lies: '' is tfds' own folder (TFDS_DATA_DIR, else ~/tensorflow_datasets).
                "data_dir": "",
                # Action detection: the files beside videos/ or frames/, in AVA's formats, and '' for none.
                "films": {
                    "train_labels": "annotations/ava_train_v2.2.csv",
                    "eval_labels": "annotations/ava_val_v2.2.csv",
                    "label_map": "annotations/ava_action_list_v2.2_for_activitynet_2019.pbtxt",
                    "train_excluded": "annotations/ava_train_excluded_timestamps_v2.2.csv",
                    "eval_excluded": "annotations/ava_val_excluded_timestamps_v2.2.csv",
                    # What a detector has found: boxes to train on besides those of the labels, boxes to evaluate in
                    # place of those, and the least score that each has to have.
                    "train_boxes": "",
                    "eval_boxes": "",
                    "train_score": 0.9,
                    "eval_score": 0.8,
                    # The second, as the files above count them, at which films and folders of frames begin.
                    "begin": 900.0,
                },
                # tfds splits and sub-splits, e.g. 'train[:90%]'. image_folder takes train/ and val/ or test/.
                "train_split": "train",
                "eval_split": "validation",
                # image_folder: the share of each class that is held out for evaluation where there is no val/ or test/.
                "holdout": 0.0,
                # The share of each class's training images to use, the same ones whatever the seed.
                "train_fraction": 1.0,
                # 'classes': every class is drawn equally often, so that the examples of small ones come more often than
                # those of large ones; an epoch is still as many samples as there are examples. 'none': every example.
                "balance": "none",
                # The share of the training images that may be broken, and is replaced, before the run stops.
                "max_broken": 0.01,
                # 'standard': crop, flip and what is set below; 'none': what evaluation sees, whatever is set below.
                "augment": "standard",
                # 'random_resized' (Inception crops), 'pad' (random shifts, for small images), 'resize' (no crop),
                # 'fit': all of the image in its own shape, in the upper left of a canvas, in evaluation too; or
                # 'scaled': a random part, after the shorter side was drawn from scale_sides, (least, most), and in
                # evaluation as 'fit', as SlowFast has it on AVA.
                "crop": "random_resized",
                "scale_sides": (256, 320),
                "crop_scale": (0.08, 1.0),
                "crop_ratio": (3 / 4, 4 / 3),
                "crop_padding": 4,
                # 'fit', and in evaluation 'scaled': the canvases' sizes, as ((800, 1088), (1088, 800)), of which each
                # step has one and each image the smallest that holds it; (): the model's own. A step is compiled for
                # each.
                "canvases": (),
                # Likewise: no image is larger, as mmdetection's Resize has it with 800 and 1333; 0 and 0: each is as
                # large as its canvas allows, the one that it fills most of.
                "short_side": 0,
                "long_side": 0,
                # How random_resized crops are resized: 'bicubic', nearly Pillow's in a sixth of the time; 'random',
                # Pillow's bilinear or bicubic, as timm has it: one of the two for each image; or 'bilinear', PyTorch's,
                # which is not antialiased, as SlowFast has it.
                "interpolation": "bicubic",
                # Mirrors left and right, half of the time. Off where classes have a side, or with the pairs of classes,
                # by name, that it exchanges: (('left', 'right'), …).
                "flip": True,
                "flip_label_pairs": (),
                # timm's notation, such as 'rand-m6-n3-mstd1.0-inc1' (data/augment/randaugment.py); '': off.
                "randaugment": "",
                # What it works on, the 'crop' or, before cropping and flipping, the whole 'frame'; how it moves pixels,
                # 'bilinear', 'bicubic' or 'random', one of the two; and what these leave behind, three levels from 0 to
                # 255, or () for the mean.
                "randaugment_on": "crop",
                "randaugment_interpolation": "random",
                "randaugment_fill": (),
                # Brightness, contrast and saturation change by up to this share; 0: off. Not with RandAugment.
                "color_jitter": 0.0,
                # Random erasing: how often (0: off), with noise ('pixel') or the mean colour ('const'), most boxes.
                "erasing_probability": 0.0,
                "erasing_mode": "pixel",
                "erasing_count": 1,
                # The sizes that training images have, step by step one of them at random: sides of squares or pairs
                # (height, width), as (192, 224, (192, 256)); (): the model's own. A step is compiled for each.
                "train_sizes": (),
                # How many samples, augmented each by itself, a batch has of every example; an epoch is all of them.
                "repeats": 1,
                # Clips of videos: 'segment' or 'rounded_segment', a frame of each of num_frames parts, or 'dense', each
                # stride-th frame of one part (data/decoding/frame_sampling.py).
                "sampling": "segment",
                "stride": 4,
                # 'dense': how many frames a second `stride` counts, whatever the video has; 0: the video's own frames.
                # Clips round the key frames of films are always such, and those of folders of frames have been taken
                # out at this rate.
                "fps": 0.0,
                # The shorter side that a video's frames are brought to before anything else; 0: they stay as stored.
                "frame_side": 0,
                # What --mode=eval averages over: clips of each video, and crops (1 or 3) of each. Training takes 1 × 1.
                "test_clips": 1,
                "test_crops": 1,
                # What of the views is averaged: 'softmax', their scores, or 'logits'.
                "test_average": "softmax",
                # Micro-expressions: the subject that is evaluated and not trained on, as 'casme2/sub01', and where
                # clips, which begin at the onset, end: at the 'apex' or the 'offset'.
                "left_out": "",
                "clip_end": "apex",
                # Evaluation: the shorter side is resized to image_size / eval_crop, then the centre is cut out.
                "eval_crop": 0.9,
                # Of the pixels, in units of 1 (white); (): those that `init_from` was trained with.
                "mean": (0.485, 0.456, 0.406),
                "std": (0.229, 0.224, 0.225),
                # Loading: threads in this process or, where there are any, processes of one thread each.
                "threads": 8,
                "processes": 0,
                # 'synthetic' only.
                "num_examples": 1280,
                "num_classes": 1000,
            },
            # Examples a step, over all devices and hosts; data.repeats samples of one example count as so many.
            "batch_size": 1024,
            # A trained model to start from: a working directory, what posmlp_jax.convert wrote, or one that comes with
            # this package (python -m posmlp_jax.zoo); '': random weights.
            "init_from": "",
            # Which of its checkpoints, 'latest', 'best' or a step, and which weights of that: 'raw', 'ema' (the moving
            # average) or 'best', the one that its last evaluation found better (checkpoints/selection.py).
            "init_step": "latest",
            "init_weights": "best",
            # A regular expression for the beginning of the names of parameters that stay as they are, as
            # 'stem|mergings.0|stages.[01]', or '(?!head)' for a linear probe; '': all learn (step/freezing.py).
            "freeze": "",
            # The step's batch is worked through in this many parts, one after the other, to save memory.
            "accumulate": 1,
            "length": "300 epochs",
            "optimizer": {
                # 'cosine', which begins where the warm-up ends and moves every step; 'timm', which counts from the
                # run's start and moves once an epoch; or 'step' (schedules.learning_rate).
                "schedule": "cosine",
                "peak_rate": 1e-3,
                "warmup": "10 epochs",
                "warmup_rate": 1e-5,
                "final_rate": 1e-6,
                # 'step' only, in place of final_rate: where the rate is multiplied by `decay`, as ('8 epochs', '92 %').
                "milestones": (),
                "decay": 0.1,
                # At final_rate, after the `length` of warm-up and cosine.
                "constant": "10 epochs",
                "b1": 0.9,
                "b2": 0.999,
                "eps": 1e-5,
                "weight_decay": 0.067,
                # What each layer's rate is of the next one's: less than 1 keeps low layers nearer to `init_from`.
                "layer_decay": 1.0,
                # Only where nothing but the head learns, in a linear probe: it learns as if its features had mean 0 and
                # deviation 1 (training/step/probe.py).
                "standardize_head": False,
                # Global norm of the gradients; 0: no clipping.
                "clip_norm": 1.0,
            },
            # Moving average of parameters and batch statistics, evaluated beside the raw ones: what a step leaves of
            # it, or instead (with a decay of 0) its length, as '5 epochs' or '10 %' of the run, the steps after which
            # 1/e of it is left. 0 and '': no average.
            "ema_decay": 0.99992,
            "ema_length": "",
            # Whether the average is shorter at first, so that it forgets the random start: step t, from 0, leaves no
            # more than (1 + t) / (10 + t) of it.
            "ema_warmup": True,
            "eval_batch_size": 0,  # 0: batch_size
            "log_every": "50 steps",
            "eval_every": "1 epochs",
            "checkpoint_every": "1 epochs",
            # The newest so many are kept, and the best by a metric, as 'eval/top1' or 'ema/loss' ('': none).
            "keep_checkpoints": 3,
            "keep_best": "",
            # Of --mode=leave_one_out: whether the checkpoints of folds stay when these have ended.
            "keep_folds": False,
            # Whether a run goes on although the data are others than when it began.
            "accept_changed_data": False,
            # The steps, as '100:105' from the 100th up to before the 105th, whose profile is written to the working
            # directory's profile/, for TensorBoard, XProf or Perfetto; '': none.
            "profile": "",
            # How many of the machine's devices to use; 0: all.
            "devices": 0,
            # Over how many of them parameters and optimizer state are split, to save memory; 1: every device has all.
            "fsdp": 1,
            **find_task(task).fields(),
        }
    )


def _model_section(name: str) -> dict:
    """The model's name and a place for every field of every family; None leaves the named model's own value.

    Without a name the model is that of `init_from`'s checkpoint or, once there is one, of the run's own.
    """
    fields = {field.name for family in registry.families() for field in dataclasses.fields(family)}
    return {"name": name, **{field: config_dict.placeholder(object) for field in sorted(fields)}}


def check_fields(config: Mapping, schema: Mapping | None = None, prefix: str = "") -> None:
    """Checks that `config` has the schema's fields and no others.

    Raises:
      ConfigError: names the first field that is unknown, with the nearest, or missing.
    """
    if schema is None:
        task = task_of(config)
        schema = default_config(task=task)
        for other, names in ((other, each.fields()) for other, each in TASKS.items()):
            if found := next((name for name in names if name in config and name not in schema), None):
                raise ConfigError(
                    f"unknown config field '{found}' of task '{task}': it is one of '{other}', which the config is "
                    f"made for; one of '{task}' begins with default_config(task='{task}')"
                )
    for name in config:
        if name not in schema:
            raise ConfigError(f"unknown config field '{prefix}{name}'; {nearest(name, schema)}")
    for name, value in schema.items():
        if name not in config:
            raise ConfigError(f"the config has no field '{prefix}{name}'; start from training.default_config()")
        if isinstance(value, Mapping | ConfigDict):
            check_fields(config[name], value, f"{prefix}{name}.")


def check_override(path: str) -> None:
    """Checks the name of one field, as in `--config.data.name=…`.

    Raises:
      ConfigError: if there is no such field (the message has the nearest).
    """
    # Which task's fields there are is known when the config file is read.
    section, prefix = default_config(), ""
    with section.unlocked():
        for task in TASKS.values():
            section.update(task.fields())
    for part in path.split("."):
        if not isinstance(section, ConfigDict) or part not in section:
            if not isinstance(section, ConfigDict):
                raise ConfigError(f"unknown config field '{path}'; '{prefix[:-1]}' has no fields")
            where = f" in '{prefix[:-1]}'" if prefix else ""
            raise ConfigError(f"unknown config field '{path}'{where}; {nearest(part, section)}")
        section, prefix = section[part], f"{prefix}{part}."


def check_values(config: ConfigDict) -> None:
    """Checks the numbers that would otherwise fail late or silently.

    Raises:
      ConfigError: for the first one that cannot be.
    """
    task = find_task(config.task)
    best = tuple(criteria(task.metrics))
    rules = [
        ("seed", config.seed >= 0, "0 or more"),
        ("batch_size", config.batch_size >= 1, "1 or more"),
        ("accumulate", config.accumulate >= 1, "1 or more"),
        ("eval_batch_size", config.eval_batch_size >= 0, "0 (as batch_size) or more"),
        ("devices", config.devices >= 0, "0 (all) or more"),
        ("fsdp", config.fsdp >= 1, "1 (off) or more"),
        ("keep_best", config.keep_best in ("", *best), f"'' (off) or one of {', '.join(best)}"),
        ("keep_checkpoints", config.keep_checkpoints >= 1, "1 or more"),
        ("ema_decay", 0 <= config.ema_decay < 1, "at least 0 (off) and less than 1"),
        ("optimizer.clip_norm", config.optimizer.clip_norm >= 0, "0 (off) or more"),
        ("optimizer.schedule", config.optimizer.schedule in SCHEDULES, f"one of {', '.join(SCHEDULES)}"),
        ("optimizer.peak_rate", config.optimizer.peak_rate > 0, "more than 0"),
        ("optimizer.decay", 0 < config.optimizer.decay <= 1, "more than 0 and at most 1"),
        ("optimizer.layer_decay", 0 < config.optimizer.layer_decay <= 1, "more than 0 and at most 1 (off)"),
        ("data.std", all(value > 0 for value in config.data.std), "all more than 0"),
    ]
    for field, holds, wanted in rules:
        if not holds:
            value = config
            for part in field.split("."):
                value = value[part]
            raise ConfigError(f"{field} is {value}, and should be {wanted}")
    check_config(config.data)
    if config.data.repeats > 1 and config.batch_size % (2 * config.data.repeats):
        raise ConfigError(
            f"batch_size {config.batch_size} should be a multiple of {2 * config.data.repeats}, twice data.repeats"
        )
    if config.ema_decay and config.ema_length:
        raise ConfigError(
            f"ema_length is '{config.ema_length}' and ema_decay {config.ema_decay:g}, but only one of them can say how "
            "long the moving average is: add --config.ema_decay=0, or leave ema_length out"
        )
    if config.keep_best.startswith("ema/") and not has_average(config):
        raise ConfigError(f"keep_best is {config.keep_best}, but ema_decay is 0: there is no moving average")
    if config.batch_size % config.accumulate:
        raise ConfigError(
            f"accumulate {config.accumulate} does not divide batch_size {config.batch_size} into equal parts"
        )
    task.check_config(config)
    profiled_steps(config.profile)


def resolve_model(config: ConfigDict, fields: Mapping, base: NamedModel | None = None) -> BackboneConfig:
    """The model's config: the named one's, the fields that `config.model` sets, then what data and devices decide.

    Args:
      config: the whole config.
      fields: those that the task takes from the data. They, and the compute type (bfloat16 on accelerators, float32 on
        CPUs), are taken only where the config leaves them open.
      base: the model to start from instead of the named one.

    Raises:
      ConfigError: if there is no such model, or it cannot have such a field.
    """
    overrides = {name: value for name, value in config.model.to_dict().items() if name != "name" and value is not None}
    if overrides.get("dtype") == "float64" and not jax.config.jax_enable_x64:
        raise ConfigError(
            "model.dtype is float64, which JAX takes for float32 unless the environment has JAX_ENABLE_X64=1; models "
            "are trained in float32 or bfloat16"
        )
    overrides = {**fields, "dtype": "float32" if jax.default_backend() == "cpu" else "bfloat16", **overrides}
    if base is not None:
        return base.config.replace(**overrides)
    return registry.model_config(config.model.name, **overrides)


def plain(config: ConfigDict) -> dict:
    """The config as JSON would give it back: dicts, lists, texts and numbers."""
    return json.loads(json.dumps(config.to_dict()))


def flatten(config: Mapping | ConfigDict, prefix: str = "") -> Iterator[tuple[str, object]]:
    """The fields of all sections, as ('data.name', …)."""
    for name, value in config.items():
        if isinstance(value, Mapping | ConfigDict):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
