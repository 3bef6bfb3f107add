"""Films whose frames carry their own numbers in their pixels, and folders that have such films and AVA's tables."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from ml_collections import ConfigDict

from posmlp_jax.training import default_config

HEIGHT, WIDTH, BITS = 48, 80, 10
X264 = {"preset": "ultrafast", "tune": "fastdecode"}
LABEL_MAP = 'item { name: "sit" id: 1 }\nitem { name: "wave left" id: 3 }\nitem { name: "wave right" id: 4 }\n'


def inked(number: int) -> np.ndarray:
    """A frame that has its number in squares of 16 pixels, a bit each."""
    frame = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    for bit in range(BITS):
        row, column = 16 * (bit // 5), 16 * (bit % 5)
        frame[row : row + 16, column : column + 16] = 255 if number >> bit & 1 else 0
    return frame


def number_of(frame: np.ndarray) -> int:
    squares = [frame[16 * (bit // 5) + 8, 16 * (bit % 5) + 8].mean() for bit in range(BITS)]
    return sum(int(level > 127) << bit for bit, level in enumerate(squares))


def write_film(path, times, *, begins=0.0, codec="libx264", gop=12, b_frames=0, options=X264, ticks=90_000):
    """Frames that are shown at these times, in seconds after the film begins, which is at another time in the file."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30, options=options)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        stream.gop_size, stream.max_b_frames, stream.thread_count = gop, b_frames, 1
        stream.codec_context.time_base = Fraction(1, ticks)
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(inked(number), format="rgb24")
            frame.pts, frame.time_base = round((begins + time) * ticks), Fraction(1, ticks)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_ava(folder: Path, **tables: str) -> ConfigDict:
    """The tables of a folder with films, by the names of `data.films`' fields; returns the data section for it."""
    config = default_config("posmlp_video_s").data
    texts = {"label_map": LABEL_MAP, "train_excluded": "", "eval_excluded": "", **tables}
    (folder / "annotations").mkdir(parents=True)
    for field, text in texts.items():
        config.films[field] = config.films[field] or f"annotations/{field}.csv"
        (folder / config.films[field]).write_text(text)
    config.update(name="ava", data_dir=str(folder), fps=30.0, crop="scaled", scale_sides=(32, 48), threads=0)
    return config
