"""Video files as packets: one for each frame, numbered in the order in which the frames are shown.

Reading a clip's packets takes about a millisecond, decoding them a hundred times as long. So everything about frame
numbers is told from the packets: how many frames there are (WebM files do not say), which packet holds frame 17, and
from which key frame on packets have to be decoded to get it.
"""

import contextlib
import dataclasses
import io
import itertools
import os
import stat
from collections.abc import Iterator

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from posmlp_jax.errors import BrokenExampleError

# FFmpeg also plays what is no video file: text as a film of a terminal, playlists that name other files or servers.
_FORMATS = "mov,matroska,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,gif,m4v,h264,hevc,ivf"
# One read for a whole clip, instead of a call of Python's for every 32 KB.
_BUFFER_BYTES = 1 << 18
# How far before the time that is looked for a film is entered, in seconds, until there is a key frame before it.
_STEPS_BACK = (0.0, 1.0, 4.0, 16.0, 64.0)


@dataclasses.dataclass(frozen=True)
class Packets:
    """The packets of a file's video stream.

    Attributes:
      numbers: of each in the order in which they are decoded the number of its frame in the order in which frames are
        shown, or None when it holds none that is shown.
      are_keys: whether decoding may start there.
      num_frames: how many frames are shown.
      fps: frames a second on average; 0 when the file does not say.
      can_seek: whether decoding may start at every key frame. Otherwise the file does not say when its frames are
        shown: they are numbered as they come out of the decoder, from the first.
      held: the packets, or the path from which `read` has to take them.
    """

    numbers: list[int | None]
    are_keys: list[bool]
    num_frames: int
    fps: float
    can_seek: bool
    held: list[av.Packet] | os.PathLike

    def read(self) -> Iterator[av.Packet]:
        """All packets in the order in which they are decoded; the `pts` of each is its number in `numbers`."""
        with contextlib.ExitStack() as stack:
            packets = self.held
            if not isinstance(packets, list):
                packets = _demux(*stack.enter_context(open_video(packets)))
            # Not strict: somebody may have cut the file off since.
            for packet, number in zip(packets, self.numbers, strict=False):
                packet.pts = number
                yield packet


@contextlib.contextmanager
def open_video(file: bytes | str | os.PathLike) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The opened file and its video stream, the first that is not a cover picture.

    Args:
      file: the contents of a video file, or its path.

    Raises:
      BrokenExampleError: when it is no video file, has no video stream, or one that cannot be decoded here.
      OSError: when there is no such file, or it cannot be read.
    """
    if isinstance(file, bytes):
        stack, size = contextlib.nullcontext(io.BytesIO(file)), len(file)
    else:
        if not stat.S_ISREG((status := os.stat(file)).st_mode):
            raise BrokenExampleError("not a file on a disk, and a video is read more than once")
        stack, size = open(file, "rb"), status.st_size  # noqa: SIM115 (the next lines close it)
    with stack as opened:
        if not size:
            raise BrokenExampleError("the file is empty")
        try:
            container = av.open(
                opened, options={"format_whitelist": _FORMATS}, buffer_size=_BUFFER_BYTES, metadata_errors="replace"
            )
        except (av.FFmpegError, ValueError) as error:
            raise BrokenExampleError(f"not a video file, or a broken one ({_reason(error)})") from error
        with container:
            yield container, _video_stream(container)


def read_packets(container: InputContainer, stream: VideoStream, file: bytes | str | os.PathLike) -> Packets:
    """All packets of the stream; of a file that breaks off, those before that.

    Args:
      container: what `open_video` gave.
      stream: likewise.
      file: what was opened. Of one on the disk, which may be a long film, no packet is held: they are read again.

    Raises:
      BrokenExampleError: when there is none.
    """
    codec = stream.codec_context
    held, times, are_keys, shown = [], [], [], []
    for place, packet in enumerate(_demux(container, stream)):
        times.append(packet.pts)
        are_keys.append(packet.is_keyframe)
        if _is_shown(packet, codec.name):
            shown.append(place)
        if isinstance(file, bytes):
            held.append(packet)
    if not shown:
        raise BrokenExampleError("the file holds no frame")
    known = None not in (shown_times := [times[i] for i in shown]) and len(set(shown_times)) == len(shown)
    # AVI files do not say when frames are shown, and where that is another order than theirs FFmpeg may guess wrong.
    known = known and not (container.format.name == "avi" and codec.has_b_frames)
    fps = _frames_per_second(stream, shown_times if known else [])
    if known:
        shown.sort(key=times.__getitem__)
    numbers: list[int | None] = [None] * len(times)
    for number, i in enumerate(shown):
        numbers[i] = number
    return Packets(numbers, are_keys, len(shown), fps, known, held if isinstance(file, bytes) else file)


@dataclasses.dataclass(frozen=True)
class Window:
    """The packets of a part of a film.

    Attributes:
      packets: their frames are numbered from the first of them that is shown.
      times: of each frame by its number, ascending, in seconds since the film begins: float64 [packets.num_frames].
      ends: where the last of them ends, as far as the file says.
      is_last: whether nothing comes after them.
    """

    packets: Packets
    times: np.ndarray
    ends: float
    is_last: bool


def read_window(container: InputContainer, stream: VideoStream, first: float, last: float) -> Window:
    """The packets of the frames that are shown from one time to another, and those before that they refer to.

    Times are seconds since the file's first stream begins, whatever time the file has for that: as players and FFmpeg's
    `-ss` count them. The file is entered at a key frame, not read from its start.

    Args:
      container: what `open_video` gave.
      stream: likewise.
      first: before the beginning of the film: from its first frame on.
      last: the frame that is shown then is among them.

    Raises:
      BrokenExampleError: when there are none, or the file does not say when frames are shown.
    """
    codec, unit = stream.codec_context, float(stream.time_base)
    begins = (container.start_time or 0) / av.time_base
    held, shown, is_last = [], [], True
    for packet in _from_key_frame(container, stream, (begins + first) / unit):
        # No frame is shown before it is decoded.
        if shown and packet.dts is not None and packet.dts * unit - begins > last:
            is_last = False
            break
        if _is_shown(packet, codec.name):
            shown.append(len(held))
        held.append(packet)
    if not shown:
        raise BrokenExampleError("the file holds no frame")
    if any(held[place].pts is None for place in shown) or (container.format.name == "avi" and codec.has_b_frames):
        raise BrokenExampleError(
            f"the file ({container.format.name}) does not say when its frames are shown; one that does is made by: "
            "ffmpeg -i FILE FILE.mp4"
        )
    shown.sort(key=lambda place: held[place].pts)
    numbers: list[int | None] = [None] * len(held)
    for number, place in enumerate(shown):
        numbers[place] = number
    times = np.array([held[place].pts * unit - begins for place in shown])
    ends = times[-1] + (held[shown[-1]].duration or 0) * unit
    packets = Packets(numbers, [packet.is_keyframe for packet in held], len(shown), 0.0, True, held)
    return Window(packets, times, float(ends), is_last)


def _from_key_frame(container: InputContainer, stream: VideoStream, time: float) -> Iterator[av.Packet]:
    """The packets from a key frame on that is shown no later than `time`, in the stream's units, or from the first."""
    unit = float(stream.time_base)
    begins = (container.start_time or 0) / av.time_base / unit
    # By some containers' tables the file is entered where decoding has come to that time, which is too late.
    for back in _STEPS_BACK:
        at = time - back / unit
        if at <= begins:
            break
        with contextlib.suppress(av.FFmpegError):
            container.seek(int(at), stream=stream)
            packets = itertools.dropwhile(lambda packet: not packet.is_keyframe, _demux(container, stream))
            key = next(packets, None)
            if key is not None and key.pts is not None and key.pts <= time:
                yield from itertools.chain((key,), packets)
                return
    with contextlib.suppress(av.FFmpegError):  # Where it cannot be done, nothing was read before.
        container.seek(min(container.start_time or 0, 0))
    yield from _demux(container, stream)


def _demux(container: InputContainer, stream: VideoStream) -> Iterator[av.Packet]:
    for other in container.streams:
        if other is not stream:
            other.discard = av.stream.Discard.all
    # What is wrong with the rest of the file does not matter as long as there is something before it.
    with contextlib.suppress(av.FFmpegError):
        for packet in container.demux(stream):
            # The last packet is empty: it asks the decoder for the frames that it holds back.
            if packet.size:
                yield packet


def _video_stream(container: InputContainer) -> VideoStream:
    streams = [
        stream for stream in container.streams.video if not stream.disposition & av.stream.Disposition.attached_pic
    ]
    if not streams:
        kinds = sorted({stream.type for stream in container.streams})
        raise BrokenExampleError(f"the file has no video stream{', only ' * bool(kinds)}{', '.join(kinds)}")
    stream = streams[0]
    if stream.codec_context is None:
        raise BrokenExampleError("there is no decoder for the file's video stream")
    # The loader decodes many clips at a time; threads within one would only be in their way.
    stream.codec_context.thread_type = "NONE"
    stream.codec_context.thread_count = 1
    return stream


def _is_shown(packet: av.Packet, codec: str) -> bool:
    # VP8 has frames that others refer to and nobody sees. Bit 4 of the first byte says so (RFC 6386, section 9.1).
    hidden = codec in ("vp8", "libvpx") and not memoryview(packet)[0] & 0x10
    return not hidden and not packet.is_discard


def _frames_per_second(stream: VideoStream, times: list[int]) -> float:
    if len(times) > 1 and stream.time_base:
        return float((len(times) - 1) / ((max(times) - min(times)) * stream.time_base))
    return float(stream.average_rate or stream.guessed_rate or 0)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
