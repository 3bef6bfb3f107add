import json
import logging
import pickle
import shutil
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from array_record.python.array_record_data_source import ArrayRecordDataSource

from posmlp_jax.data import open_source
from posmlp_jax.data.decoding.images import decode
from posmlp_jax.data.prepare.datasets import digits
from posmlp_jax.data.sources.tfds_layout import PreparedSource, find_prepared
from posmlp_jax.errors import DataError


def crc32c(data: bytes) -> int:
    """The Castagnoli checksum, bit by bit, masked as in TFRecord files."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 & -(value & 1))
    value ^= 0xFFFFFFFF
    return (((value >> 15) | (value << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def tfrecord(records: list[bytes]) -> bytes:
    parts = []
    for record in records:
        length = struct.pack("<Q", len(record))
        parts += [length, struct.pack("<I", crc32c(length)), record, struct.pack("<I", crc32c(record))]
    return b"".join(parts)


@pytest.fixture(scope="session")
def tfrecord_dir(digits_dir, tmp_path_factory):
    """The same digits as in digits_dir, prepared as TFRecord."""
    folder = tmp_path_factory.mktemp("tfrecord")
    target = folder / "digits" / "1.0.0"
    shutil.copytree(digits_dir / "digits" / "1.0.0", target)
    for file in target.glob("*.array_record-*"):
        records = ArrayRecordDataSource([str(file)])
        name = file.name.replace("array_record", "tfrecord")
        (target / name).write_bytes(tfrecord([records[i] for i in range(len(records))]))
        file.unlink()
    info = json.loads((target / "dataset_info.json").read_text())
    info["fileFormat"] = "tfrecord"
    (target / "dataset_info.json").write_text(json.dumps(info))
    return folder


def test_checksum():
    assert crc32c(b"123456789") == (((0xE3069283 >> 15) | (0xE3069283 << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def test_digits_are_the_table(digits_dir, make_config):
    pixels, labels = digits.load()
    assert labels.shape == (1797,)
    config = make_config(data_dir=str(digits_dir))
    seen = {}
    for split, test in (("train", False), ("eval", True)):
        source = open_source(config, split, num_classes=10)
        for index in range(len(source)):
            number = int(source.example_id(index).split("_")[1].rstrip(")"))
            assert (number % 5 == 0) == test
            seen[number] = source[index]
    assert sorted(seen) == list(range(1797))
    for number, (image, label) in seen.items():
        assert label == labels[number]
        grey = np.rint(pixels[number] * 255 / 16).astype(np.uint8)
        np.testing.assert_array_equal(decode(image), np.repeat(grey[:, :, None], 3, axis=2))
    assert source.class_names == tuple("0123456789")
    assert str(digits_dir) in source.description


def test_digits_are_prepared_on_first_use(tmp_path, make_config, caplog):
    with caplog.at_level(logging.INFO):
        assert len(open_source(make_config(), "train")) == 1437
    assert f"preparing digits in {tmp_path}" in caplog.text


@pytest.mark.parametrize("split", ["train", "test", "train[:90%]", "train[1200:]", "train[990:1010]", "train+test"])
def test_tfrecord_gives_the_same_examples(digits_dir, tfrecord_dir, split):
    ours = PreparedSource(find_prepared("digits", str(tfrecord_dir)), split)
    builder = tfds.builder_from_directory(digits_dir / "digits" / "1.0.0")
    theirs = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
    other = PreparedSource(find_prepared("digits", str(digits_dir)), split)
    assert len(ours) == len(theirs) == len(other)
    for i in range(len(theirs)):
        assert ours[i] == other[i] == (theirs[i]["image"], theirs[i]["label"])
        assert theirs[i]["id"].decode() in ours.example_id(i)
    assert "tensorflow" not in sys.modules


def test_tfrecord_of_old_tfds_versions(tfrecord_dir, tmp_path):
    shutil.copytree(tfrecord_dir / "digits", tmp_path / "digits")
    file = tmp_path / "digits/1.0.0/dataset_info.json"
    info = json.loads(file.read_text())
    del info["fileFormat"]
    for split in info["splits"]:
        del split["filepathTemplate"]
    file.write_text(json.dumps(info))
    old = PreparedSource(find_prepared("digits", str(tmp_path)), "test")
    new = PreparedSource(find_prepared("digits", str(tfrecord_dir)), "test")
    assert [old[i] for i in range(360)] == [new[i] for i in range(360)]


def test_both_formats_side_by_side(digits_dir, tfrecord_dir, tmp_path):
    shutil.copytree(tfrecord_dir / "digits", tmp_path / "digits")
    for file in (digits_dir / "digits/1.0.0").glob("*.array_record-*"):
        shutil.copy(file, tmp_path / "digits/1.0.0")
    file = tmp_path / "digits/1.0.0/dataset_info.json"
    info = json.loads(file.read_text())
    info["alternativeFileFormats"] = ["array_record"]
    file.write_text(json.dumps(info))
    source = PreparedSource(find_prepared("digits", str(tmp_path)), "test")
    assert isinstance(source._records, ArrayRecordDataSource)
    assert len({source.example_id(i) for i in range(len(source))}) == 360


def test_prepared_sources_can_be_pickled(digits_dir, tfrecord_dir):
    for folder in (digits_dir, tfrecord_dir):
        source = PreparedSource(find_prepared("digits", str(folder)), "train[5:]")
        copy = pickle.loads(pickle.dumps(source))
        assert len(copy) == len(source)
        assert copy[7] == source[7]
        assert copy.example_id(7) == source.example_id(7)


def test_truncated_tfrecord(tfrecord_dir, tmp_path):
    shutil.copytree(tfrecord_dir / "digits", tmp_path / "digits")
    file = tmp_path / "digits/1.0.0/digits-test.tfrecord-00000-of-00001"
    whole = file.read_bytes()
    for size in (len(whole) - 1, len(whole) // 2, 5, 0):
        file.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"test.tfrecord-00000-of-00001 is broken: it ends in record \d+ of 360"):
            PreparedSource(find_prepared("digits", str(tmp_path)), "test")


def test_the_highest_version_is_taken(digits_dir, tmp_path):
    for version in ("1.0.0", "1.10.0", "1.9.0", "2.0.0.incomplete", "3.0.0"):
        shutil.copytree(digits_dir / "digits" / "1.0.0", tmp_path / "digits" / version)
    (tmp_path / "digits/3.0.0/dataset_info.json").unlink()
    assert find_prepared("digits", str(tmp_path)).name == "1.10.0"
    assert find_prepared("digits:1.9.0", str(tmp_path)).name == "1.9.0"
    with pytest.raises(DataError, match=r"no .*/digits/3.0.0/dataset_info.json"):
        find_prepared("digits:3.0.0", str(tmp_path))


def test_configs(digits_dir, tmp_path):
    shutil.copytree(digits_dir / "digits", tmp_path / "digits" / "small")
    assert find_prepared("digits", str(tmp_path)) == find_prepared("digits/small", str(tmp_path))
    shutil.copytree(digits_dir / "digits", tmp_path / "digits" / "large")
    with pytest.raises(DataError, match="'digits' is prepared in the configs large, small: say digits/large"):
        find_prepared("digits", str(tmp_path))


def test_where_tfds_keeps_data(digits_dir, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(digits_dir))
    assert find_prepared("digits", "").parent.parent == digits_dir


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "imagenet2012",
            r"data set 'imagenet2012' is not prepared: no {dir}/imagenet2012/VERSION/dataset_info.json; prepare it "
            r"with: python -m posmlp_jax.data.prepare imagenet2012 "
            r"--source=FOLDER_WITH_BOTH_TAR_FILES --data_dir={dir}",
        ),
        ("cifar10", r"python -m posmlp_jax.data.prepare cifar10 --source=cifar-10-python.tar.gz --data_dir={dir}"),
        ("cifar100", r"tfds build cifar100 --file_format=array_record --data_dir={dir}"),
        ("imagenet2013", r"neither we nor tfds know how to prepare it \(did you mean 'imagenet2012'\?\)"),
        ("mnits", r"prepare it \(did you mean 'mnist'\?\)"),
        ("my_photo", r"prepare it \(did you mean 'my_photos'\?\)"),
        *(
            (
                name,
                r"neither we nor tfds know how to prepare it \(images of your own need no preparing: "
                r"--config.data.name=image_folder --config.data.data_dir=DIR; videos do: "
                rf"python -m posmlp_jax.data.prepare video_folder --source=DIR --name={name} --data_dir={{dir}}; "
                r"images with annotated objects, too: coco_folder instead of video_folder\)",
            )
            for name in ("real_toxins", "my_clips", "mine", "dogs", "own_images", "holiday")
        ),
        ("../etc", r"'../etc' is no data set's name"),
    ],
)
def test_not_prepared(make_config, tmp_path, name, message):
    (tmp_path / "my_photos/1.0.0").mkdir(parents=True)
    (tmp_path / "my_photos/1.0.0/dataset_info.json").touch()
    with pytest.raises(DataError, match=message.format(dir=tmp_path)):
        open_source(make_config(name=name), "train")


def test_unreadable_format(digits_dir, tmp_path):
    shutil.copytree(digits_dir / "digits", tmp_path / "digits")
    file = tmp_path / "digits/1.0.0/dataset_info.json"
    file.write_text(file.read_text().replace("array_record", "riegeli"))
    with pytest.raises(
        DataError, match=r"is prepared as riegeli, which cannot be read here: .* --file_format=array_record"
    ):
        PreparedSource(find_prepared("digits", str(tmp_path)), "train")


@pytest.mark.parametrize("split", ["validation", "train[:abc]", "train[", ""])
def test_split_missing(digits_dir, split):
    with pytest.raises(DataError, match=r"split '.*' of digits in .* cannot be read: the splits are train, test"):
        PreparedSource(find_prepared("digits", str(digits_dir)), split)


def test_empty_split(digits_dir):
    with pytest.raises(DataError, match=r"split 'train\[:0\]' of digits in .* is empty"):
        PreparedSource(find_prepared("digits", str(digits_dir)), "train[:0]")


def test_missing_shard(digits_dir, tmp_path):
    shutil.copytree(digits_dir / "digits", tmp_path / "digits")
    (tmp_path / "digits/1.0.0/digits-train.array_record-00001-of-00002").unlink()
    with pytest.raises(
        DataError, match=r"1 of 2 files of digits train are missing in .*, digits-train.array_record-00001"
    ):
        PreparedSource(find_prepared("digits", str(tmp_path)), "train")


def test_more_classes_than_the_model(digits_dir, make_config):
    with pytest.raises(DataError, match=r"the model has 9 classes, but the data 10 .*--config.model.num_classes=10"):
        open_source(make_config(data_dir=str(digits_dir)), "train", num_classes=9)
    assert open_source(make_config(data_dir=str(digits_dir)), "train", num_classes=20).num_classes == 10


def test_label_out_of_range(digits_dir):
    source = PreparedSource(find_prepared("digits", str(digits_dir)), "train")
    source.num_classes = 3
    bad = next(i for i in range(len(source)) if source.read(i)[1] >= 3)
    with pytest.raises(DataError, match=rf"label \d of train:{bad} \(digit_\d+\) is outside \[0, 3\)"):
        source[bad]


@pytest.fixture
def with_label_feature(digits_dir, tmp_path):
    """Digits whose labels are said to be another feature; labels of examples lie in records as they did."""

    def change(**feature) -> Path:
        shutil.copytree(digits_dir / "digits", tmp_path / "digits", dirs_exist_ok=True)
        file = tmp_path / "digits/1.0.0/features.json"
        features = json.loads(file.read_text())
        features["featuresDict"]["features"]["label"] = feature
        file.write_text(json.dumps(features))
        return tmp_path

    return change


SCALAR = "tensorflow_datasets.core.features.scalar.Scalar"
TENSOR = "tensorflow_datasets.core.features.tensor_feature.Tensor"


def test_plain_integers_as_labels(with_label_feature, make_config):
    """There are as many classes as the highest label of all splits says, whichever split is opened."""
    plain = {"shape": {"dimensions": []}, "dtype": "int64", "encoding": "none"}
    folder = with_label_feature(pythonClassName=SCALAR, tensor=plain)
    config = make_config(data_dir=str(folder), train_split="train[:7]", eval_split="test[:2]")
    for split, length in (("train", 7), ("eval", 2)):
        source = open_source(config, split)
        assert (source.num_classes, source.class_names, len(source)) == (10, None, length)
        assert max(source.read_labels()) < 9  # These few do not tell.
    with pytest.raises(DataError, match=r"label \d of train\[:7\]:\d \(digit_\d+\) is outside \[0, 1\)"):
        open_source(config, "train", num_classes=1).read_labels()
    assert open_source(config, "train", num_classes=12).num_classes == 12


@pytest.mark.parametrize(
    ("dimensions", "dtype", "what"), [([], "float32", r"float32 \[\]"), (["2"], "int64", r"int64 \[2\]")]
)
def test_labels_that_are_no_classes(with_label_feature, make_config, dimensions, dtype, what):
    tensor = {"shape": {"dimensions": dimensions}, "dtype": dtype, "encoding": "none"}
    folder = with_label_feature(pythonClassName=TENSOR, tensor=tensor)
    with pytest.raises(DataError, match=rf"digits in .* has labels of type {what}; classification needs one whole"):
        open_source(make_config(data_dir=str(folder)), "train")


def test_other_kinds_of_data(digits_dir, tmp_path):
    shutil.copytree(digits_dir / "digits", tmp_path / "digits")
    file = tmp_path / "digits/1.0.0/features.json"
    features = json.loads(file.read_text())
    features["featuresDict"]["features"]["answer"] = features["featuresDict"]["features"].pop("label")
    file.write_text(json.dumps(features))
    with pytest.raises(DataError, match="has no feature 'label': it has answer, id, image"):
        PreparedSource(find_prepared("digits", str(tmp_path)), "train")
