"""Broken images: who takes their place, how they are counted, and when training stops."""

import itertools

import numpy as np
import pytest

from posmlp_jax.data import eval_batches, train_batches
from posmlp_jax.data.sources.labelled import LabelledSource
from posmlp_jax.errors import BrokenExampleError, DataError

pytestmark = pytest.mark.heavy


class Pictures(LabelledSource):
    """Images whose pixels all hold their index, except those that are broken."""

    def __init__(self, length: int, broken: set[int]):
        self._length, self._broken = length, broken
        self.num_classes, self.class_names, self.description = 10, None, "pictures"

    def __len__(self) -> int:
        return self._length

    def read(self, index: int):
        return (b"\xff\xd8 broken" if index in self._broken else np.full((8, 8, 3), index, np.uint8)), index % 10

    def example_id(self, index: int) -> str:
        return f"picture {index}"


@pytest.fixture
def take(make_config):
    """The batches of some steps from start_step on, and what was replaced in them."""

    def take(source, steps, start_step=0, report=print, **changes):
        config = make_config(crop="resize", flip=False, **({"max_broken": 0.5} | changes))
        batches = train_batches(source, config, (8, 8), batch_size=20, seed=3, start_step=start_step, report=report)
        try:
            return list(itertools.islice(batches, steps)), batches.broken
        finally:
            batches.close()

    return take


BROKEN = {7, 30, 31, 99}


def test_a_broken_image_is_replaced_and_the_others_stay(take):
    whole, none = take(Pictures(100, set()), 15)
    assert none.indices == set()
    batches, broken = take(Pictures(100, BROKEN), 15)  # three epochs
    assert broken.indices == BROKEN
    substitutes = []
    for batch, expected in zip(batches, whole, strict=True):
        assert batch.keys() == {"image", "label", "index"}
        was_broken = np.isin(expected["index"], list(BROKEN))
        for key in batch:
            np.testing.assert_array_equal(batch[key][~was_broken], expected[key][~was_broken])
        # Image, label and index are those of the one that came instead.
        np.testing.assert_array_equal(batch["image"][:, 0, 0, 0], batch["index"])
        np.testing.assert_array_equal(batch["label"], batch["index"] % 10)
        substitutes += batch["index"][was_broken].tolist()
    assert len(substitutes) == 3 * len(BROKEN)
    assert not BROKEN & set(substitutes)
    assert len(set(substitutes)) > len(BROKEN)  # Another one in each epoch.


def test_where_classes_are_balanced_a_broken_image_is_replaced_by_one_of_its_class(take):
    batches, broken = take(Pictures(100, BROKEN), 15, balance="classes")
    assert broken.indices == BROKEN
    for batch in batches:
        assert np.bincount(batch["label"]).tolist() == [2] * 10
        np.testing.assert_array_equal(batch["image"][:, 0, 0, 0], batch["index"])


@pytest.mark.parametrize("workers", [{"threads": 3}, {"processes": 2}])
def test_replacing_depends_on_the_place_alone(take, workers):
    expected, _ = take(Pictures(100, BROKEN), 6)
    again, broken = take(Pictures(100, BROKEN), 6, **workers)
    resumed, _ = take(Pictures(100, BROKEN), 3, start_step=3, **workers)
    assert broken.indices == BROKEN
    for one, other in zip([*expected, *expected[3:]], [*again, *resumed], strict=True):
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


def test_the_first_ten_are_named_then_the_count_when_it_doubles(take):
    lines = []
    take(Pictures(100, set(range(45))), 10, report=lines.append)
    assert len(lines) == 12
    for message in lines[:10]:
        assert message.startswith("a training image is replaced by another: picture ")
        assert "not a JPEG, PNG, WEBP, GIF or BMP image" in message
    assert [message[:39] for message in lines[10:]] == [
        "20 training images are replaced by othe",
        "40 training images are replaced by othe",
    ]


def test_too_many_stop_the_run(take):
    take(Pictures(100, BROKEN), 5, max_broken=0.04)
    message = (
        r"^4 of the 100 training images cannot be decoded, more than the share of 0.03 that data.max_broken allows, "
        r"the last: picture (7|30|31|99): not a JPEG.*; mend or delete them, or set --config.data.max_broken higher$"
    )
    with pytest.raises(DataError, match=message):
        take(Pictures(100, BROKEN), 5, max_broken=0.03)


def test_nothing_but_broken_images(take):
    with pytest.raises(DataError, match=r"50 images in a row cannot be decoded, the last: picture \d+: not a JPEG"):
        take(Pictures(100, set(range(100))), 1, max_broken=1.0)


@pytest.mark.parametrize("workers", [{}, {"threads": 2}, {"processes": 1}])
def test_evaluation_skips_nothing(make_config, workers):
    batches = eval_batches(Pictures(40, {23}), make_config(**workers), (8, 8), batch_size=10)
    with pytest.raises(DataError, match=r"picture 23: not a JPEG.* \(pictures\)"):
        list(batches)
    batches.close()


def test_a_file_that_cannot_be_read_is_not_a_broken_image(image_folder, take):
    from posmlp_jax.data.sources.image_folder import ImageFolderSource

    root = image_folder({"train/a": 20, "val/a": 1})
    source = ImageFolderSource(root, "train")
    (root / "train/a/image0.jpg").unlink()
    with pytest.raises(DataError, match="cannot read") as caught:
        take(source, 1)
    assert not isinstance(caught.value, BrokenExampleError)


class Files(LabelledSource):
    """Encoded images as they are."""

    def __init__(self, files: list[bytes]):
        self._files = files
        self.num_classes, self.class_names, self.description = 10, None, "files"

    def __len__(self) -> int:
        return len(self._files)

    def read(self, index: int):
        return self._files[index], index % 10

    def example_id(self, index: int) -> str:
        return f"file {index}"


def test_a_thousand_mutated_files_go_through_the_pipeline(make_config, mutated_files):
    config = make_config(crop="random_resized", randaugment="rand-m6-n3-mstd1.0-inc1", erasing_probability=0.5)
    config.update(max_broken=1.0, threads=2)
    batches = train_batches(Files(mutated_files), config, (16, 16), batch_size=100, seed=0)
    for batch in itertools.islice(batches, 10):
        assert batch["image"].shape == (100, 16, 16, 3)
        assert batch["image"].dtype == np.uint8
    assert 300 < len(batches.broken.indices) < 900
    batches.close()
    config.threads = 0
    whole = [data for index, data in enumerate(mutated_files) if index not in batches.broken.indices]
    images = [batch["image"] for batch in eval_batches(Files(whole), config, (16, 16), batch_size=len(whole))]
    assert images[0].shape == (len(whole), 16, 16, 3)
