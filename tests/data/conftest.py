import io
from fractions import Fraction

import av
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from posmlp_jax.training import default_config


@pytest.fixture
def make_config(tmp_path):
    """The data section of a config, for digits in `tmp_path` unless told otherwise."""

    def make(**changes) -> ConfigDict:
        config = default_config().data
        config.update(
            name="digits", data_dir=str(tmp_path), eval_split="test", crop="pad", crop_padding=1, eval_crop=1.0
        )
        config.update(threads=0, num_examples=30, num_classes=5)
        config.update(changes)
        return config

    return make


@pytest.fixture(scope="session")
def picture():
    """Makes a smooth random picture [height, width, 3], of which JPEG and resizing keep most."""

    def make(height: int, width: int, seed: int = 0) -> np.ndarray:
        coarse = np.random.default_rng(seed).integers(0, 256, (height // 16 + 2, width // 16 + 2, 3), dtype=np.uint8)
        return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))

    return make


@pytest.fixture(scope="session")
def encoded():
    """Encodes an array or a PIL image."""

    def encode(image: np.ndarray | Image.Image, kind: str = "jpeg", **options) -> bytes:
        image = image if isinstance(image, Image.Image) else Image.fromarray(image)
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        return buffer.getvalue()

    return encode


@pytest.fixture(scope="session")
def moving_picture(picture):
    """A clip [frames, height, width, 3]: a part of a smooth picture that moves on by some pixels each frame."""

    def make(frames: int = 40, height: int = 64, width: int = 96, seed: int = 0) -> np.ndarray:
        large = picture(height + frames, width + 2 * frames, seed)
        return np.stack([large[i : i + height, 2 * i : 2 * i + width] for i in range(frames)])

    return make


@pytest.fixture(scope="session")
def encoded_video():
    """Encodes a clip [frames, height, width, 3] as a video file; every frame gets a time in milliseconds if given."""

    def encode(
        clip: np.ndarray,
        form: str = "mp4",
        codec: str = "mpeg4",
        *,
        pixels: str = "yuv420p",
        gop: int = 12,
        b_frames: int = 0,
        times: list[int] | None = None,
        rotation: tuple | None = None,
        options: dict[str, str] | None = None,
    ) -> bytes:
        buffer = io.BytesIO()
        with av.open(buffer, "w", format=form) as container:
            stream = container.add_stream(codec, rate=25, options=options or {})
            stream.height, stream.width = clip.shape[1:3]
            stream.pix_fmt, stream.gop_size, stream.max_b_frames, stream.thread_count = pixels, gop, b_frames, 1
            if times:
                stream.codec_context.time_base = Fraction(1, 1000)
            if rotation:
                stream.set_display_rotation(*rotation)
            for number, array in enumerate(clip):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(array), format="rgb24")
                if times:
                    frame.pts, frame.time_base = int(times[number]), Fraction(1, 1000)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return buffer.getvalue()

    return encode


@pytest.fixture
def image_folder(tmp_path, picture, encoded):
    """Makes DIR/<path of each key>/image0.jpg …, as many as its value says; returns DIR."""

    def make(counts: dict[str, int], suffix: str = ".jpg", name: str = "images"):
        root = tmp_path / name
        for number, (path, count) in enumerate(counts.items()):
            (root / path).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                kind = {".jpg": "jpeg", ".png": "png", ".webp": "webp"}.get(suffix.lower(), "jpeg")
                (root / path / f"image{i}{suffix}").write_bytes(encoded(picture(24, 32, 100 * number + i), kind))
        return root

    return make


@pytest.fixture(scope="session")
def mutated_files(picture, encoded) -> list[bytes]:
    """A thousand JPEG, PNG and WebP files with bytes changed, cut out, cut off, put in or exchanged."""
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    originals = [
        encoded(picture(40, 56)),
        encoded(picture(40, 56), progressive=True, exif=exif),
        encoded(Image.fromarray(picture(40, 56)).convert("CMYK")),
        encoded(picture(24, 32), "png"),
        encoded(Image.fromarray(picture(24, 32)).convert("P"), "png", exif=exif),
        encoded(picture(40, 56), "webp"),
        encoded(picture(24, 32), "webp", lossless=True, exif=exif),
    ]

    def mutate(data: bytes) -> bytes:
        kind = rng.integers(6)
        # Headers are short and matter most: half of the mutations are there.
        limit = min(len(data), 64) if rng.random() < 0.5 else len(data)
        start = int(rng.integers(limit))
        end = min(start + int(rng.integers(1, 40)), len(data))
        if kind == 0:
            return data[:start] + rng.bytes(end - start) + data[end:]
        if kind == 1:
            return data[:start] + bytes([data[start] ^ (1 << int(rng.integers(8)))]) + data[start + 1 :]
        if kind == 2:
            return data[:start] + data[end:]
        if kind == 3:
            return data[:start]
        if kind == 4:
            return data[:start] + rng.bytes(end - start) + data[start:]
        other = originals[rng.integers(len(originals))]
        return data[:start] + other[start:]

    files = []
    for number in range(1000):
        data = originals[number % len(originals)]
        for _ in range(int(rng.integers(1, 4))):
            data = mutate(data) if data else data
        files.append(data)
    return files
