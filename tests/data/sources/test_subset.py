"""Stratified subsets: how many of each class, which, and what it takes to read labels."""

import re
import shutil
import time

import numpy as np
import pytest

from posmlp_jax.data import open_source, train_batches
from posmlp_jax.data.sources.labelled import LabelledSource
from posmlp_jax.data.sources.subset import stratified_subset
from posmlp_jax.data.sources.tfds_layout import PreparedSource, find_prepared
from posmlp_jax.errors import ConfigError, DataError


class Labels(LabelledSource):
    """Images that cannot be decoded, with the given labels."""

    def __init__(self, labels):
        self._labels = labels
        self.num_classes, self.class_names, self.description = 10, tuple("abcdefghij"), "labels"

    def __len__(self) -> int:
        return len(self._labels)

    def read(self, index: int):
        return b"image %d" % index, self._labels[index]

    def example_id(self, index: int) -> str:
        return f"image {index}"


def names(source: LabelledSource) -> list[str]:
    return [source.example_id(index) for index in range(len(source))]


def test_each_class_keeps_its_share():
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2, 5, 9], [100, 41, 7, 1, 300])).tolist()
    source = Labels(labels)
    for fraction, counts in ((0.5, [50, 20, 4, 1, 150]), (0.1, [10, 4, 1, 1, 30]), (1e-6, [1] * 5)):
        subset = stratified_subset(source, fraction)
        examples = [subset[index] for index in range(len(subset))]
        kept = np.bincount([label for _, label in examples], minlength=10)
        assert kept[[0, 1, 2, 5, 9]].tolist() == counts
        assert len(subset) == kept.sum() == sum(counts)
        for index, (image, label) in enumerate(examples):
            assert image.decode() == subset.example_id(index)
            assert label == labels[int(subset.example_id(index).split()[1])]
        assert len(set(names(subset))) == len(subset)
        assert (subset.num_classes, subset.class_names) == (10, tuple("abcdefghij"))
    assert stratified_subset(source, 1.0) is source


def test_the_same_images_every_time_and_nested():
    source = Labels([index % 3 for index in range(60)])
    half, third = stratified_subset(source, 0.5), stratified_subset(source, 1 / 3)
    assert names(stratified_subset(Labels([index % 3 for index in range(60)]), 0.5)) == names(half)
    assert set(names(third)) < set(names(half))
    # For good: those of each class whose numbers have the smallest SHA-256.
    assert names(stratified_subset(source, 0.1)) == [f"image {index}" for index in (39, 49, 50, 51, 53, 55)]


def test_the_mean_place_is_the_middle():
    indices = [int(name.split()[1]) for name in names(stratified_subset(Labels([0] * 4000), 0.5))]
    assert np.mean(indices) == pytest.approx(2000, abs=60)  # 3 standard deviations of 4000 / √12 / √2000 / √2


@pytest.mark.parametrize("fraction", [0.0, -0.5, 1.5])
def test_shares_that_are_none(make_config, digits_dir, fraction):
    config = make_config(data_dir=str(digits_dir), train_fraction=fraction)
    with pytest.raises(ConfigError, match=rf"data.train_fraction must be a share in \(0, 1\], not {fraction}"):
        open_source(config, "train")


def test_labels_out_of_range():
    with pytest.raises(DataError, match=r"label 10 of image 1 is outside \[0, 10\) \(labels\)"):
        stratified_subset(Labels([0, 10, -1]), 0.5)


@pytest.fixture
def forbid_decoding(monkeypatch):
    def decode(*_):
        raise AssertionError("an image was decoded")

    monkeypatch.setattr("posmlp_jax.data.decoding.images.decode", decode)
    monkeypatch.setattr("posmlp_jax.data.decoding.examples.decode", decode)


def test_prepared_data(make_config, digits_dir, tmp_path, forbid_decoding):
    shutil.copytree(digits_dir / "digits", tmp_path / "digits")
    config = make_config(train_fraction=0.25)
    whole = PreparedSource(find_prepared("digits", str(tmp_path)), "train")
    labels = np.array([whole[index][1] for index in range(len(whole))])
    subset = open_source(config, "train")
    assert np.bincount([subset[index][1] for index in range(len(subset))]).tolist() == [
        round(0.25 * count) for count in np.bincount(labels)
    ]
    assert subset.description.startswith(f"{len(subset)} images, a share of 0.25 of each class, of digits train in")
    assert re.search(r" \(labels read in \d+ s\)$", subset.description)
    assert len(open_source(config, "eval")) == 360
    # The labels are kept beside the data, each split its own.
    file = tmp_path / "digits/1.0.0/labels-train.npy"
    np.testing.assert_array_equal(np.load(file), labels)
    np.save(file, np.roll(labels, 1))
    assert names(open_source(config, "train")) != names(subset)
    np.save(file, labels[:-1])  # Of another length: not these.
    assert names(open_source(config, "train")) == names(subset)
    config.train_split = "train[:50%]"
    assert len(open_source(config, "train")) < len(subset) * 0.6
    assert sorted(path.name for path in file.parent.glob("labels*")) == ["labels-train%5B%3A50%25%5D.npy", file.name]


def test_a_data_folder_that_cannot_be_written(make_config, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    open_source(make_config(), "train")
    monkeypatch.setattr("posmlp_jax.data.sources.tfds_layout.atomic_write", refuse)
    assert len(open_source(make_config(train_fraction=0.5), "train")) == pytest.approx(1437 / 2, abs=5)
    assert not list((tmp_path / "digits/1.0.0").glob("labels*"))


def test_folders_and_generated_images(make_config, image_folder, forbid_decoding):
    root = image_folder({"train/a": 8, "train/b": 5, "train/c": 1, "val/a": 1})
    for path in (root / "train").glob("*/*"):
        path.write_bytes(b"")  # Labels come from the folders.
    config = make_config(name="image_folder", data_dir=str(root), eval_split="", train_fraction=0.25)
    subset = open_source(config, "train")
    assert [subset.read(index)[1] for index in range(len(subset))] == [0, 0, 1, 2]
    config = make_config(name="synthetic", num_examples=50, num_classes=5, train_fraction=0.2)
    subset = open_source(config, "train", num_classes=5)
    assert sorted(subset.read(index)[1] for index in range(len(subset))) == sorted(2 * list(range(5)))


@pytest.mark.parametrize("processes", [0, 1])
def test_an_epoch_is_the_subsets(make_config, digits_dir, processes):
    config = make_config(data_dir=str(digits_dir), train_fraction=0.1, crop="resize", processes=processes)
    subset = open_source(config, "train")
    batches = train_batches(subset, config, (8, 8), batch_size=len(subset), seed=0)
    for _ in range(2):
        assert sorted(next(batches)["index"]) == list(range(len(subset)))
    batches.close()


def test_a_bar_shows_progress_where_it_takes_long(capfd):
    class Slow(Labels):
        def read(self, index: int):
            if index == 0:
                time.sleep(1.1)
            return super().read(index)

    assert Labels([0] * 600).read_labels().tolist() == [0] * 600
    assert capfd.readouterr().err == ""
    Slow([0] * 600).read_labels()
    assert "reading labels" in capfd.readouterr().err
