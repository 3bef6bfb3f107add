"""What a few hundred photos give: `python -m benchmarks.few_photos [--classes=…] [--seeds=0,1,2]`.

Makes folders of JPEG photos from CIFAR-10, which has to be prepared, trains `configs/own_images.py` on them, and prints
top-1 on the fifth that is held out, beside scikit-learn's logistic regression on the pixels (requirements-dev.txt) and
the share of the largest class. Runs that are already in `runs/few_photos/` are not repeated.
"""

import time
from pathlib import Path

if __name__ == "__main__":
    from posmlp_jax.command_line import begin_program

    begin_program()

import cv2
import numpy as np

from benchmarks.runs import train_once
from benchmarks.seeds import read_seeds
from configs import own_images
from posmlp_jax.command_line import CommandParser, run_program
from posmlp_jax.data import Source, open_source
from posmlp_jax.data.decoding.images import decode
from posmlp_jax.errors import ConfigError
from posmlp_jax.paths import as_path
from posmlp_jax.training import default_config
from posmlp_jax.writing import atomic_folder, writing_to

# Photographs as people have them are of several sizes.
SIDES = (96, 112, 128)
PIXELS = 16


def make_photos(folder: Path, counts: dict[str, int], data_dir: str) -> None:
    """Writes `folder/CLASS/*.jpg`: so many training images of each class, enlarged."""
    data = default_config().data
    data.update(name="cifar10", data_dir=data_dir)
    source = open_source(data, "train")
    labels, rng = source.read_labels(), np.random.default_rng(0)
    unknown = sorted(set(counts) - set(source.class_names))
    if unknown:
        raise ConfigError(f"there is no class '{unknown[0]}' in CIFAR-10; it has {', '.join(source.class_names)}")
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for index in rng.permutation(np.flatnonzero(labels == source.class_names.index(name)))[:count]:
            pixels = decode(source[int(index)][0])
            photo = cv2.resize(pixels, tuple(rng.choice(SIDES, 2).tolist()), interpolation=cv2.INTER_CUBIC)
            cv2.imwrite(str(folder / name / f"{index:05d}.jpg"), photo[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])


def as_pixels(source: Source) -> tuple[np.ndarray, np.ndarray]:
    """The images at 16×16 as rows, and their labels."""
    size = (PIXELS, PIXELS)
    rows = [cv2.resize(decode(source[index][0]), size, interpolation=cv2.INTER_AREA) for index in range(len(source))]
    return np.reshape(rows, (len(rows), -1)) / 255, source.read_labels()


def regression(folder: Path, strength: float) -> float:
    """The top-1, in %, of logistic regression with this C on the images that the runs have, held-out ones judged."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    data = default_config().data
    data.update(name="image_folder", data_dir=str(folder), holdout=0.2)
    train, evaluation = (as_pixels(open_source(data, split)) for split in ("train", "eval"))
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))
    return 100 * model.fit(*train).score(*evaluation)


def main(arguments: list[str] | None = None) -> None:
    parser = CommandParser("benchmarks.few_photos", __doc__)
    parser.add_argument(
        "--classes",
        default="automobile=100,bird=100,frog=100,horse=100,ship=100",
        help="CLASS=COUNT with commas between (%(default)s)",
    )
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--data_dir", default="", help="where CIFAR-10 is prepared")
    parser.add_argument("--directory", type=Path, default=Path("runs/few_photos"))
    options = parser.parse_args(arguments)
    try:
        counts = {name: int(count) for name, count in (item.split("=") for item in options.classes.split(","))}
    except ValueError as error:
        raise ConfigError(f"classes is '{options.classes}', and should be as ship=100,frog=50") from error
    seeds = read_seeds(options.seeds)
    folder = options.directory / "_".join(f"{name}{count}" for name, count in counts.items())
    photos = folder / "photos"
    if not photos.is_dir():
        with writing_to(as_path(folder)):
            folder.mkdir(parents=True, exist_ok=True)
        with atomic_folder(as_path(photos)) as whole:
            make_photos(Path(whole), counts, options.data_dir)
    print("| | top-1 | seconds |\n| --- | --- | --- |")
    print(f"| the largest class | {100 * max(counts.values()) / sum(counts.values()):.0f} % | |")
    for strength in (0.01, 0.1, 1.0):
        accuracy = regression(photos, strength)
        print(f"| logistic regression on {PIXELS}×{PIXELS} pixels, C = {strength:g} | {accuracy:.0f} % | |", flush=True)
    for seed in seeds:
        start = time.perf_counter()
        config = own_images.get_config()
        config.seed, config.data.data_dir = seed, str(photos)
        result = train_once(config, folder / f"seed_{seed}", log=folder / "log.txt")
        weights, average = (f"{100 * result[split]['top1']:.0f} %" for split in ("eval", "ema"))
        seconds = time.perf_counter() - start
        print(
            f"| configs/own_images.py, seed {seed} | {weights} (moving average {average}) | {seconds:.0f} |", flush=True
        )


if __name__ == "__main__":
    run_program(main, None)
