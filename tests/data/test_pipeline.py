import gc
import itertools
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers import assert_same_batches

from posmlp_jax.data import eval_batches, open_source, pipeline, train_batches
from posmlp_jax.data.augment import augmentation
from posmlp_jax.data.decoding.images import decode
from posmlp_jax.data.sources.labelled import LabelledSource
from posmlp_jax.errors import ConfigError, DataError

pytestmark = pytest.mark.heavy

ROOT = Path(__file__).parents[2]
BATCH = 24


class Pictures(LabelledSource):
    """Images whose pixels all hold their index; one may have a wrong label."""

    def __init__(self, length: int, mislabelled: int | None = None):
        self._length, self._mislabelled = length, mislabelled
        self.num_classes, self.class_names, self.description = 10, None, "pictures"

    def __len__(self) -> int:
        return self._length

    def read(self, index: int):
        return np.full((8, 8, 3), index, np.uint8), 10 if index == self._mislabelled else index % 10

    def example_id(self, index: int) -> str:
        return f"picture {index}"


@pytest.fixture
def digits(digits_dir, make_config):
    """A config for the prepared digits, and their training images."""
    config = make_config(data_dir=str(digits_dir))
    return config, open_source(config, "train")


def take(config, source, steps, **options):
    """The batches of some steps from start_step on."""
    batches = train_batches(source, config, (8, 8), **{"batch_size": BATCH, "seed": 3, **options})
    try:
        return list(itertools.islice(batches, steps))
    finally:
        batches.close()


def test_batches(digits):
    config, source = digits
    config.update({"crop": "resize", "flip": False})
    for batch in take(config, source, 3):
        assert {key: (value.shape, value.dtype) for key, value in batch.items()} == {
            "image": ((BATCH, 8, 8, 3), np.uint8),
            "label": ((BATCH,), np.int32),
            "index": ((BATCH,), np.int64),
        }
        for image, label, index in zip(batch["image"], batch["label"], batch["index"], strict=True):
            np.testing.assert_array_equal(image, decode(source[index][0]))
            assert label == source[index][1]


@pytest.mark.parametrize("workers", [{"threads": 1}, {"threads": 5}, {"processes": 2}])
def test_the_stream_does_not_depend_on_the_workers(digits, workers):
    config, source = digits
    config.crop = "random_resized"
    expected = take(config, source, 6)
    config.update(workers)
    assert_same_batches(take(config, source, 6), expected)
    assert_same_batches(take(config, source, 2, start_step=4), expected[4:])


def test_the_stream_resumes_at_any_step(digits):
    config, source = digits
    steps = 3 * 1437 // BATCH  # three epochs, whose borders are within batches
    whole = take(config, source, steps)
    for start in (1, 59, 60, 120, steps - 1):
        assert_same_batches(take(config, source, steps - start, start_step=start), whole[start:])


@pytest.mark.parametrize("hosts", [2, 3, 8])
def test_hosts_share_the_stream(digits, hosts):
    config, source = digits
    whole = take(config, source, 70)
    parts = [take(config, source, 70, process_index=host, process_count=hosts) for host in range(hosts)]
    for step, batch in enumerate(whole):
        for host in range(hosts):
            assert_same_batches(
                [parts[host][step]], [{key: np.split(value, hosts)[host] for key, value in batch.items()}]
            )


def test_epochs_and_seeds(digits):
    config, source = digits
    config.flip = False
    indices = np.concatenate([batch["index"] for batch in take(config, source, 3 * 1437 // BATCH + 1)])
    epochs = indices[: 3 * 1437].reshape(3, 1437)
    for epoch in epochs:
        assert sorted(epoch) == list(range(1437))
    assert (epochs[0] == epochs[1]).mean() < 0.01
    assert (epochs[1] == epochs[2]).mean() < 0.01
    assert (epochs[0] == np.arange(1437)).mean() < 0.01
    # The same image is shifted otherwise in each epoch, and with each seed.
    images = np.concatenate([batch["image"] for batch in take(config, source, 3 * 1437 // BATCH + 1)])
    first, second = (images[epoch * 1437 + np.argsort(epochs[epoch])] for epoch in (0, 1))
    assert 0.7 < (first != second).any((1, 2, 3)).mean() < 1
    other = take(config, source, 1, seed=4)[0]
    assert (other["index"] != indices[:BATCH]).any()


def test_kept_images_change_nothing(digits, monkeypatch):
    config, source = digits
    kept = take(config, source, 130)
    for limit in (0, 1437 * 192 - 1):
        monkeypatch.setattr(pipeline, "KEEP_BYTES", limit)
        assert_same_batches(take(config, source, 130), kept)


@pytest.mark.parametrize("crop", augmentation.CROPS)
def test_image_sizes(make_config, crop):
    config = make_config(name="synthetic", crop=crop, crop_padding=4)
    batches = train_batches(open_source(config, "train"), config, (48, 64), batch_size=4, seed=0)
    assert next(batches)["image"].shape == (4, 48, 64, 3)
    batches = eval_batches(open_source(config, "eval"), config, (48, 64), batch_size=4)
    assert next(batches)["image"].shape == (4, 48, 64, 3)


@pytest.mark.parametrize("threads", [0, 3])
@pytest.mark.parametrize(
    ("length", "batch_size", "hosts"),
    [(23, 1, 1), (23, 4, 1), (23, 23, 1), (23, 100, 1), (23, 4, 4), (24, 6, 3), (2, 8, 4)],
)
def test_every_example_is_evaluated_once(make_config, length, batch_size, hosts, threads):
    config = make_config(threads=threads)
    streams = [
        list(
            eval_batches(
                Pictures(length), config, (8, 8), batch_size=batch_size, process_index=host, process_count=hosts
            )
        )
        for host in range(hosts)
    ]
    assert {len(stream) for stream in streams} == {-(-length // batch_size)}
    seen = []
    for batch in itertools.chain(*streams):
        assert {key: (value.shape, value.dtype) for key, value in batch.items()} == {
            "image": ((batch_size // hosts, 8, 8, 3), np.uint8),
            "label": ((batch_size // hosts,), np.int32),
            "index": ((batch_size // hosts,), np.int64),
            "weight": ((batch_size // hosts,), np.float32),
        }
        real = batch["weight"] == 1
        assert (batch["weight"][~real] == 0).all()
        assert (batch["index"][~real] == -1).all()
        np.testing.assert_array_equal(batch["image"][real, 0, 0, 0], batch["index"][real])
        np.testing.assert_array_equal(batch["label"][real], batch["index"][real] % 10)
        seen += batch["index"][real].tolist()
    assert sorted(seen) == list(range(length))


def test_cv2_has_one_thread_while_batches_are_made(digits):
    """Whichever of them ends first; then it has as many as before."""
    config, source = digits
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(3)
        first = train_batches(source, config, (8, 8), batch_size=BATCH, seed=0)
        second = eval_batches(source, config, (8, 8), batch_size=BATCH)
        assert cv2.getNumThreads() == 1
        first.close()
        first.close()
        assert cv2.getNumThreads() == 1
        next(second)
        del second
        gc.collect()
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(before)


class Threads(Pictures):
    """Tells by the label how many threads cv2 has where the images are read."""

    def read(self, index: int):
        return super().read(index)[0], cv2.getNumThreads()


def test_cv2_has_one_thread_in_loading_processes(make_config):
    config = make_config(processes=1, crop="resize")
    assert take(config, Threads(BATCH), 1)[0]["label"].tolist() == [1] * BATCH


def test_evaluation_in_processes(digits):
    config, source = digits
    expected = list(eval_batches(source, config, (8, 8), batch_size=500))
    config.processes = 2
    assert_same_batches(list(eval_batches(source, config, (8, 8), batch_size=500)), expected)


@pytest.mark.parametrize("workers", [{}, {"threads": 2}, {"processes": 1}])
def test_errors_arrive_from_workers(make_config, workers):
    config = make_config(**workers)
    with pytest.raises(DataError, match=r"label 10 of picture 7 is outside \[0, 10\) \(pictures\)") as caught:
        take(config, Pictures(100, mislabelled=7), 5)
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="label 10 of picture 7"):
        list(eval_batches(Pictures(100, mislabelled=7), config, (8, 8), batch_size=50))


def test_mistakes(make_config):
    config = make_config(crop="random")
    with pytest.raises(ConfigError, match="unknown crop 'random'"):
        take(config, Pictures(9), 1)
    with pytest.raises(ConfigError, match="unknown crop 'random'"):
        eval_batches(Pictures(9), config, (8, 8), batch_size=4)
    config.crop = "pad"
    with pytest.raises(ConfigError, match="batch size 24 must be a positive multiple of the 5 JAX processes"):
        take(config, Pictures(9), 1, process_count=5)
    with pytest.raises(ConfigError, match="batch size 0 must be"):
        eval_batches(Pictures(9), config, (8, 8), batch_size=0)
    with pytest.raises(DataError, match="no images to train on"):
        take(config, Pictures(0), 1)


def test_a_program_ends_quietly_with_batches_under_way(digits_dir):
    script = f"""
from posmlp_jax.data import open_source, train_batches
from posmlp_jax.training import default_config
if __name__ == "__main__":
    config = default_config().data
    config.update(name="digits", data_dir={str(digits_dir)!r}, crop="resize", threads=2)
    batches = train_batches(open_source(config, "train"), config, (8, 8), batch_size=8, seed=0)
    next(batches)
    config.processes = 1
    more = train_batches(open_source(config, "train"), config, (8, 8), batch_size=8, seed=0)
    next(more)
"""
    program = digits_dir / "program.py"
    program.write_text(script)
    result = subprocess.run(
        [sys.executable, program], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
