"""Frames of videos as arrays: uint8, RGB, [frames, height, width, 3], upright. Sizes are (height, width)."""

import dataclasses
import itertools
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import av
import cv2
import numpy as np
from av.codec.context import CodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from posmlp_jax.data.decoding.encoded_video import EncodedVideo
from posmlp_jax.data.decoding.images import MAX_PIXELS, Size, decode
from posmlp_jax.data.decoding.packets import Packets, open_video, read_packets
from posmlp_jax.errors import BrokenExampleError

# Decoders that can leave out exactly the frames to which no other refers. In HEVC, what FFmpeg leaves out may still be
# referred to from a higher temporal layer.
_SKIPPING = ("h264", "mpeg4")


@dataclasses.dataclass(frozen=True)
class VideoInfo:
    """What `probe` finds: the number of frames, and frames a second (0: not known)."""

    num_frames: int
    fps: float


def probe(file: bytes | str | os.PathLike) -> VideoInfo:
    """Counts the frames of a video file and decodes one, so that files which give none are found out.

    Args:
      file: its contents, or its path.

    Raises:
      BrokenExampleError: when it is no video file, has no video stream, or frames that are too large, or none of them
        can be decoded.
      OSError: when there is no such file, or it cannot be read.
    """
    with open_video(file) as (container, stream):
        packets = read_packets(container, stream, file)
        _, frame = next(_decode_in_order(stream.codec_context, packets), (0, None))
        if frame is None:
            raise BrokenExampleError("no frame of the video can be decoded")
        _Converter()(frame)
    return VideoInfo(packets.num_frames, packets.fps)


def decode_frames(
    video: EncodedVideo,
    indices: Sequence[int],
    min_size: Size | None = None,
    transform: Callable[[np.ndarray], np.ndarray] | None = None,
    shorter_side: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Decodes some frames of a video.

    Frames are numbered in the order in which they are shown; with a variable frame rate too, the number is not a time.
    They are turned upright as the file's rotation says. Pixels that the file says are not square stay as they are
    stored. Where a frame cannot be decoded, the last good one before it takes its place, or the first good one.

    Args:
      video: the video.
      indices: the frames, in any order, each as often as wanted.
      min_size: frames that are stored as JPEGs and are more than twice as large are decoded at a fraction of their
        size, but no smaller than this; see `images.decode`. Video files are decoded at their full size.
      transform: what is kept of each frame, uint8 [height, width, 3], as crops of it; arrays of one shape. So no more
        than one frame of a large video is in memory as a whole.
      shorter_side: pixels to which frames are brought before anything else; 0: they stay as large as they are, as do
        those that are more than 16 times as long as wide.

    Returns:
      (uint8 frames [len(indices), height, width, 3], or what `transform` made of them; the frames' own numbers, int64
      [len(indices)]: others than those that were asked for where the video has fewer, or these are damaged).

    Raises:
      BrokenExampleError: when no frame can be decoded.
      IndexError: when an index is negative.
    """
    if min(indices, default=0) < 0:
        raise IndexError(f"frame {min(indices)} of {video.id}: frames are numbered from 0")
    wanted = sorted(set(map(int, indices)))
    keep = transform or (lambda frame: frame)
    if isinstance(video.data, tuple):
        frames = from_images(video.data, wanted, min_size, keep, shorter_side)
    else:
        with open_video(video.data) as (container, stream):
            packets = read_packets(container, stream, video.data)
            frames = from_packets(stream.codec_context, packets, wanted, keep, shorter_side)
    return stack_frames(frames, indices)


def stack_frames(frames: Mapping[int, np.ndarray], indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """What `decode_frames` gives, of frames by their numbers."""
    numbers = np.asarray(sorted(frames))
    # The last good frame that is not after the wanted one; the first good one where there is none.
    taken = numbers[np.maximum(np.searchsorted(numbers, indices, side="right") - 1, 0)]
    first = frames[int(taken[0])]
    stacked = np.empty((len(indices), *first.shape), np.uint8)
    for place, number in enumerate(taken.tolist()):
        stacked[place] = frames[number]
    return stacked, taken


def from_packets(
    codec: CodecContext, packets: Packets, wanted: Iterable[int], keep: Callable, shorter_side: int
) -> dict[int, np.ndarray]:
    """The wanted frames by their numbers; for those that cannot be decoded, the good ones that take their places.

    Args:
      codec: of the packets.
      packets: of a file, or a part of it.
      wanted: numbers of frames.
      keep: see `decode_frames`' `transform`.
      shorter_side: see `decode_frames`.

    Raises:
      BrokenExampleError: when no frame can be decoded.
    """
    convert = _Converter(shorter_side)
    targets = {min(number, packets.num_frames - 1) for number in wanted}
    frames: dict[int, np.ndarray] = {}
    if packets.can_seek:
        for frame in _decode_around_key_frames(codec, packets, targets):
            if frame.pts in targets and not frame.is_corrupt:
                frames[frame.pts] = keep(convert(frame))
    missing = sorted(targets - set(frames))
    if missing:
        for number, frame in _replacements(_decode_in_order(codec, packets), missing):
            if number not in frames:
                frames[number] = keep(convert(frame))
    if not frames:
        raise BrokenExampleError("no frame of the video can be decoded")
    return frames


def _decode_around_key_frames(codec: CodecContext, packets: Packets, targets: set[int]) -> Iterator[VideoFrame]:
    """Decodes from the key frame before each target up to the target itself; the frames come in any order."""
    position = {number: place for place, number in enumerate(packets.numbers) if number is not None}
    # Frames that come after a key frame but are shown before it may refer to what is before it.
    keys = [(number, place) for number, place in position.items() if packets.are_keys[place]]
    ends: dict[int, int] = {}
    for target in targets:
        start = max((place for number, place in keys if number <= target and place <= position[target]), default=0)
        ends[start] = max(ends.get(start, 0), position[target] + 1)
    can_skip = codec.name in _SKIPPING
    codec.flush_buffers()
    for packet in _ranges(packets.read(), sorted(ends.items())):
        if can_skip:
            unneeded = packet is not None and packet.pts not in targets
            codec.skip_frame = "NONREF" if unneeded else "DEFAULT"
        yield from _decode(codec, packet)
        if packet is None:
            codec.flush_buffers()


def _ranges(packets: Iterator[av.Packet], ranges: Sequence[tuple[int, int]]) -> Iterator[av.Packet | None]:
    """Packets start … end − 1 of each of the ranges, which are sorted and may overlap, each with a None behind it.

    Only what two ranges share is held, as there may be hours between the first and the last.
    """
    rest, shared = enumerate(packets), deque()
    for (start, end), (following, _) in itertools.pairwise((*ranges, (math.inf, math.inf))):
        again = []
        while item := shared.popleft() if shared else next(rest, None):
            place, packet = item
            if place >= following:
                again.append(item)
            if place >= start:
                yield packet
            if place >= end - 1:
                break
        shared.extendleft(reversed(again))
        yield None


def _decode_in_order(codec: CodecContext, packets: Packets) -> Iterator[tuple[int, VideoFrame]]:
    """All good frames with their numbers, in the order in which they are shown."""
    codec.flush_buffers()
    if codec.name in _SKIPPING:
        codec.skip_frame = "DEFAULT"
    count = 0
    for packet in itertools.chain(packets.read(), (None,)):
        for frame in _decode(codec, packet):
            number = frame.pts if packets.can_seek else count
            count += 1
            if number is not None and not frame.is_corrupt:
                yield number, frame


def _replacements(frames: Iterable[tuple[int, VideoFrame]], wanted: list[int]) -> Iterator[tuple[int, VideoFrame]]:
    """For each wanted number the frame with it, or else the last one before it, or else the first one."""
    wanted, previous = list(wanted), None
    for number, frame in frames:
        while wanted and wanted[0] < number:
            wanted.pop(0)
            yield previous or (number, frame)
        if wanted and wanted[0] == number:
            wanted.pop(0)
            yield number, frame
        if not wanted:
            return
        previous = number, frame
    if previous:
        yield previous


def _decode(codec: CodecContext, packet: av.Packet | None) -> list[VideoFrame]:
    """The frames that come out when the packet is put in: none when it is damaged."""
    try:
        return codec.decode(packet)
    except av.FFmpegError:
        return []


class _Converter:
    """Makes upright RGB arrays of one video's frames, all of the first one's size or `shorter_side`."""

    def __init__(self, shorter_side: int = 0):
        self._reformatter = VideoReformatter()
        self._shorter_side = shorter_side
        self._size: Size | None = None

    def __call__(self, frame: VideoFrame) -> np.ndarray:
        if self._size is None:
            if frame.height * frame.width > MAX_PIXELS:
                raise BrokenExampleError(f"frames of {frame.width}×{frame.height} pixels are too large")
            self._size = sized((frame.height, frame.width), self._shorter_side)
        height, width = self._size
        # Where the size changes, the mean of what a pixel covers.
        how = None if self._size == (frame.height, frame.width) else "AREA"
        rgb = self._reformatter.reformat(frame, width, height, "rgb24", interpolation=how, threads=1)
        return _upright(rgb.to_ndarray(), _turns(frame))


def sized(size: Size, shorter_side: int) -> Size:
    """`size` with another shorter side and the same shape, where `decode_frames` would change it."""
    height, width = size
    least = min(size)
    if not shorter_side or least == shorter_side or max(size) > 16 * least:
        return size
    return math.floor(height * shorter_side / least + 0.5), math.floor(width * shorter_side / least + 0.5)


def _turns(frame: VideoFrame) -> tuple[bool, bool, bool]:
    """What makes the frame upright: exchange rows and columns, then reverse rows, reverse columns.

    From the file's display matrix, x' = a·x + c·y, y' = b·x + d·y: cameras write multiples of 90°, and mirror images.
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return False, False, False
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
    if abs(b) > abs(a):
        return True, b < 0, c < 0
    return False, d < 0, a < 0


def _upright(pixels: np.ndarray, turns: tuple[bool, bool, bool]) -> np.ndarray:
    exchange, reverse_rows, reverse_columns = turns
    if exchange:
        pixels = pixels.swapaxes(0, 1)
    return pixels[:: -1 if reverse_rows else 1, :: -1 if reverse_columns else 1]


def from_images(
    images: Sequence[bytes], wanted: Sequence[int], min_size: Size | None, keep: Callable, shorter_side: int
) -> dict[int, np.ndarray]:
    """As `from_packets`, of frames that are image files; all become as large as the first."""
    frames: dict[int, np.ndarray] = {}
    size = None
    for number in wanted:
        before = range(min(number, len(images) - 1), -1, -1)
        for candidate in (*before, *range(number + 1, len(images))):
            if candidate in frames:
                break
            try:
                frame = decode(images[candidate], min_size)
                size = size or sized(frame.shape[:2], shorter_side)
                if frame.shape[:2] != size:
                    frame = cv2.resize(frame, size[::-1], interpolation=cv2.INTER_AREA)
                frames[candidate] = keep(frame)
                break
            except BrokenExampleError as error:
                reason = error
        else:
            raise BrokenExampleError(f"no frame of the video can be decoded, the last: {reason}")
    return frames
