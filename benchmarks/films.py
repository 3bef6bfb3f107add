"""How fast clips round key frames become what a model sees: clips a second of CPU time, by how films are stored.

    python -m benchmarks.films

The film is of 320×240 pixels and two minutes at 30 frames a second: a camera that moves over photograph-like noise,
as H.264 with a key frame every 12 or 250 frames, or as a folder of JPEGs. Clips are of 16 frames, every fourth, round
seconds at random, as `configs/ava/s16x4.py` has them; `cropped` is after the crop 'scaled' to 224², too.
"""

import tempfile
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from benchmarks.video_pipeline import encode, milliseconds, synthetic_frames
from posmlp_jax.command_line import CommandParser, run_program
from posmlp_jax.data.augment.augmentation import Augmentation
from posmlp_jax.data.decoding.frame_folders import FrameFolder, open_frame_folder
from posmlp_jax.data.decoding.frame_sampling import FrameSampling
from posmlp_jax.data.decoding.moments import Film, Moment, decode_moment, open_film
from posmlp_jax.training import default_config

HEIGHT, WIDTH = 240, 320
SECONDS, FPS = 120, 30
SAMPLING = FrameSampling("dense", 16, 4, float(FPS))
SIZE = 224


def stored(folder: Path) -> dict[str, Film | FrameFolder]:
    """The film, stored in several ways."""
    there = [cv2.resize(frame, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA) for frame in synthetic_frames(150)]
    frames = (there + there[::-1]) * (SECONDS * FPS // 300)
    films = {}
    for distance in (12, 250):
        file = folder / f"{distance}.mp4"
        file.write_bytes(encode(np.stack(frames), "mp4", "libx264", distance, {"preset": "veryfast", "crf": "23"}))
        films[f"H.264, key frames every {distance}"] = open_film(str(file))
    (folder / "frames").mkdir()
    for number, frame in enumerate(frames, start=1):
        Image.fromarray(frame).save(folder / f"frames/film_{number:06d}.jpg", quality=90)
    return films | {"a folder of JPEGs": open_frame_folder(str(folder / "frames"), float(FPS))}


def main(arguments: list[str] | None = None) -> None:
    parser = CommandParser("benchmarks.films", __doc__)
    parser.add_argument("--repeats", type=int, default=40, help="how many clips are taken for each row")
    options = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    config = default_config().data
    config.update(crop="scaled")
    augmentation, out = Augmentation(config, (SIZE, SIZE)), np.empty((SAMPLING.num_frames, SIZE, SIZE, 3), np.uint8)

    def decode(film: Film | FrameFolder, rng: np.random.Generator) -> np.ndarray:
        moment = Moment(film, float(rng.integers(2, SECONDS - 2)))
        return decode_moment(moment, SAMPLING, augmentation.min_size)[0]

    print(f"{'clips a CPU second':30}{'decoded':>9}{'cropped':>9}")
    with tempfile.TemporaryDirectory() as folder:
        for name, film in stored(Path(folder)).items():
            decoded = milliseconds(lambda rng, film=film: decode(film, rng), options.repeats)
            cropped = milliseconds(
                lambda rng, film=film: augmentation.fill(out, decode(film, rng), rng), options.repeats
            )
            print(f"{name:30}{1e3 / decoded:9.1f}{1e3 / cropped:9.1f}", flush=True)


if __name__ == "__main__":
    run_program(main, None)
