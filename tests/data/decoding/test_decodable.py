"""What an evaluation would stumble over is found before: against what the evaluation itself refuses."""

import numpy as np
import pytest

from posmlp_jax.data.decoding.decodable import check_decodable
from posmlp_jax.data.decoding.encoded_video import EncodedVideo
from posmlp_jax.data.decoding.images import decode, looks_whole
from posmlp_jax.data.sources.labelled import LabelledSource
from posmlp_jax.errors import BrokenExampleError, DataError


class Files(LabelledSource):
    """Examples from a list of bytes or videos."""

    def __init__(self, files: list, kind: str = "image"):
        self._files, self.kind = files, kind
        self.num_classes, self.class_names, self.description = 3, None, "files"

    def __len__(self) -> int:
        return len(self._files)

    def read(self, index: int):
        if self._files[index] is None:
            raise DataError(f"cannot read file {index}: Permission denied")
        return self._files[index], index % 3

    def example_id(self, index: int) -> str:
        return f"file {index}"


@pytest.fixture(scope="module")
def files(picture, encoded) -> list:
    """Forty good images, and between them all that may be wrong with a file."""
    files = [encoded(picture(40, 60, seed), "png" if seed % 3 else "jpeg") for seed in range(40)]
    jpeg, png = files[0], files[1]
    files[3] = jpeg[: len(jpeg) // 2]
    files[4] = jpeg[:-1]
    files[11] = b""
    files[12] = b"no image"
    files[20] = png[: len(png) // 2]
    files[39] = None
    files[5], files[6] = jpeg + bytes(50), encoded(picture(40, 60), "webp")  # These are good.
    return files


def broken(files: list) -> list[int]:
    """Those that `decode` refuses."""

    def is_broken(data):
        try:
            decode(data)
        except BrokenExampleError:
            return True
        return False

    return [index for index, data in enumerate(files) if data is None or is_broken(data)]


@pytest.mark.parametrize("decode_seconds", [100, 0])
def test_all_that_cannot_be_decoded_are_named(files, decode_seconds):
    wrong = broken(files)
    assert {3, 11, 12, 20, 39} <= set(wrong) <= {3, 4, 11, 12, 20, 39}
    with pytest.raises(DataError, match=rf"^{len(wrong)} of the 40 evaluation images cannot be decoded") as error:
        check_decodable(Files(files), threads=3, decode_seconds=decode_seconds)
    text = str(error.value)
    assert [index for index in range(40) if f" file {index}: " in text] == wrong
    assert "file 11: the file is empty; file 12: not a JPEG" in text
    assert "\n" not in text
    with pytest.raises(DataError, match=rf"^{2 * len(wrong)} of the 80 .*; and {2 * len(wrong) - 10} more \(files\)$"):
        check_decodable(Files(files * 2), threads=1, decode_seconds=decode_seconds)


def test_what_was_done_is_said(files):
    good = [file for index, file in enumerate(files) if index not in broken(files)]
    lines = []
    check_decodable(Files(good), threads=2, report=lines.append)
    check_decodable(Files(good), threads=2, decode_seconds=0, report=lines.append)
    assert all(line.startswith(f"checked {len(good)} evaluation images in 0.") for line in lines)
    assert lines[0].endswith("/s)")
    assert lines[1].endswith(f"/s); of {len(good) - 1} only the header and the end of the file")  # WebP is decoded.


def test_hosts_share_the_files(files):
    wrong = broken(files)
    found = []
    for host in range(3):
        with pytest.raises(DataError) as error:
            check_decodable(Files(files), threads=1, process_index=host, process_count=3)
        found += [index for index in range(40) if f" file {index}: " in str(error.value)]
    assert sorted(found) == wrong


def test_what_looks_whole_is_no_proof_but_what_does_not_is_decoded(files):
    assert [looks_whole(files[index]) for index in (0, 1, 3, 5, 6, 11, 12, 20)] == [
        True,
        True,
        False,
        True,
        False,
        False,
        False,
        False,
    ]


def test_of_a_video_one_frame_is_enough(picture, encoded):
    frame = encoded(picture(16, 16))
    videos = [
        EncodedVideo((frame, frame), 2, 25.0, "good"),
        EncodedVideo((b"broken", frame), 2, 25.0, "half"),
        EncodedVideo((b"broken", b""), 2, 25.0, "none"),
        EncodedVideo(b"broken", 2, 25.0, "no file"),
    ]
    check_decodable(Files(videos[:2], "video"), threads=1)
    with pytest.raises(DataError, match=r"^2 of the 4 evaluation videos cannot be decoded") as error:
        check_decodable(Files(videos, "video"), threads=1)
    assert [index for index in range(4) if f"file {index}: " in str(error.value)] == [2, 3]


def test_images_that_are_not_encoded_need_no_look():
    check_decodable(Files([np.zeros((4, 4, 3), np.uint8)]), threads=1, report=lambda line: pytest.fail(line))
