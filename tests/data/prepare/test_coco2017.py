import contextlib
import io
import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as masks
from pycocotools.coco import COCO

from posmlp_jax.data import open_annotated
from posmlp_jax.data.decoding.images import decode
from posmlp_jax.data.prepare import annotated_images, coco_images
from posmlp_jax.data.prepare.__main__ import run as run_prepare
from posmlp_jax.data.prepare.prepare import prepare
from posmlp_jax.data.sources.annotated import AnnotatedSource

HEIGHT, WIDTH = 40, 60
SIZES = {"train2017": 13, "val2017": 4}


def instances(folder: str, first: int, count: int) -> dict:
    """COCO's JSON of some images: polygons, both forms of RLE, crowds, images without objects, a box of no height."""
    rng = np.random.default_rng(first)
    annotations = []
    for image_id in range(first, first + count):
        for _ in range(image_id % 4):
            number = first + len(annotations) + 7
            x, y = (float(value) for value in rng.uniform(0, 20, 2).round(2))
            width, height = (float(value) for value in rng.uniform(4, 19, 2).round(2))
            polygon = [x, y, x + width, y, x + width, y + height, x + width / 3, y + height / 2]
            mask = masks.decode(masks.merge(masks.frPyObjects([polygon], HEIGHT, WIDTH)))
            compressed = masks.encode(np.asfortranarray(mask))
            segmentation = [
                [polygon, [x, y, x + 3, y, x, y + 2]],
                {"size": [HEIGHT, WIDTH], "counts": run_lengths(mask)},
                {"size": [HEIGHT, WIDTH], "counts": compressed["counts"].decode()},
            ][number % 3]
            annotations.append(
                {
                    "id": number,
                    "image_id": image_id,
                    "category_id": (3, 18, 90)[number % 3],
                    "bbox": [x, y, width, height],
                    "area": 100.25 + number,
                    "iscrowd": int(number % 5 == 0),
                    "segmentation": segmentation,
                }
            )
    return {
        "info": {},
        "licenses": [],
        "images": [
            {"id": i, "file_name": f"{i:012d}.jpg", "height": HEIGHT, "width": WIDTH}
            for i in range(first, first + count)
        ],
        "annotations": annotations,
        "categories": [{"id": 90, "name": "cow"}, {"id": 3, "name": "cat"}, {"id": 18, "name": "dog"}],
    }


def run_lengths(mask: np.ndarray) -> list[int]:
    """COCO's uncompressed run lengths: down the columns, the first of zeros."""
    values = mask.ravel(order="F")
    ends = np.flatnonzero(np.diff(values)) + 1
    runs = np.diff([0, *ends, len(values)]).tolist()
    return [0, *runs] if values[0] else runs


def write_tree(root: Path, picture, encoded) -> dict[str, dict]:
    """COCO's folders with small images of their own. Returns what the JSON files say, by folder."""
    written = {}
    for first, (folder, count) in zip((101, 901), SIZES.items(), strict=True):
        content = written[folder] = instances(folder, first, count)
        (root / folder).mkdir(parents=True)
        (root / "annotations").mkdir(exist_ok=True)
        (root / f"annotations/instances_{folder}.json").write_text(json.dumps(content))
        for image in content["images"]:
            (root / folder / image["file_name"]).write_bytes(encoded(picture(HEIGHT, WIDTH, seed=image["id"])))
    return written


def pack(root: Path, *, keep: bool = False) -> None:
    """Puts the folders into zip files of the official names, which have entries for the folders themselves."""
    for folder, name in (
        ("train2017", "train2017"),
        ("val2017", "val2017"),
        ("annotations", "annotations_trainval2017"),
    ):
        with zipfile.ZipFile(root / f"{name}.zip", "w") as archive:
            archive.mkdir(folder)
            for file in sorted((root / folder).iterdir(), reverse=True):
                archive.write(file, f"{folder}/{file.name}")
                if not keep:
                    file.unlink()
        if not keep:
            (root / folder).rmdir()


@pytest.fixture
def official(tmp_path, picture, encoded):
    """A folder with the three zip files, and what their JSON says."""
    written = write_tree(tmp_path / "official", picture, encoded)
    pack(tmp_path / "official")
    return tmp_path / "official", written


def test_coco2017_is_what_pycocotools_reads(official, tmp_path, make_config, capsys):
    folder, written = official
    run_prepare(["coco2017", f"--source={folder}", f"--data_dir={tmp_path / 'data'}"])
    assert capsys.readouterr().out.splitlines() == [
        "train: images 13 (4 without objects), objects 15, crowds 4, categories 3",
        "validation: images 4 (1 without objects), objects 5, crowds 1, categories 3",
        f"prepared: {tmp_path}/data/coco2017/1.0.0",
    ]
    config = make_config(name="coco2017", data_dir=str(tmp_path / "data"), eval_split="validation")
    for split, name in (("train", "train2017"), ("eval", "val2017")):
        (file := tmp_path / f"{name}.json").write_text(json.dumps(written[name]))
        with contextlib.redirect_stdout(io.StringIO()):
            theirs = COCO(file)
        ours = open_annotated(config, split)
        assert ours.has_masks
        assert [(one["id"], one["name"]) for one in theirs.loadCats(sorted(theirs.getCatIds()))] == list(
            ours.categories
        )
        if split == "eval":
            assert sorted(ours.image_ids) == sorted(theirs.getImgIds())
        for index in range(len(ours)):
            encoded, found = ours[index]
            listed = theirs.loadAnns(theirs.getAnnIds([found.image_id]))
            assert decode(encoded).shape == (*found.size, 3) == (HEIGHT, WIDTH, 3)
            assert f"{found.image_id:012d}.jpg" in ours.example_id(index)
            assert found.ids.tolist() == [one["id"] for one in listed]
            assert found.areas.tolist() == [one["area"] for one in listed]
            assert found.crowd.tolist() == [one["iscrowd"] for one in listed]
            assert [ours.categories[k].id for k in found.classes] == [one["category_id"] for one in listed]
            assert ours.counts[index] == len(theirs.getAnnIds([found.image_id], iscrowd=False))
            x, y, width, height = np.array([one["bbox"] for one in listed]).reshape(-1, 4).T
            np.testing.assert_array_equal(found.boxes, np.stack([x, y, x + width, y + height], 1))
            for segmentation, one in zip(found.segmentations, listed, strict=True):
                run = segmentation
                if isinstance(segmentation, list):
                    run = masks.merge(masks.frPyObjects(segmentation, *found.size))
                else:
                    assert isinstance(segmentation["counts"], str)
                np.testing.assert_array_equal(masks.decode(run), theirs.annToMask(one))


def test_zip_files_and_what_they_unpack_to_give_the_same(tmp_path, picture, encoded):
    root = tmp_path / "coco"
    write_tree(root, picture, encoded)
    prepared = [prepare("coco2017", str(root), str(tmp_path / "unpacked"))]
    # As somebody has it who has unpacked the annotations alone.
    pack(root, keep=True)
    (root / "annotations_trainval2017.zip").unlink()
    prepared.append(prepare("coco2017", str(root), str(tmp_path / "packed")))
    one, other = ({file.name: file.read_bytes() for file in folder.iterdir()} for folder in prepared)
    assert one == other


def test_a_stopped_preparation_goes_on(official, tmp_path, monkeypatch):
    """The files are those of one that was not stopped."""
    folder, _ = official
    monkeypatch.setattr(annotated_images, "PER_SHARD", 4)
    whole = prepare("coco2017", str(folder), str(tmp_path / "whole"))
    read, count = coco_images.Archive.read, []

    def read_some(archive: coco_images.Archive, name: str) -> bytes:
        if name.endswith(".jpg"):
            count.append(name)
            if len(count) == 11:
                raise KeyboardInterrupt
        return read(archive, name)

    monkeypatch.setattr(coco_images.Archive, "read", read_some)
    with pytest.raises(KeyboardInterrupt):
        prepare("coco2017", str(folder), str(tmp_path / "stopped"))
    assert not (tmp_path / "stopped/coco2017/1.0.0").exists()
    monkeypatch.setattr(coco_images.Archive, "read", read)
    done = prepare("coco2017", str(folder), str(tmp_path / "stopped"))
    assert {file.name: file.read_bytes() for file in done.iterdir()} == {
        file.name: file.read_bytes() for file in whole.iterdir()
    }
    assert len(count) == 11
    assert AnnotatedSource(done, "train[:50%]+validation").image_ids.tolist() == [
        AnnotatedSource(whole, "train[:50%]+validation").read(index)[1].image_id for index in range(10)
    ]


def test_zip_files_that_are_missing_or_broken(official, tmp_path, refusal):
    folder, written = official
    arguments = ("coco2017", f"--source={folder}", f"--data_dir={tmp_path / 'data'}")
    images = (folder / "train2017.zip").read_bytes()
    (folder / "train2017.zip").write_bytes(images[: len(images) // 2])
    assert re.search(r"train2017.zip \([\d,]+ bytes\) is broken or truncated \(.*\): get it anew", refusal(*arguments))
    (folder / "train2017.zip").unlink()
    message = refusal(*arguments)
    assert f"there is neither {folder}/train2017.zip nor a folder train2017/ beside it: give a folder" in message
    assert "19,336,861,798 bytes" in message
    # A byte within an image.
    name = f"train2017/{written['train2017']['images'][5]['file_name']}".encode()
    place = images.index(name) + len(name) + 300
    (folder / "train2017.zip").write_bytes(images[:place] + bytes([images[place] ^ 1]) + images[place + 1 :])
    assert "is broken or truncated (Bad CRC-32 for file 'train2017/" in refusal(*arguments)
    (folder / "train2017.zip").write_bytes(images)
    with zipfile.ZipFile(folder / "annotations_trainval2017.zip", "w") as archive:
        archive.writestr("annotations/captions_train2017.json", "{}")
    assert "there is no annotations/instances_train2017.json in " in refusal(*arguments)
    (folder / "annotations_trainval2017.zip").write_bytes(b"<html>not found</html>")
    assert "annotations_trainval2017.zip (22 bytes) is broken or truncated" in refusal(*arguments)
    assert not (tmp_path / "data/coco2017/1.0.0").exists()
