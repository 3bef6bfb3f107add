"""How fast images become batches: `python -m benchmarks.input_pipeline [--config=FILE] [--model=posmlp_t]`.

Generates photograph-like JPEGs of 500×375, then measures each stage of the training path on one core, and all of it
through Grain, with threads and with processes, with the recipe's RandAugment and without, or as --config has it. Those
of a detector's config are of 640×480 with made-up objects. With --data_dir, it reads --config's own images.
With --device_rate, it tells how many cores make as many images as a device takes.
With --model, it trains that model on these images and tells what share of a step is spent waiting for data.
"""

import copy
import itertools
import os
import runpy
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

if __name__ == "__main__":
    from posmlp_jax.command_line import begin_program

    begin_program()

import numpy as np
from ml_collections import ConfigDict

from benchmarks.photos import COCO_SIZE, IMAGENET_SIZE, OBJECTS, AnnotatedPhotos, Repeated, write_photos
from posmlp_jax.command_line import CommandParser, positive, run_program
from posmlp_jax.data import Batches, Source, training_sizes
from posmlp_jax.data.augment.augmentation import Augmentation
from posmlp_jax.data.augment.crops import random_flip, random_resized_crop
from posmlp_jax.data.augment.erasing import RandomErasing
from posmlp_jax.data.augment.randaugment import RandAugment
from posmlp_jax.data.decoding.images import decode
from posmlp_jax.data.pipeline import train_batches
from posmlp_jax.data.sources.image_folder import ImageFolderSource
from posmlp_jax.errors import ConfigError
from posmlp_jax.tasks import find_task
from posmlp_jax.tasks.detection.targets import DetectionTargets
from posmlp_jax.training import default_config
from posmlp_jax.training.config import resolve_model

SIZE = 224, 224
RECIPE = "rand-m6-n3-mstd1.0-inc1"
SCALE, RATIO = (0.08, 1.0), (0.67, 1.5)  # configs/recipe.py's crops


def microseconds(function: Callable, arguments: Sequence) -> float:
    """CPU time of one call: the fastest of five passes over the arguments, so that other programs disturb less."""
    best = float("inf")
    for _ in range(5):
        start = time.thread_time()
        for argument in arguments:
            function(argument)
        best = min(best, time.thread_time() - start)
    return 1e6 * best / len(arguments)


def measure_stages(source: ImageFolderSource) -> dict[str, float]:
    """Microseconds an image of each stage, in this thread."""
    rng = np.random.default_rng(0)
    indices = range(min(len(source), 128))
    files = [source.read(index)[0] for index in indices]
    photos = [decode(data) for data in files]
    crops = [random_resized_crop(image, SIZE, SCALE, RATIO, rng)[0] for image in photos]
    augment = RandAugment.from_string(RECIPE)
    erase = RandomErasing(1.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "pixel")
    batch = np.empty((len(crops), *SIZE, 3), np.uint8)
    return {
        "read": microseconds(source.read, indices),
        "decode": microseconds(decode, files),
        "crop, resize": microseconds(lambda image: random_resized_crop(image, SIZE, SCALE, RATIO, rng), photos),
        "crop, resize (interpolation random)": microseconds(
            lambda image: random_resized_crop(image, SIZE, SCALE, RATIO, rng, "random"), photos
        ),
        "flip": microseconds(lambda image: random_flip(image, rng), crops),
        f"RandAugment ({RECIPE})": microseconds(lambda image: augment(image, rng), crops),
        "erasing (pixel, always)": microseconds(lambda image: erase(image, rng), crops),
        "into the batch": microseconds(lambda index: np.copyto(batch[index], crops[index]), range(len(crops))),
    }


def measure_annotated(source: AnnotatedPhotos, config: ConfigDict) -> dict[str, float]:
    """Microseconds an image of each stage of a detector's data, in this thread."""
    data, rng = config.data, np.random.default_rng(0)
    size = training_sizes(data, resolve_model(config, {}).input_size)[0]
    examples = [source.read(index) for index in range(min(len(source.files), 128))]
    photos = [decode(image) for image, _ in examples]
    augment, out = Augmentation(data, size), np.empty((*size, 3), np.uint8)
    placements = [augment.fill(out, image, rng) for image in photos]
    placed = [(objects, where) for (_, objects), where in zip(examples, placements, strict=True)]
    boxes, masks = (DetectionTargets(source, config.max_objects, masks=with_masks) for with_masks in (False, True))
    return {
        "decode": microseconds(lambda example: decode(example[0]), examples),
        f"augment, into a canvas of {size[0]}×{size[1]}": microseconds(lambda x: augment.fill(out, x, rng), photos),
        "boxes": microseconds(lambda one: boxes(*one), placed),
        "boxes and masks": microseconds(lambda one: masks(*one), placed),
    }


def recipe(**changes: object) -> ConfigDict:
    """A config with the recipe's crops, and what is given of its `data` section."""
    config = default_config()
    config.data.update(crop_scale=SCALE, crop_ratio=RATIO, **changes)
    return config


def read_config(path: str) -> ConfigDict:
    """The config of a config file.

    Raises:
      ConfigError: if there is no such file, it is no config, or its model takes clips.
    """
    if not Path(path).is_file():
        raise ConfigError(f"there is no config file '{path}'")
    found = runpy.run_path(path)
    if "get_config" not in found:
        raise ConfigError(f"{path} is no config: it has no get_config()")
    config = found["get_config"]()
    model = resolve_model(config, {})
    if model.kind != "image":
        raise ConfigError(f"{path} is for clips, which `python -m benchmarks.video_pipeline` measures")
    return config


def measure_loading(source: Source, config: ConfigDict, batch_size: int, seconds: float) -> tuple[float, float]:
    """Images a second from `train_batches` once it is under way, by the clock and by the CPU time of this process."""
    data, task = config.data, find_task(config.task)
    model = resolve_model(config, task.model_fields(source))
    targets = task(config, model, source).targets(source)
    sizes = training_sizes(data, model.input_size)
    batches = train_batches(source, data, sizes, targets=targets, batch_size=batch_size, seed=0)
    # Every worker has finished a batch by then.
    return examples_per_second(batches, 2 * max(data.threads, data.processes, 1), seconds)


def examples_per_second(batches: Batches, warm_up: int, seconds: float) -> tuple[float, float]:
    """By the clock and by the CPU time of this process, after `warm_up` batches; closes them."""
    for _ in itertools.islice(batches, warm_up):
        pass
    start, cpu_start, count = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - start < seconds:
        count += len(next(batches)["image"])
    elapsed, cpu = time.perf_counter() - start, time.process_time() - cpu_start
    batches.close()
    return count / elapsed, count / cpu


def cores_needed(device_rate: float | None, per_cpu_second: float) -> str:
    """How many cores make as many examples a second as a device takes; '' where it is not known how many that are."""
    return "" if device_rate is None else f"{device_rate / per_cpu_second:.1f}"


def print_end_to_end(
    source: Source,
    variants: dict[str, ConfigDict],
    *,
    cores: int,
    batch_size: int,
    seconds: float,
    device_rate: float | None,
) -> None:
    """The second table. By CPU time, other programs on the machine do not count; that of processes is not known.

    Args:
      source: the images.
      variants: configs, by name.
      cores: of this machine.
      batch_size: images a batch.
      seconds: how long each row takes.
      device_rate: images a second that a device takes, if cores are to be counted.
    """
    wanted = "" if device_rate is None else "   cores"
    print(f"{f'end to end, batches of {batch_size}':42}{'images/s':>12}{'a core':>12}{'a CPU second':>14}{wanted}")
    for variant, whole in variants.items():
        for kind, count in (("threads", 1), ("threads", cores), ("processes", cores)):
            config = copy.deepcopy(whole)
            config.data.update({"threads": 0, "processes": 0} | {kind: count})
            rate, per_cpu_second = measure_loading(source, config, batch_size, seconds)
            by_cpu, needed = f"{per_cpu_second:.0f}", cores_needed(device_rate, per_cpu_second)
            if config.data.processes:
                by_cpu = needed = ""
            name = ", ".join(filter(None, (f"{kind}: {count}", variant)))
            print(f"{name:42}{rate:12.0f}{rate / count:12.0f}{by_cpu:>14}{needed:>8}".rstrip(), flush=True)


def measure_waiting(model: str, folder: Path, batch_size: int, threads: int, steps: int) -> dict[str, float]:
    """What the training log says of `steps` steps on the photographs with RandAugment: step time and waiting."""
    from posmlp_jax.analysis.curves import read_metrics
    from posmlp_jax.training import train

    config = default_config(model)
    config.data.update(name="image_folder", data_dir=str(folder), threads=threads, randaugment=RECIPE)
    config.data.update(crop_scale=SCALE, crop_ratio=RATIO)
    config.update(batch_size=batch_size, length=f"{2 * steps} steps", log_every=f"{steps} steps")
    config.optimizer.update(warmup="0 steps", constant="0 steps")
    config.update(eval_every=config.length, checkpoint_every=config.length, ema_decay=0.0)
    with tempfile.TemporaryDirectory() as workdir:
        train(config, workdir)
        return [row for row in read_metrics(Path(workdir)) if row["split"] == "train"][-1]


def main(arguments: list[str] | None = None) -> None:
    parser = CommandParser("benchmarks.input_pipeline", __doc__)
    parser.add_argument("--images", type=int, default=512, help="how many photographs to generate")
    parser.add_argument("--batch_size", type=int, default=256)
    parser.add_argument("--seconds", type=positive, default=10.0, help="how long each row of the second table takes")
    parser.add_argument("--config", help="a file in configs/: how its images are augmented, and their size")
    parser.add_argument("--data_dir", help="where --config's images are, to read them in place of generated ones")
    parser.add_argument(
        "--device_rate", type=positive, help="images a second that a device takes, for the cores that it needs"
    )
    parser.add_argument("--model", help="train this model and tell how long it waits for data")
    parser.add_argument("--steps", type=int, default=5, help="how many steps of it are measured")
    options = parser.parse_args(arguments)
    for name in ("images", "batch_size", "steps"):
        if getattr(options, name) < 1:
            raise ConfigError(f"--{name}={getattr(options, name)} should be 1 or more")
    if options.model and options.config:
        raise ConfigError("--model is trained on images of its own recipe; give it without --config")
    cores = len(os.sched_getaffinity(0))
    end_to_end = {
        "cores": cores,
        "batch_size": options.batch_size,
        "seconds": options.seconds,
        "device_rate": options.device_rate,
    }
    variants = {name: recipe(randaugment=name) for name in ("", RECIPE)}
    if options.config:
        variants = {options.config: read_config(options.config)}
    if options.data_dir:
        if not options.config:
            raise ConfigError("--data_dir goes with --config, which says what is there")
        (config,) = variants.values()
        config.data.data_dir = options.data_dir
        source = find_task(config.task).open_source(config.data, "train", "image")
        print_end_to_end(source, variants, **end_to_end)
        return
    with tempfile.TemporaryDirectory() as name:
        if options.config and variants[options.config].task == "detection":
            source = AnnotatedPhotos(write_photos(Path(name), options.images, COCO_SIZE))
            stages, (height, width) = measure_annotated(source, variants[options.config]), COCO_SIZE
            described = f"{OBJECTS} objects in each"
        else:
            write_photos(Path(name), options.images)
            photos = ImageFolderSource(name, "train")
            stages, (height, width), source = measure_stages(photos), IMAGENET_SIZE, Repeated(photos)
            described = f"to {SIZE[0]}×{SIZE[1]}"
        bytes_each = sum(file.stat().st_size for file in Path(name).rglob("*.jpg")) / options.images
        print(f"{options.images} JPEGs of {width}×{height}, {bytes_each / 1e3:.0f} KB each, {described}\n")
        print(f"{'stage, one core':42}{'µs an image':>12}{'images/s':>12}")
        for stage, duration in stages.items():
            print(f"{stage:42}{duration:12.0f}{1e6 / duration:12.0f}")
        print()
        print_end_to_end(source, variants, **end_to_end)
        if options.model:
            row = measure_waiting(options.model, Path(name), options.batch_size, cores, options.steps)
            print(
                f"\n{options.model}, batch {options.batch_size}: {1e3 * row['step_seconds']:.0f} ms a step, "
                f"{100 * row['data_wait']:.1f} % of it waiting for data"
            )


if __name__ == "__main__":
    run_program(main, None)
