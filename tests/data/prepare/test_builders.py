import gzip
import io
import json
import pickle
import struct
import tarfile

import numpy as np
import pytest
from PIL import Image

from posmlp_jax.data.decoding.images import decode
from posmlp_jax.data.prepare.datasets import cifar10, imagenet
from posmlp_jax.data.prepare.prepare import prepare
from posmlp_jax.data.sources.tfds_layout import PreparedSource
from posmlp_jax.errors import DataError

BATCH = 20


def tar(files: dict[str, bytes], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def python2_pickle(data: np.ndarray, labels: list[int]) -> bytes:
    """A batch as Python 2 and the NumPy of 2009 wrote it: protocol 2 with byte strings."""
    raw = data.tobytes()
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR"
        + b"(K\x01" + b"J" + struct.pack("<i", data.shape[0]) + b"M" + struct.pack("<H", data.shape[1]) + b"\x86"
        + b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        + b"\x89T" + struct.pack("<i", len(raw)) + raw + b"tb"
    )  # fmt: skip
    numbers = b"".join(b"K" + bytes([label]) for label in labels)
    return b"\x80\x02}(U\x04data" + array + b"U\x06labels](" + numbers + b"eu."


@pytest.fixture
def cifar(monkeypatch):
    """Six batches, (images [20, 32, 32, 3], labels), and the same as files of the three kinds."""
    monkeypatch.setattr(cifar10, "PER_BATCH", BATCH)
    rng = np.random.default_rng(0)
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    batches = {
        name: (rng.integers(0, 256, (BATCH, 32, 32, 3), dtype=np.uint8), rng.integers(0, 10, BATCH).tolist())
        for name in names
    }
    python, binary, png = {"batches.meta": b""}, {}, {}
    for name, (images, labels) in batches.items():
        # Colours first, as in the official files.
        planar = np.stack([images[..., 0], images[..., 1], images[..., 2]], axis=1).reshape(BATCH, 3072)
        python[name] = python2_pickle(planar, labels)
        binary[name + ".bin"] = b"".join(
            bytes([label]) + row.tobytes() for label, row in zip(labels, planar, strict=True)
        )
        buffer = io.BytesIO()
        Image.fromarray(images.reshape(BATCH, 1024, 3)).save(buffer, "png")
        png[name + ".png"] = buffer.getvalue()
    png["train_lables.json"] = json.dumps([label for name in names[:5] for label in batches[name][1]]).encode()
    png["test_lables.json"] = json.dumps(batches["test_batch"][1]).encode()
    return batches, {"cifar-10-batches-py": python, "cifar-10-batches-bin": binary, "package": png}


def test_python2_pickle_is_one():
    data = np.arange(2 * 3072, dtype=np.uint64).astype(np.uint8).reshape(2, 3072)
    batch = pickle.loads(python2_pickle(data, [3, 4]), encoding="bytes")
    np.testing.assert_array_equal(batch[b"data"], data)
    assert batch[b"labels"] == [3, 4]


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("kind", ["cifar-10-batches-py", "cifar-10-batches-bin", "package"])
def test_cifar10_from_every_source(cifar, tmp_path, kind, packed):
    batches, kinds = cifar
    source = tmp_path / ("archive.tar.gz" if packed else kind)
    if packed:
        source.write_bytes(tar({f"{kind}/{name}": data for name, data in kinds[kind].items()}, "w:gz"))
    else:
        source.mkdir()
        for name, data in kinds[kind].items():
            (source / name).write_bytes(data)
    folder = prepare("cifar10", str(source), str(tmp_path))
    for split, names in (("train", list(batches)[:5]), ("test", ["test_batch"])):
        images = np.concatenate([batches[name][0] for name in names])
        labels = [label for name in names for label in batches[name][1]]
        prepared = PreparedSource(folder, split)
        assert prepared.class_names[3] == "cat"
        seen = set()
        for i in range(len(prepared)):
            number = int(prepared.example_id(i)[:-1].split("_")[1])
            seen.add(number)
            image, label = prepared[i]
            np.testing.assert_array_equal(decode(image), images[number])
            assert label == labels[number]
        assert seen == set(range(len(labels)))


def test_broken_cifar10(cifar, tmp_path):
    _, kinds = cifar
    files = kinds["cifar-10-batches-py"]

    def load(contents: dict[str, bytes]):
        source = tmp_path / "source.tar"
        source.write_bytes(tar(contents))
        return cifar10.load(source)

    load(files)
    with pytest.raises(DataError, match="is incomplete: it holds no test_batch"):
        load({name: data for name, data in files.items() if name != "test_batch"})
    with pytest.raises(DataError, match=r"is broken \(.*truncated"):
        load({**files, "data_batch_2": files["data_batch_2"][:1000]})
    with pytest.raises(DataError, match="holds 99 train images and 99 labels instead of 100"):
        load({**files, "data_batch_2": python2_pickle(np.zeros((19, 3072), np.uint8), [0] * 19)})
    with pytest.raises(DataError, match=r"it wants to load posix.system"):
        load({**files, "data_batch_1": b"\x80\x02cposix\nsystem\n(U\x04truetR."})
    half = tmp_path / "half.tar.gz"
    half.write_bytes(tar(files, "w:gz")[:20000])
    with pytest.raises(DataError, match="not an archive that can be read"):
        cifar10.load(half)
    half.write_bytes(gzip.compress(b"something else"))
    with pytest.raises(DataError, match="not an archive that can be read"):
        cifar10.load(half)


def test_imagenet_labels():
    assert len(imagenet.synsets()) == 1000
    assert imagenet.synsets() == sorted(imagenet.synsets())
    assert imagenet.synsets()[0] == "n01440764"
    labels = imagenet.validation_synsets()
    assert len(labels) == 50_000
    assert {labels.count(synset) for synset in imagenet.synsets()} == {50}
    # ILSVRC2012_val_00000001.JPEG is a sea snake.
    assert labels[0] == "n01751748"


@pytest.fixture
def ilsvrc(tmp_path, picture, encoded, monkeypatch):
    """The two tar files with 7 classes of 3 images and 10 validation images; returns folder and contents."""
    classes = [f"n{number:08d}" for number in (101, 202, 303, 404, 505, 606, 707)]
    validation_labels = [classes[i * 5 % 7] for i in range(10)]
    monkeypatch.setattr(imagenet, "synsets", lambda: classes)
    monkeypatch.setattr(imagenet, "validation_synsets", lambda: validation_labels)
    monkeypatch.setattr(imagenet, "TRAIN_IMAGES", 21)
    monkeypatch.setattr(imagenet, "CLASSES_PER_SHARD", 2)
    monkeypatch.setattr(imagenet, "VALIDATION_PER_SHARD", 4)
    train = {
        name: {f"{name}_{i}.JPEG": encoded(picture(20 + i, 30, seed=i)) + name.encode() for i in (3, 1, 12)}
        for name in classes
    }
    # As in the official files, the order within is not the sorted one.
    order = [classes[i] for i in (3, 0, 6, 1, 2, 5, 4)]
    numbers = [4, 10, 1, 2, 9, 3, 8, 5, 7, 6]
    validation = {f"ILSVRC2012_val_{i:08d}.JPEG": encoded(picture(25, 25, seed=50 + i)) for i in numbers}
    folder = tmp_path / "ilsvrc"
    folder.mkdir()
    (folder / imagenet.TRAIN_TAR).write_bytes(tar({f"{name}.tar": tar(train[name]) for name in order}))
    (folder / imagenet.VALIDATION_TAR).write_bytes(tar(validation))
    return folder, classes, train, validation_labels, validation


def test_imagenet_from_the_official_tars(ilsvrc, tmp_path):
    folder, classes, train, validation_labels, validation = ilsvrc
    prepared = prepare("imagenet2012", str(folder), str(tmp_path))
    assert prepared == tmp_path / "imagenet2012" / "5.1.0"
    source = PreparedSource(prepared, "train")
    assert source.class_names == tuple(classes)
    read = {source.example_id(i).split("(")[1][:-1]: source[i] for i in range(len(source))}
    assert read == {file: (data, classes.index(name)) for name in classes for file, data in train[name].items()}
    source = PreparedSource(prepared, "validation")
    read = {source.example_id(i).split("(")[1][:-1]: source[i] for i in range(len(source))}
    assert read == {
        f"ILSVRC2012_val_{i + 1:08d}.JPEG": (
            validation[f"ILSVRC2012_val_{i + 1:08d}.JPEG"],
            classes.index(validation_labels[i]),
        )
        for i in range(10)
    }
    # tfds' own imagenet2012 5.1.0.
    text = (prepared / "features.json").read_text()
    assert '"encodingFormat": "jpeg"' in text
    assert '"numClasses": "7"' in text


def test_broken_imagenet(ilsvrc, tmp_path, monkeypatch):
    folder, classes, train, *_ = ilsvrc
    file = folder / imagenet.TRAIN_TAR
    whole = file.read_bytes()

    def attempt(name: str) -> None:
        prepare("imagenet2012", str(folder), str(tmp_path / name))

    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(
        DataError, match=r"ILSVRC2012_img_train.tar \([\d,]+ bytes\) is broken or truncated .*147,897,477,120"
    ):
        attempt("truncated")
    file.write_bytes(tar({f"{name}.tar": tar(train[name]) for name in classes[1:]}))
    with pytest.raises(DataError, match=r"lacks 1 of 7 class archives, n00000101.tar for one"):
        attempt("lacking")
    file.write_bytes(tar({f"{name}.tar": b"nonsense" for name in classes}))
    with pytest.raises(DataError, match=r"n00000101.tar in .* is broken"):
        attempt("nonsense")
    file.write_bytes(whole)
    monkeypatch.setattr(imagenet, "TRAIN_IMAGES", 22)
    with pytest.raises(DataError, match="has 21 train images instead of 22"):
        attempt("fewer")
    (folder / imagenet.VALIDATION_TAR).unlink()
    with pytest.raises(DataError, match=r"no .*ILSVRC2012_img_val.tar: give a folder"):
        attempt("missing")
