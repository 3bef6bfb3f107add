"""Batches of clips from real video files, repeated samples, test views, and videos that are broken or damaged."""

import dataclasses
import itertools

import numpy as np
import pytest
from helpers import assert_same_batches

from posmlp_jax.data import eval_batches, train_batches
from posmlp_jax.data.augment.augmentation import Augmentation
from posmlp_jax.data.augment.crops import uniform_crops
from posmlp_jax.data.decoding.encoded_video import EncodedVideo
from posmlp_jax.data.decoding.frame_sampling import FrameSampling
from posmlp_jax.data.decoding.frames import decode_frames
from posmlp_jax.data.sources.labelled import LabelledSource
from posmlp_jax.errors import ConfigError, DataError

pytestmark = pytest.mark.heavy

LENGTHS = (20, 9, 31, 14, 3, 25, 17)
INPUT = (4, 16, 24)
NAMES = ("to left", "to right", "still")


class Videos(LabelledSource):
    """Video files, of which some may be replaced by other bytes."""

    kind = "video"

    def __init__(self, files: list[bytes], changed: dict[int, bytes] | None = None):
        self._files = [(changed or {}).get(number, data) for number, data in enumerate(files)]
        self.num_classes, self.class_names, self.description = len(NAMES), NAMES, "clips"

    def __len__(self) -> int:
        return len(self._files)

    def read(self, index: int):
        return EncodedVideo(self._files[index], LENGTHS[index], 25.0, f"clip{index}"), index % len(NAMES)

    def example_id(self, index: int) -> str:
        return f"video {index}"


class Pictures(LabelledSource):
    """Images whose pixels all hold their index."""

    def __init__(self, length: int):
        self._length = length
        self.num_classes, self.class_names, self.description = 3, NAMES, "pictures"

    def __len__(self) -> int:
        return self._length

    def read(self, index: int):
        return np.full((8, 8, 3), index, np.uint8), index % 3

    def example_id(self, index: int) -> str:
        return f"picture {index}"


@pytest.fixture(scope="module")
def files(moving_picture, encoded_video):
    return [encoded_video(moving_picture(length, 32, 48, seed)) for seed, length in enumerate(LENGTHS)]


@pytest.fixture
def take(make_config):
    def take(source, steps, input_size=INPUT, batch_size=8, report=print, **options):
        keys = ("start_step", "process_index", "process_count")
        places = {key: options.pop(key) for key in keys if key in options}
        config = make_config(**{"crop": "random_resized", "max_broken": 0.5, **options})
        batches = train_batches(source, config, input_size, batch_size=batch_size, seed=3, report=report, **places)
        try:
            return list(itertools.islice(batches, steps)), batches
        finally:
            batches.close()

    return take


@pytest.mark.parametrize("repeats", [1, 2])
@pytest.mark.parametrize(("sampling", "fps"), [("segment", 0), ("rounded_segment", 0), ("dense", 0), ("dense", 12.5)])
def test_a_batch_is_sampled_decoded_and_augmented_place_by_place(files, take, make_config, repeats, sampling, fps):
    source, options = (
        Videos(files),
        {"repeats": repeats, "sampling": sampling, "stride": 2, "fps": fps, "randaugment": "rand-m7-n2"},
    )
    batches, _ = take(source, 5, **options)
    augment = Augmentation(make_config(crop="random_resized", **options), INPUT[1:])
    frames = FrameSampling(sampling, 4, 2, fps)
    clips = {}
    for place in range(40):
        batch, row = batches[place // 8], place % 8
        assert batch["image"].shape == (8, *INPUT, 3)
        index = int(batch["index"][row])
        rng = np.random.Generator(np.random.Philox(key=3, counter=place << 128))
        group, turn = divmod(place, 2 * repeats)
        if turn < 2:
            pixels, _ = decode_frames(source.read(index)[0], frames.train(LENGTHS[index], rng, 25.0))
            clips[group, turn] = index, pixels
        assert clips[group, turn % 2][0] == index
        wanted = np.empty((*INPUT, 3), np.uint8)
        augment.fill(wanted, clips[group, turn % 2][1], rng)
        np.testing.assert_array_equal(batch["image"][row], wanted)
        assert batch["label"][row] == index % 3


def test_frames_are_brought_to_a_side_before_anything_else(files, take, make_config):
    """32×48 as 20×30, in training before RandAugment, in testing before the crop."""
    source, seen = Videos(files), []
    batches, _ = take(source, 1, frame_side=20, randaugment="rand-m7-n2", randaugment_on="frame")
    augment = Augmentation(
        make_config(crop="random_resized", randaugment="rand-m7-n2", randaugment_on="frame"), (16, 24)
    )
    for place, index in enumerate(batches[0]["index"].tolist()):
        rng = np.random.Generator(np.random.Philox(key=3, counter=place << 128))
        frames = FrameSampling("segment", 4).train(LENGTHS[index], rng)
        pixels, _ = decode_frames(source.read(index)[0], frames, shorter_side=20)
        assert pixels.shape == (4, 20, 30, 3)
        wanted = np.empty((*INPUT, 3), np.uint8)
        augment.fill(wanted, pixels, rng)
        np.testing.assert_array_equal(batches[0]["image"][place], wanted)
    for batch in eval_batches(source, make_config(frame_side=20, eval_crop=0.8), INPUT, batch_size=1):
        (index,) = batch["index"]
        (frames,) = FrameSampling("segment", 4).test(LENGTHS[index])
        pixels, _ = decode_frames(source.read(index)[0], frames, shorter_side=20)
        wanted = [uniform_crops(frame, INPUT[1:], 0.8, 1)[0] for frame in pixels]
        np.testing.assert_array_equal(batch["image"][0], wanted)
        seen.append(index)
    assert len(seen) == len(LENGTHS)


@pytest.mark.parametrize("workers", [{"threads": 3}, {"processes": 2}])
def test_the_stream_does_not_depend_on_workers_and_resumes(files, take, workers):
    options = {"repeats": 2, "erasing_probability": 0.5}
    whole, _ = take(Videos(files), 6, **options)
    assert_same_batches(take(Videos(files), 6, **options, **workers)[0], whole)
    assert_same_batches(take(Videos(files), 2, start_step=4, **options, **workers)[0], whole[4:])


@pytest.mark.parametrize("hosts", [2, 4, 8])
@pytest.mark.parametrize("repeats", [1, 2, 4])
def test_hosts_share_the_stream(files, take, hosts, repeats):
    whole, _ = take(Videos(files), 4, repeats=repeats)
    for host in range(hosts):
        part, _ = take(Videos(files), 4, repeats=repeats, process_index=host, process_count=hosts)
        assert_same_batches(
            part, [{key: np.split(value, hosts)[host] for key, value in batch.items()} for batch in whole]
        )


@pytest.mark.parametrize("repeats", [1, 2, 3])
def test_repeats(take, repeats):
    """Every example so often an epoch, all of one batch, and never beside itself in a pair."""
    length, batch_size = 24, 12
    batches, _ = take(Pictures(length), 2 * length * repeats // batch_size, (8, 8), batch_size, repeats=repeats)
    indices = np.concatenate([batch["index"] for batch in batches])
    for epoch in indices.reshape(2, -1):
        assert (np.bincount(epoch, minlength=length) == repeats).all()
    for batch in batches:
        assert (np.unique(batch["index"], return_counts=True)[1] == repeats).all()
        assert (batch["index"][::2] != batch["index"][1::2]).all()
    plain, _ = take(Pictures(length), 2 * length // batch_size, (8, 8), batch_size)
    order = np.concatenate([batch["index"] for batch in plain])
    np.testing.assert_array_equal(indices.reshape(-1, repeats, 2)[:, 0].ravel(), order)


def test_repeated_samples_are_augmented_each_by_itself(files, take):
    (batch,), _ = take(Videos(files), 1, repeats=4)
    for index in np.unique(batch["index"]):
        samples = batch["image"][batch["index"] == index]
        assert len({sample.tobytes() for sample in samples}) == 4


def test_flips_exchange_the_labels_of_pairs(files, take):
    options = {"crop": "resize", "flip_label_pairs": (("to left", "to right"),)}
    batches, _ = take(Videos(files), 12, **options)
    plain, _ = take(Videos(files), 12, crop="resize", flip=False)
    flips = []
    for batch, other in zip(batches, plain, strict=True):
        np.testing.assert_array_equal(batch["index"], other["index"])
        for row, label in enumerate(batch["label"]):
            flipped = (batch["image"][row] == other["image"][row][:, :, ::-1]).all()
            assert flipped or (batch["image"][row] == other["image"][row]).all()
            own = batch["index"][row] % 3
            assert label == ((1, 0, 2)[own] if flipped else own)
            flips.append((flipped, own))
    assert {(flipped, own) for flipped, own in flips} == {(f, own) for f in (True, False) for own in range(3)}
    unchanged, _ = take(Videos(files), 12, crop="resize")
    assert all((batch["label"] == batch["index"] % 3).all() for batch in unchanged)


@pytest.mark.parametrize(("clips", "crops"), [(1, 1), (1, 3), (2, 1), (4, 3)])
@pytest.mark.parametrize(("sampling", "fps"), [("segment", 0), ("dense", 0), ("dense", 40)])
def test_every_video_is_tested_once_in_all_views(files, make_config, sampling, fps, clips, crops):
    config = make_config(sampling=sampling, stride=3, fps=fps, eval_crop=0.8, threads=2)
    source, seen = Videos(files), []
    for host in range(2):
        options = {"batch_size": 4, "process_index": host, "process_count": 2, "clips": clips, "crops": crops}
        for batch in eval_batches(source, config, INPUT, **options):
            assert batch.keys() == {"image", "label", "index", "weight"}
            for image, index, weight in zip(batch["image"], batch["index"], batch["weight"], strict=True):
                if not weight:
                    assert not image.any()
                    continue
                seen.append(index)
                views = []
                for frames in FrameSampling(sampling, 4, 3, fps).test(LENGTHS[index], clips, 25.0):
                    pixels, _ = decode_frames(source.read(index)[0], frames)
                    cropped = [uniform_crops(frame, INPUT[1:], 0.8, crops) for frame in pixels]
                    views += [np.stack([crop[view] for crop in cropped]) for view in range(crops)]
                np.testing.assert_array_equal(image, views[0] if len(views) == 1 else views)
    assert sorted(seen) == list(range(len(LENGTHS)))


def test_a_video_without_a_frame_rate_is_named_once(files, make_config, caplog):
    class Timeless(Videos):
        def read(self, index: int):
            video, label = super().read(index)
            return dataclasses.replace(video, fps=0.0), label

    def images(source, **options):
        config = make_config(sampling="dense", stride=3, threads=1, **options)
        return [batch["image"] for batch in eval_batches(source, config, INPUT, batch_size=4, clips=2)]

    # Taken for one of as many frames as `stride` counts.
    np.testing.assert_array_equal(images(Timeless(files), fps=25.0), images(Videos(files), fps=25.0))
    assert [record.getMessage() for record in caplog.records] == [
        "some videos do not say their frames a second, and are taken for ones of 25"
    ]
    images(Timeless(files))
    assert len(caplog.records) == 1


def test_images_have_crops_for_views(make_config):
    (batch,) = eval_batches(Pictures(5), make_config(), (8, 4), batch_size=5, crops=3)
    assert batch["image"].shape == (5, 3, 8, 4, 3)
    assert (batch["image"] == np.arange(5)[:, None, None, None, None]).all()


def damage(data: bytes) -> bytes:
    """The file with its last third of pictures overwritten; the index of an MP4 is behind them."""
    end = data.index(b"moov") - 4
    start = data.index(b"mdat") + 4
    cut = start + 2 * (end - start) // 3
    return data[:cut] + bytes(end - cut) + data[end:]


def test_broken_videos_are_replaced_and_damaged_ones_used(files, take, make_config):
    source, lines = Videos(files, {2: b"garbage" * 50, 5: damage(files[5])}), []
    whole, _ = take(Videos(files), 10)
    batches, under_way = take(source, 10, report=lines.append)
    assert under_way.broken.indices == {2}
    assert under_way.damaged.indices == {5}
    assert (
        sum(line.startswith("a training video is replaced by another: video 2: not a video file") for line in lines)
        == 1
    )
    (line,) = [line for line in lines if "sampled frame" in line]
    assert line.endswith("video 5 (clips)")
    assert len(lines) == 2
    for batch, expected in zip(batches, whole, strict=True):
        assert batch.keys() == {"image", "label", "index"}
        kept = ~np.isin(expected["index"], [2, 5])
        for key in batch:
            np.testing.assert_array_equal(batch[key][kept], expected[key][kept])
        assert 2 not in batch["index"]
        np.testing.assert_array_equal(batch["label"], batch["index"] % 3)
    again, _ = take(source, 5, start_step=5, threads=3, report=lines.append)
    assert_same_batches(again, batches[5:])
    with pytest.raises(
        DataError, match=r"1 of the 7 training videos cannot be decoded, more than the share of 0.1 that"
    ):
        take(source, 10, max_broken=0.1)


def test_a_broken_video_is_an_error_in_evaluation_and_a_damaged_one_is_named(files, make_config):
    with pytest.raises(DataError, match=r"video 2: not a video file.* \(clips\)"):
        list(eval_batches(Videos(files, {2: b"garbage" * 50}), make_config(), INPUT, batch_size=7))
    lines = []
    batches = eval_batches(
        Videos(files, {5: damage(files[5])}), make_config(), INPUT, batch_size=3, report=lines.append
    )
    assert sum(batch["weight"].sum() for batch in batches) == 7
    assert batches.damaged.indices == {5}
    assert len(lines) == 1


@pytest.mark.parametrize("make", [train_batches, eval_batches])
def test_mistakes(files, make_config, make):
    options = {"batch_size": 4} | ({"seed": 0} if make is train_batches else {})
    for source, input_size, changes, message in (
        (Videos(files), (16, 16), {}, "the model takes images, but these are videos: clips"),
        (Pictures(5), INPUT, {}, "the model takes clips of 4 frames, but these are images: pictures"),
        (Pictures(5), (8, 8), {"test_clips": 2}, "data.test_clips is 2, but these are images"),
        (Videos(files), INPUT, {"stride": 0}, "data.stride is 0, and should be 1 or more"),
        (Videos(files), INPUT, {"sampling": "sparse"}, "unknown data.sampling 'sparse'"),
        (Videos(files), INPUT, {"repeats": 0}, "data.repeats is 0, and should be 1 or more"),
        (Videos(files), INPUT, {"test_crops": 2}, "data.test_crops is 2, and should be 1 or 3"),
        (Videos(files), INPUT, {"frame_side": 2049}, r"data.frame_side is 2049, and should be 0 \(as stored\) or up"),
        (Videos(files), INPUT, {"test_average": "probabilities"}, "unknown data.test_average 'probabilities': one of"),
        (Videos(files), INPUT, {"flip_label_pairs": (("to left", "still!"),)}, "is called 'still!'; did you mean"),
    ):
        with pytest.raises(ConfigError, match=message):
            make(source, make_config(**changes), input_size, **options)
