"""Data in a bucket: what is prepared there and read from there is what it would be on a disk."""

import os
import pickle

import etils.epath.testing
import matplotlib.pyplot as plt
import numpy as np
import pytest
from etils import epath
from gcsfs.retry import HttpError
from PIL import Image

from posmlp_jax.analysis.curves import read_metrics
from posmlp_jax.data import open_annotated, open_source
from posmlp_jax.data.fingerprint import fingerprint
from posmlp_jax.data.prepare import shards
from posmlp_jax.data.prepare.datasets import digit_scenes
from posmlp_jax.data.prepare.datasets.moving_digits import encode
from posmlp_jax.data.prepare.prepare import prepare
from posmlp_jax.data.sources.annotated import AnnotatedSource
from posmlp_jax.data.sources.class_folders import IMAGES, VIDEOS
from posmlp_jax.data.sources.files import FileSource, find_files
from posmlp_jax.data.sources.image_folder import ImageFolderSource
from posmlp_jax.data.sources.tfds_layout import PreparedSource, find_prepared
from posmlp_jax.errors import CheckpointError, DataError, exit_on_mistake
from posmlp_jax.figures import save_figure
from posmlp_jax.paths import as_path
from posmlp_jax.training import default_config
from posmlp_jax.training.workdir import claim_workdir
from posmlp_jax.writing import LineWriter


@pytest.fixture
def folder(bucket, tmp_path):
    """An empty folder of a bucket."""
    return bucket / tmp_path.name


def copy(source, target: epath.Path) -> None:
    for file in source.rglob("*"):
        if file.is_file():
            (target / file.relative_to(source).as_posix()).write_bytes(file.read_bytes())


def test_prepared(folder, digits_dir, make_config):
    written = prepare("digits", data_dir=str(folder))
    assert written == folder / "digits/1.0.0"
    assert prepare("digits", data_dir=str(folder)) == written
    there = open_source(make_config(name="digits", data_dir=str(folder)), "eval")
    here = PreparedSource(epath.Path(digits_dir) / "digits/1.0.0", "test")
    assert len(there) == len(here) == 360
    assert [there.read(i) for i in (0, 359)] == [here.read(i) for i in (0, 359)]
    assert there.class_names == here.class_names
    assert str(folder) in there.description
    assert pickle.loads(pickle.dumps(there)).read(1) == here.read(1)
    labels = [here.read(i)[1] for i in range(len(here))]
    np.testing.assert_array_equal(there.read_labels(), labels)
    assert (written / "labels-test.npy").exists()
    np.testing.assert_array_equal(there.read_labels(), labels)


def test_prepared_with_objects(folder, tmp_path, make_config, monkeypatch):
    monkeypatch.setattr(digit_scenes, "SCENES", {"train": 6, "validation": 3})
    here = AnnotatedSource(prepare("digit_scenes", data_dir=str(tmp_path)), "validation")
    there = open_annotated(make_config(name="digit_scenes", data_dir=str(folder), eval_split="validation"), "eval")
    assert there.image_ids.tolist() == here.image_ids.tolist()
    assert [there.read(i)[0] for i in range(3)] == [here.read(i)[0] for i in range(3)]
    assert [there.objects(i).ids.tolist() for i in range(3)] == [here.objects(i).ids.tolist() for i in range(3)]
    assert fingerprint(there) == fingerprint(here)


def test_a_stopped_run_goes_on(folder, monkeypatch, digits_dir):
    """What was stopped between two shards is no data set yet; what is then missing is added."""
    write, begun = shards._write_shard, []

    def stopped(*arguments):
        if len(begun) == 2:
            raise KeyboardInterrupt
        begun.append(write(*arguments))
        return begun[-1]

    monkeypatch.setattr(shards, "_write_shard", stopped)
    with pytest.raises(KeyboardInterrupt):
        prepare("digits", data_dir=str(folder))
    with pytest.raises(DataError, match=r"'digits' is not prepared: no gs://.*/digits/VERSION/dataset_info.json"):
        find_prepared("digits", str(folder))
    monkeypatch.setattr(shards, "_write_shard", write)
    source = PreparedSource(prepare("digits", data_dir=str(folder)), "train")
    here = PreparedSource(epath.Path(digits_dir) / "digits/1.0.0", "train")
    assert [source.read(i) for i in (0, 1436)] == [here.read(i) for i in (0, 1436)]


def test_image_folder(folder, image_folder):
    disk = image_folder({"train/b": 3, "train/a": 2, "train/.cache": 1, "val/a": 1})
    (disk / "train/a/notes.txt").write_text("not an image")
    copy(disk, folder)
    there, here = (ImageFolderSource(where, "train") for where in (str(folder), disk))
    assert there.class_names == ("a", "b")
    assert [there.read(i) for i in range(len(there))] == [here.read(i) for i in range(len(here))]
    assert there.example_id(0) == f"{folder}/train/a/image0.jpg"
    # Which are held out depends on the names below the folder alone, wherever it is.
    held_out = [ImageFolderSource(where / "train", "eval", holdout=0.4) for where in (folder, disk)]
    assert [held_out[0].example_id(i).removeprefix(str(folder)) for i in range(len(held_out[0]))] == [
        held_out[1].example_id(i).removeprefix(str(disk)) for i in range(len(held_out[1]))
    ]
    (folder / "train/a/image0.jpg").unlink()
    with pytest.raises(DataError, match=r"cannot read gs://.*/train/a/image0.jpg: .*a%2Fimage0.jpg"):
        there.read(0)
    with pytest.raises(DataError, match=r"no folder gs://.*/none: images are expected in"):
        ImageFolderSource(folder / "none", "train")


def test_files_by_what_a_user_names(folder, image_folder):
    copy(image_folder({"a": 2, "a/sub": 1, "a/.cache": 1, "b": 1}), folder)
    (folder / "a/notes.txt").write_text("")
    root = str(folder)
    images = [f"{root}/a/image0.jpg", f"{root}/a/image1.jpg", f"{root}/a/sub/image0.jpg"]
    assert find_files(f"{root}/a", IMAGES) == images
    assert find_files([f"{root}/a/image1.jpg", f"{root}/*/image*.jpg"], IMAGES) == [
        images[1],
        images[0],
        f"{root}/b/image0.jpg",
    ]
    assert find_files(f"{root}/?", IMAGES) == [*images, f"{root}/b/image0.jpg"]
    assert find_files(f"{root}/a/notes.txt", IMAGES) == [f"{root}/a/notes.txt"]
    assert FileSource(images, IMAGES).read(2)[0] == (folder / "a/sub/image0.jpg").read_bytes()
    with pytest.raises(DataError, match=r"no images .* in gs://.*/none"):
        find_files(f"{root}/none", IMAGES)
    with pytest.raises(DataError, match=r"in buckets there is no \*\*; name a folder"):
        find_files(f"{root}/**/*.jpg", IMAGES)


def test_a_video_file(folder, tmp_path):
    clip = encode(np.zeros((3, 64, 64), np.uint8))
    (folder / "clip.mp4").write_bytes(clip)
    video, _ = FileSource([f"{folder}/clip.mp4"], VIDEOS).read(0)
    assert (video.num_frames, video.data, video.id) == (3, clip, f"{folder}/clip.mp4")


def test_what_cannot_be_in_a_bucket(folder, digits_dir):
    with pytest.raises(DataError, match=r"--source=gs://.* is in a bucket, and is read from this machine's disks"):
        prepare("image_folder", f"{folder}/images", str(digits_dir), "mine")
    copy(digits_dir / "digits", folder / "digits")
    info = folder / "digits/1.0.0/dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(DataError, match="TFRecord, which has no index and so would be read from start to end: copy"):
        PreparedSource(folder / "digits/1.0.0", "train")


def test_without_the_bucket(bucket):
    with pytest.raises(DataError, match=r"cannot prepare digits: .*no_such_bucket"):
        prepare("digits", data_dir="gs://no_such_bucket/x")


def test_figures(folder):
    figure = plt.figure(figsize=(1, 1))
    save_figure(figure, f"{folder}/a/b.png")
    with (folder / "a/b.png").open("rb") as file:
        assert Image.open(file).size == (120, 120)
    plt.close(figure)


def test_epath_mock(tmp_path, image_folder):
    """Everything goes through epath, and nothing is renamed, which a bucket cannot do at once."""

    def on_disk(function, path, *arguments, **options):
        return function(os.fspath(path).replace("gs://mock", str(tmp_path)), *arguments, **options)

    def refuse(*_, **__):
        raise AssertionError("in a bucket this copies")

    config, other = default_config(), default_config()
    other.seed = 1
    root = image_folder({"train/a": 2, "train/b": 1, "val/a": 1})
    names = ("open", "exists", "isdir", "walk", "makedirs", "mkdir", "remove", "stat")
    with etils.epath.testing.mock_epath(**dict.fromkeys(names, on_disk), rename=refuse, replace=refuse, copy=refuse):
        source = ImageFolderSource(f"gs://mock/{root.name}", "train")
        assert [source.read(i)[1] for i in range(3)] == [0, 0, 1]
        assert source.read(2)[0] == (root / "train/b/image0.jpg").read_bytes()
        workdir = as_path("gs://mock/run")
        workdir.mkdir(parents=True)
        claim_workdir(workdir, config, {"training": fingerprint(source)})
        with pytest.raises(CheckpointError, match=r"gs://mock/run holds a different experiment \(seed"):
            claim_workdir(workdir, other, {})
        lines = LineWriter(workdir / "metrics.jsonl")
        lines.write('{"step": 1, "split": "train"}')
        lines.write('{"step": 2, "split": "train"}')
        lines.close()
        assert [row["step"] for row in read_metrics(workdir)] == [1, 2]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["config.json", "data.json", "metrics.jsonl"]


def test_a_bucket_that_cannot_be_read_is_one_line(capsys):
    """Where nothing of ours expects it: as when there is no network."""
    with pytest.raises(SystemExit) as end, exit_on_mistake():
        raise HttpError({"code": 401, "message": "Anonymous caller has not\n storage.objects.list access"})
    assert end.value.code == 2
    assert capsys.readouterr().err == (
        "error: cannot read from or write to a bucket: Anonymous caller has not storage.objects.list access, 401\n"
    )
    with pytest.raises(OSError, match="no bucket's"), exit_on_mistake():
        raise OSError("no bucket's")
