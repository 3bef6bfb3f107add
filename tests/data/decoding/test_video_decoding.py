import io
import wave

import av
import numpy as np
import pytest
from PIL import Image

from posmlp_jax.data.decoding.encoded_video import EncodedVideo, open_encoded
from posmlp_jax.data.decoding.frames import _decode, _ranges, decode_frames, probe
from posmlp_jax.data.decoding.images import decode
from posmlp_jax.errors import BrokenExampleError

X264 = {"preset": "veryfast"}
KINDS = {
    "mp4, H.264, all key frames": {"codec": "libx264", "gop": 1, "options": X264},
    "mp4, H.264, B-frames": {"codec": "libx264", "gop": 12, "b_frames": 3, "options": X264},
    "mp4, H.264, one key frame": {"codec": "libx264", "gop": 250, "b_frames": 3, "options": X264},
    "mp4, MPEG-4": {"codec": "mpeg4", "gop": 10},
    "mp4, MPEG-4, B-frames": {"codec": "mpeg4", "gop": 10, "b_frames": 2},
    "mp4, HEVC": {"codec": "libx265", "gop": 10, "options": {"x265-params": "log-level=none", "preset": "veryfast"}},
    "mov, MPEG-4": {"form": "mov", "codec": "mpeg4"},
    "mkv, H.264, open groups": {
        "form": "matroska",
        "codec": "libx264",
        "options": {"x264-params": "open-gop=1:bframes=3:keyint=10:min-keyint=10:scenecut=0"},
    },
    "ts, H.264, open groups": {
        "form": "mpegts",
        "codec": "libx264",
        "options": {"x264-params": "open-gop=1:bframes=3:keyint=10:min-keyint=10:scenecut=0"},
    },
    "webm, VP8": {"form": "webm", "codec": "libvpx", "gop": 20, "options": {"deadline": "realtime", "cpu-used": "8"}},
    "webm, VP9": {"form": "webm", "codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}},
    "avi, MPEG-4": {"form": "avi", "codec": "mpeg4"},
    "avi, H.264, B-frames": {"form": "avi", "codec": "libx264", "b_frames": 3, "options": X264},
    "avi, MJPEG": {"form": "avi", "codec": "mjpeg", "pixels": "yuvj420p"},
    "mp4, H.264, 10 bits": {"codec": "libx264", "pixels": "yuv420p10le", "options": X264},
    "mp4, H.264, grey": {"codec": "libx264", "pixels": "gray", "options": X264},
}


def decode_everything(data: bytes) -> np.ndarray:
    """All frames in the order in which PyAV's own loop gives them."""
    with av.open(io.BytesIO(data)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def video(data: bytes | tuple[bytes, ...], num_frames: int = 40) -> EncodedVideo:
    return EncodedVideo(data, num_frames, 25.0, "clip")


@pytest.fixture(scope="module", params=KINDS, ids=list(KINDS))
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def file(kind, moving_picture, encoded_video):
    return encoded_video(moving_picture(), **KINDS[kind])


def test_frames_are_those_of_decoding_everything(kind, file, tmp_path, monkeypatch):
    if kind != "avi, H.264, B-frames":
        # All frames come out at the first try, from the key frames before them.
        monkeypatch.setattr("posmlp_jax.data.decoding.frames._decode_in_order", None)
    expected = decode_everything(file)
    assert expected.shape == (40, 64, 96, 3)
    rng = np.random.default_rng(0)
    for indices in (np.arange(40), [39], [17], np.arange(3, 40, 4), rng.integers(0, 40, 16), [25, 25, 2, 38, 2]):
        frames, numbers = decode_frames(video(file), indices)
        assert frames.dtype == np.uint8
        np.testing.assert_array_equal(numbers, indices)
        np.testing.assert_array_equal(frames, expected[indices])
    # Of a file on the disk no packets are held.
    (tmp_path / "clip").write_bytes(file)
    on_disk = open_encoded(tmp_path / "clip")
    assert (on_disk.num_frames, on_disk.fps) == (40, pytest.approx(25, rel=0.01))
    frames, numbers = decode_frames(on_disk, indices)
    np.testing.assert_array_equal(frames, expected[indices])
    np.testing.assert_array_equal(numbers, indices)


def test_ranges_of_packets_hold_only_what_they_share():
    ranges = [(0, 10), (5, 8), (9, 20), (19, 20), (30, 40), (38, 45)]
    read = []
    packets = (read.append(number) or number for number in range(100))
    given = _ranges(packets, ranges)
    for start, end in ranges:
        assert [next(given) for _ in range(start, end)] == list(range(start, end))
        assert next(given) is None
    assert list(given) == []
    assert read == list(range(45))
    # A file that has become shorter.
    assert list(_ranges(iter(range(7)), [(2, 4), (5, 9)])) == [2, 3, None, 5, 6, None]


def test_probe(file):
    info = probe(file)
    assert info.num_frames == 40
    assert info.fps == pytest.approx(25, rel=0.01)


def test_frames_look_like_what_was_encoded(moving_picture, encoded_video):
    clip = moving_picture()
    data = encoded_video(clip, codec="libx264", b_frames=3, options={"crf": "10"})
    indices = [38, 3, 20]
    frames, _ = decode_frames(video(data), indices)
    for frame, index in zip(frames, indices, strict=True):
        distances = np.abs(clip.astype(int) - frame).mean(axis=(1, 2, 3))
        assert distances.argmin() == index
        assert distances[index] < 6  # Colours are stored at half the size.


def test_only_what_is_needed_is_decoded(moving_picture, encoded_video, monkeypatch):
    data = encoded_video(moving_picture(), codec="mpeg4", gop=10)
    put_in = []
    monkeypatch.setattr(
        "posmlp_jax.data.decoding.frames._decode", lambda codec, packet: put_in.append(packet) or _decode(codec, packet)
    )
    decode_frames(video(data), [32, 5])
    # From the key frames 0 and 30; each time the decoder is emptied.
    assert [packet and packet.pts for packet in put_in] == [*range(6), None, 30, 31, 32, None]


def test_frames_that_are_not_shown(moving_picture, encoded_video):
    """VP8 has frames that only others refer to; WebM files hold them as packets of their own."""
    data = bytearray(encoded_video(moving_picture(), **KINDS["webm, VP8"]))
    with av.open(io.BytesIO(bytes(data))) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    for number in (4, 11, 30):
        data[data.index(packets[number])] &= ~0x10
    expected = decode_everything(bytes(data))
    assert len(expected) == probe(bytes(data)).num_frames == 37
    frames, numbers = decode_frames(video(bytes(data), 37), range(37))
    np.testing.assert_array_equal(frames, expected)
    assert numbers.tolist() == list(range(37))


def test_a_file_by_its_path(moving_picture, encoded_video, tmp_path):
    (tmp_path / "clip.mp4").write_bytes(encoded_video(moving_picture()))
    assert probe(tmp_path / "clip.mp4") == probe((tmp_path / "clip.mp4").read_bytes())
    with pytest.raises(FileNotFoundError):
        probe(tmp_path / "none.mp4")


def test_frames_beyond_the_end(moving_picture, encoded_video):
    data = encoded_video(moving_picture(10))
    frames, numbers = decode_frames(video(data, 10), [9, 10, 50, 3])
    np.testing.assert_array_equal(frames, decode_everything(data)[[9, 9, 9, 3]])
    assert numbers.tolist() == [9, 9, 9, 3]
    with pytest.raises(IndexError, match="frame -1 of clip: frames are numbered from 0"):
        decode_frames(video(data), [0, -1])


def test_variable_frame_rate(moving_picture, encoded_video):
    times = list(np.cumsum([7, 400, 40] * 8))
    data = encoded_video(moving_picture(24), "matroska", "libx264", gop=6, b_frames=2, times=times, options=X264)
    assert probe(data).num_frames == 24
    assert probe(data).fps == pytest.approx(23 / ((times[-1] - times[0]) / 1000), rel=0.01)
    frames, numbers = decode_frames(video(data), [20, 1, 7])
    np.testing.assert_array_equal(frames, decode_everything(data)[[20, 1, 7]])
    assert numbers.tolist() == [20, 1, 7]


# What turns the stored picture upright: PyAV counts angles counterclockwise, and mirrors before it turns.
@pytest.mark.parametrize(
    ("rotation", "upright"),
    [
        ((90,), lambda clip: np.rot90(clip, 1, (1, 2))),
        ((180,), lambda clip: np.rot90(clip, 2, (1, 2))),
        ((-90,), lambda clip: np.rot90(clip, -1, (1, 2))),
        ((0, True), lambda clip: clip[:, :, ::-1]),
        ((0, False, True), lambda clip: clip[:, ::-1]),
    ],
)
def test_rotated_videos_are_turned_upright(moving_picture, encoded_video, rotation, upright):
    data = encoded_video(moving_picture(6), rotation=rotation)
    stored = decode_everything(data)
    if len(rotation) == 1:
        with av.open(io.BytesIO(data)) as container:
            assert abs(next(container.decode(video=0)).rotation) == abs(rotation[0])
    expected = upright(stored)
    frames, _ = decode_frames(video(data), range(6))
    np.testing.assert_array_equal(frames, expected)


@pytest.mark.parametrize(("height", "width"), [(63, 97), (64, 95), (17, 2), (33, 31)])
def test_odd_sizes(moving_picture, encoded_video, height, width):
    clip = moving_picture(8, height, width)
    data = encoded_video(clip, "webm", "libvpx", options={"crf": "4", "b": "4M", "deadline": "realtime"})
    frames, _ = decode_frames(video(data), range(8))
    assert frames.shape == clip.shape
    np.testing.assert_array_equal(frames, decode_everything(data))
    assert np.abs(frames.astype(int) - clip).mean() < 12


@pytest.mark.parametrize(
    ("height", "width", "side", "size"),
    [
        (64, 96, 32, (32, 48)),
        (96, 64, 32, (48, 32)),
        (64, 64, 32, (32, 32)),
        (64, 90, 31, (31, 44)),  # 43.6
        (32, 48, 80, (80, 120)),
        (64, 96, 64, (64, 96)),
        (64, 96, 0, (64, 96)),
        (16, 272, 8, (16, 272)),  # Longer than 16 times its width.
    ],
)
def test_frames_are_brought_to_a_shorter_side(moving_picture, encoded_video, encoded, height, width, side, size):
    clip = moving_picture(3, height, width)
    # What the mean of the pixels that a pixel covers would be, of the smooth picture that was encoded.
    wanted = [np.asarray(Image.fromarray(frame).resize(size[::-1], Image.Resampling.BOX)) for frame in clip]
    files = encoded_video(clip), encoded_video(clip, rotation=(90,)), tuple(encoded(frame, "png") for frame in clip)
    for data, turned in zip(files, (False, True, False), strict=True):
        frames, _ = decode_frames(video(data), [0, 1, 2], shorter_side=side)
        upright = np.rot90(frames, -1, (1, 2)) if turned else frames
        assert upright.shape[1:3] == size
        assert np.abs(upright.astype(float) - wanted).mean() < (8 if isinstance(data, bytes) else 4)


def test_pixels_that_are_not_square_stay_as_they_are(moving_picture, encoded_video):
    data = encoded_video(moving_picture(4), codec="libx264", options={**X264, "aspect": "4:1"})
    with av.open(io.BytesIO(data)) as container:
        assert container.streams.video[0].sample_aspect_ratio not in (None, 1)
    assert decode_frames(video(data), [0])[0].shape == (1, 64, 96, 3)


def test_a_file_that_breaks_off(moving_picture, encoded_video, tmp_path):
    original = encoded_video(moving_picture(), codec="libx264", gop=10, options={**X264, "crf": "15"})
    # As files for streaming are: what says where the frames are stands at the beginning.
    with (
        av.open(io.BytesIO(original)) as source,
        av.open(str(tmp_path / "clip.mp4"), "w", options={"movflags": "+faststart"}) as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    data = (tmp_path / "clip.mp4").read_bytes()
    expected = decode_everything(data)
    for share in (0.95, 0.7, 0.4):
        cut = data[: int(share * len(data))]
        frames, numbers = decode_frames(video(cut), range(40))
        good = numbers[-1] + 1
        assert numbers.tolist() == [*range(good), *[good - 1] * (40 - good)]
        assert 40 * (share - 0.3) < good < 40 * share
        np.testing.assert_array_equal(frames[:good], expected[:good])
        assert (frames[good:] == frames[good - 1]).all()
        assert good <= probe(cut).num_frames <= good + 1


def test_damaged_packets_give_the_frame_before(moving_picture, encoded_video):
    data = bytearray(encoded_video(moving_picture(), "avi", "mjpeg", pixels="yuvj420p"))
    expected = decode_everything(bytes(data))
    with av.open(io.BytesIO(bytes(data))) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    for number in (0, 1, 20, 21):
        start = data.index(bytes(packets[number])[:200])
        data[start : start + packets[number].size] = bytes(packets[number].size)
    frames, numbers = decode_frames(video(bytes(data)), range(40))
    assert numbers.tolist() == [2, 2, *range(2, 20), 19, 19, *range(22, 40)]
    np.testing.assert_array_equal(frames, expected[numbers])
    frames, numbers = decode_frames(video(bytes(data)), [21, 0, 5])
    assert numbers.tolist() == [19, 2, 5]
    np.testing.assert_array_equal(frames, expected[numbers])


def test_no_video(moving_picture, encoded_video, encoded, picture):
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(16000))
    with av.open(io.BytesIO(buffer.getvalue())) as source, av.open(audio := io.BytesIO(), "w", format="mp4") as target:
        stream = target.add_stream("aac", rate=8000)
        for frame in source.decode(audio=0):
            target.mux(stream.encode(frame))
        target.mux(stream.encode())
    whole = encoded_video(moving_picture(4))
    cases = {
        "the file is empty": b"",
        r"the file has no video stream, only audio": audio.getvalue(),
        r"not a video file, or a broken one \(": whole[: len(whole) // 2],  # Where the frames are, stands at the end.
    }
    for message, data in cases.items():
        for read in (probe, lambda data: decode_frames(video(data), [0])):
            with pytest.raises(BrokenExampleError, match=message):
                read(data)
    for data in (b"no video", "text\n" * 1000, encoded(picture(64, 64)), np.random.default_rng(0).bytes(5000)):
        with pytest.raises(BrokenExampleError, match="not a video file, or a broken one"):
            probe(data.encode() if isinstance(data, str) else data)


def test_playlists_open_no_other_file(moving_picture, encoded_video, tmp_path):
    (tmp_path / "clip.mp4").write_bytes(encoded_video(moving_picture(4)))
    for text in (
        f"ffconcat version 1.0\nfile {tmp_path}/clip.mp4\n",
        f"#EXTM3U\n#EXTINF:1,\nfile://{tmp_path}/clip.mp4\n",
    ):
        with pytest.raises(BrokenExampleError, match="not a video file"):
            probe(text.encode())


def test_frames_without_pixels(moving_picture, encoded_video):
    data = encoded_video(moving_picture(), "avi", "mjpeg", pixels="yuvj420p")
    with av.open(io.BytesIO(data)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    for packet in packets:
        data = data.replace(packet, bytes(len(packet)))
    for read in (probe, lambda data: decode_frames(video(data), [0])):
        with pytest.raises(BrokenExampleError, match="no frame of the video can be decoded"):
            read(data)


@pytest.mark.parametrize("name", ["mp4, H.264, B-frames", "webm, VP8", "avi, MPEG-4"])
def test_mutated_files_decode_or_are_refused(moving_picture, encoded_video, name):
    whole = encoded_video(moving_picture(20), **KINDS[name])
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(int(rng.integers(1, 4))):
            # Headers are short and matter most.
            start = int(rng.integers(300 if rng.random() < 0.3 else len(data)))
            length = int(rng.integers(1, 30))
            data[start : start + length] = rng.bytes(int(rng.choice([0, length, 2 * length])))
        try:
            count = probe(bytes(data)).num_frames
            frames, numbers = decode_frames(video(bytes(data), count), [0, 7, 13, 19])
            assert frames.shape[0] == 4
            assert frames.shape[3] == 3
            assert numbers.shape == (4,)
            assert 0 <= numbers.min() <= numbers.max() < 20
        except BrokenExampleError:
            refused += 1
    assert refused < 58


def test_folders_of_images(moving_picture, encoded):
    clip = moving_picture(12, 130, 170)
    images = tuple(encoded(frame, quality=95) for frame in clip)
    expected = np.stack([decode(image) for image in images])
    frames, numbers = decode_frames(video(images), [7, 0, 7, 11])
    np.testing.assert_array_equal(frames, expected[[7, 0, 7, 11]])
    assert numbers.tolist() == [7, 0, 7, 11]
    broken = tuple(b"nonsense" if i in (0, 1, 5, 6) else image for i, image in enumerate(images))
    frames, numbers = decode_frames(video(broken), [0, 4, 6, 8, 30])
    np.testing.assert_array_equal(frames, expected[[2, 4, 4, 8, 11]])
    assert numbers.tolist() == [2, 4, 4, 8, 11]
    smaller, _ = decode_frames(video(images), [3], min_size=(40, 40))
    np.testing.assert_array_equal(smaller[0], decode(images[3], (40, 40)))
    assert smaller.shape[1] < 130
    with pytest.raises(BrokenExampleError, match="no frame of the video can be decoded, the last: not a JPEG"):
        decode_frames(video((b"nonsense",) * 3), [1])


def test_images_of_several_sizes(picture, encoded):
    images = (encoded(picture(40, 60)), encoded(picture(20, 30)))
    frames, _ = decode_frames(video(images), [1, 0])
    assert frames.shape == (2, 40, 60, 3)


def test_what_is_kept_of_each_frame(moving_picture, encoded_video, encoded):
    clip = moving_picture(12)
    wanted = [7, 0, 7, 40]
    for data in (encoded_video(clip, **KINDS["mp4, MPEG-4"]), tuple(encoded(frame) for frame in clip)):
        whole, numbers = decode_frames(video(data, 12), wanted)
        shapes = []

        def corner(frame, shapes=shapes):
            shapes.append(frame.shape)
            return frame[:3, :5, 0]

        corners, same = decode_frames(video(data, 12), wanted, None, corner)
        np.testing.assert_array_equal(corners, whole[:, :3, :5, 0])
        np.testing.assert_array_equal(same, numbers)
        # Each frame once, one after the other.
        assert shapes == [whole.shape[1:]] * 3
