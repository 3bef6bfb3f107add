import json
import re
import unicodedata

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as masks

from posmlp_jax.data.decoding.images import decode
from posmlp_jax.data.prepare.__main__ import run as run_prepare
from posmlp_jax.data.prepare.prepare import prepare
from posmlp_jax.data.sources.annotated import AnnotatedSource
from posmlp_jax.errors import DataError

HEIGHT, WIDTH = 40, 60
LAYOUTS = {
    "ours": ({"train.json": "train/", "val.json": "val/"}, ["train", "validation"]),
    "images together": ({"train.json": "images/", "validation.json": "images/"}, ["train", "validation"]),
    "roboflow": (
        {
            "train/_annotations.coco.json": "train/",
            "valid/_annotations.coco.json": "valid/",
            "test/_annotations.coco.json": "test/",
        },
        ["train", "validation", "test"],
    ),
    "roboflow without valid": (
        {"train/_annotations.coco.json": "train/", "test/_annotations.coco.json": "test/"},
        ["train", "validation"],
    ),
    "coco": (
        {"annotations/instances_train2017.json": "train2017/", "annotations/instances_val2017.json": "val2017/"},
        ["train", "validation"],
    ),
    "coco's validation alone": ({"annotations/instances_val2017.json": "val2017/"}, ["train"]),
    "a test set alone": ({"test.json": "test/"}, ["train"]),
    "cvat": ({"annotations/instances_default.json": "images/default/"}, ["train"]),
    "label studio": ({"result.json": "images/"}, ["train"]),
    "labelme": ({"annotations.json": "JPEGImages/"}, ["train"]),
    "fiftyone": ({"labels.json": "data/"}, ["train"]),
    "flat": ({"coco.json": ""}, ["train"]),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout, tmp_path, picture, encoded, own_json):
    """The same names are other images in each split, where folders keep them apart."""
    files, splits = LAYOUTS[layout]
    apart = len(set(files.values())) == len(files)
    source = tmp_path / "mine"
    for number, (file, folder) in enumerate(files.items()):
        names = [f"{i}.jpg" if apart else f"{number}_{i}.jpg" for i in range(3)]
        (source / file).parent.mkdir(parents=True, exist_ok=True)
        (source / file).write_text(json.dumps(own_json(names)))
        for i, name in enumerate(names):
            path = source / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(picture(HEIGHT, WIDTH, seed=10 * number + i), "png"))
    done = prepare("coco_folder", str(source), str(tmp_path / "data"), under="mine")
    for number, split in enumerate(splits):
        ours = AnnotatedSource(done, split)
        assert ours.categories == ((2, "größe"),)
        for index in range(3):
            image, found = ours[index]
            np.testing.assert_array_equal(decode(image), picture(HEIGHT, WIDTH, seed=10 * number + found.image_id - 1))
            assert not found.crowd.any()
    with pytest.raises(DataError, match=f"the splits are {', '.join(splits)}, and"):
        AnnotatedSource(done, "other")


def test_nothing_is_written_of_what_does_not_fit(mine, tmp_path, refusal):
    """What a JSON can have wrong by itself is in `test_coco_json.py`."""

    def refused(part: str, **changes) -> str:
        message = refusal(*mine(lambda content: content[part][0].update(changes)))
        assert not (tmp_path / "data").exists()
        return message.removeprefix(f"error: {tmp_path}/source/")

    assert refused("annotations", bbox=[1, 2, -3, 4]).startswith(
        "train.json: annotation 1: bbox [1, 2, -3, 4] has a neg"
    )
    assert refused("images", height=50) == (
        "train/a.jpg is 60×40 pixels, and 60×50 in the JSON (image 1): boxes are in pixels of the image as it was "
        "annotated, so put that one there"
    )
    assert "images 1 and 2 are the same file, train/b.jpg" in refused("images", file_name="train/b.jpg")
    assert re.search(
        r"1 of the 3 images of .*/train.json are not in .*/source.*: z.jpg \(image 1\) for one",
        refused("images", file_name="z.jpg"),
    )


def test_images_that_cannot_be_used(mine, tmp_path, refusal, encoded, picture):
    arguments = mine()
    file = tmp_path / "source/train/a.jpg"
    whole = file.read_bytes()
    for content, message in (
        (b"", "a.jpg: the file is empty"),
        (b"GIF", "a.jpg: not a JPEG, PNG, WEBP, GIF or BMP image, or a broken one; mend it, or take image 1 and its"),
        (whole[: len(whole) // 2], "a.jpg: "),
    ):
        file.write_bytes(content)
        assert message in refusal(*arguments)
    # Its pixels lie on their side, and the JSON has the size that they have there.
    exif = Image.Exif()
    exif[0x0112] = 6
    file.write_bytes(encoded(picture(HEIGHT, WIDTH), exif=exif))
    message = refusal(*arguments)
    assert (
        "a.jpg is 40×60 pixels, and 60×40 in the JSON (image 1): its EXIF data turn it, and boxes have to be" in message
    )
    assert not (tmp_path / "data").exists()
    file.write_bytes(encoded(picture(WIDTH, HEIGHT), exif=exif))
    done = prepare("coco_folder", str(tmp_path / "source"), str(tmp_path / "data"), under="mine")
    assert all(
        decode(image).shape == (HEIGHT, WIDTH, 3) for image, _ in map(AnnotatedSource(done, "train").read, range(3))
    )


def test_what_is_odd_is_used_and_said(mine, tmp_path, capsys):
    def change(content: dict) -> None:
        content["categories"].append({"id": 0, "name": "animals", "supercategory": "none"})
        content["images"].append({"id": 50, "file_name": "d.jpg", "height": float(HEIGHT), "width": WIDTH})
        first, second, third = content["annotations"]
        first.update(id=0)
        second.update(area=0, segmentation=[[5, 6, 25, 6, 25, 36], [1, 2, 3, 4]])
        third.update(bbox=[], area=None)
        content["annotations"] += [
            {
                "id": 10 + i,
                "image_id": 50,
                "category_id": 2,
                "iscrowd": i == 2,
                "bbox": box,
                "area": 4.5,
                "segmentation": s,
            }
            for i, (box, s) in enumerate(
                [([9, 9, 4, 0], [[9, 9, 13, 9, 9, 9]]), ([57, 1, 5, 5], [[57, 1, 62, 1, 60, 6]]), ([1, 1, 3, 3], [])]
            )
        ]

    arguments = mine(change, names=("a.jpg", "b.jpg", "c.png"))
    (tmp_path / "source/train/d.jpg").write_bytes((tmp_path / "source/train/a.jpg").read_bytes())
    run_prepare([*arguments])
    name = f"{tmp_path}/source/train.json"
    assert capsys.readouterr().out.splitlines() == [
        f"{name}: given the box of the mask, for want of another: annotation 3",
        f"{name}: left out, as the box has no width or no height: annotation 10",
        f"{name}: used with a box that reaches more than a pixel out of the image: annotation 11",
        f"{name}: used without a polygon of fewer than three points, besides which there are others: annotation 2",
        f"{name}: given the area of the mask or else of the box, for want of another: 2 objects, the first of which is "
        "annotation 2",
        f"{name}: numbered anew for the metric, to which an object of id 0 is one that was not found: annotation 0",
        "train: images 4 (0 without objects), objects 4, crowds 1, categories 1",
        "there is no JSON for validation: hold a part back, as --config.data.train_split='train[:90%]' "
        "--config.data.eval_split='train[90%:]'",
        "train has no object of 'animals' (id 0): a model has a class for each all the same",
        f"prepared: {tmp_path}/data/mine/1.0.0",
    ]
    ours = AnnotatedSource(
        prepare("coco_folder", str(tmp_path / "source"), str(tmp_path / "data"), under="mine"), "train"
    )
    found = {objects.image_id: objects for objects in map(ours.objects, range(4))}
    assert ours.has_masks
    assert ours.class_names == ("animals", "größe")
    assert [found[i].ids.tolist() for i in (1, 2, 3, 50)] == [[0], [2], [3], [11, 12]]
    polygon = masks.merge(masks.frPyObjects([[5, 6, 25, 6, 25, 36]], HEIGHT, WIDTH))
    assert [found[1].areas[0], found[2].areas[0]] == [300, masks.area(polygon)]
    x, y, width, height = masks.toBbox(polygon)
    assert found[3].boxes.tolist() == [[x, y, x + width, y + height]]
    assert found[50].boxes[0].tolist() == [57, 1, 62, 6]
    assert found[50].crowd.tolist() == [False, True]


def test_boxes_alone(mine, tmp_path, capsys):
    def change(content: dict) -> None:
        for one in content["annotations"]:
            del one["segmentation"], one["area"]

    run_prepare([*mine(change)])
    assert "no object has segmentation: there are boxes to learn, and no masks" in capsys.readouterr().out
    ours = AnnotatedSource(tmp_path / "data/mine/1.0.0", "train")
    assert not ours.has_masks
    assert ours.objects(0).areas.tolist() == [600]
    assert ours.objects(0).segmentations == (None,)


def test_categories_that_contradict_each_other(mine, own_json, tmp_path, refusal):
    arguments = mine()
    validation = own_json(["a.jpg"])
    (tmp_path / "source/val").mkdir()
    (tmp_path / "source/val/a.jpg").write_bytes((tmp_path / "source/train/a.jpg").read_bytes())
    for categories, message in (
        ([{"id": 2, "name": "other"}], r"the category 2 is 'größe' in .*train.json, and 'other' in .*val.json"),
        (
            [{"id": 2, "name": "x"}, {"id": 5, "name": "größe"}],
            "the category 2 is 'größe' in .*train.json, and 'x' in .*val.json",
        ),
        ([{"id": 5, "name": "größe"}], "'größe' has the id 2 in .*train.json, and 5 in .*val.json: export both with"),
    ):
        validation["categories"] = categories
        validation["annotations"][0]["category_id"] = categories[-1]["id"]
        (tmp_path / "source/val.json").write_text(json.dumps(validation))
        assert re.search(message, refusal(*arguments))
    validation["categories"] = [{"id": 9, "name": "more"}, {"id": 2, "name": "größe"}]
    validation["annotations"][0]["category_id"] = 9
    (tmp_path / "source/val.json").write_text(json.dumps(validation))
    run_prepare([*arguments])
    ours = AnnotatedSource(tmp_path / "data/mine/1.0.0", "train")
    assert ours.categories == ((2, "größe"), (9, "more"))


@pytest.mark.parametrize("name", ["sub/folder/a.jpg", "grüße – 図.jpg", "windows\\a.jpg", "./a.jpg", "a b.jpg"])
def test_names_of_files(mine, tmp_path, name):
    """Names may have other slashes than the disk has, and accents as characters of their own."""
    arguments = mine(lambda content: content["images"][0].update(file_name=name), names=("z.jpg", "b.jpg"))
    on_disk = unicodedata.normalize("NFD", name.replace("\\", "/"))
    # Where only looking everywhere finds it.
    path = tmp_path / "source/elsewhere" / on_disk
    path.parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "source/train/z.jpg").rename(path)
    run_prepare([*arguments])
    ours = AnnotatedSource(tmp_path / "data/mine/1.0.0", "train")
    assert len(ours) == 2
    assert any(name in ours.example_id(index) for index in range(2))


def test_an_image_for_training_and_for_validation(mine, tmp_path, capsys):
    arguments = mine()
    (tmp_path / "source/val.json").write_text((tmp_path / "source/train.json").read_text())
    run_prepare([*arguments])
    line = "validation has 3 of train's images, too, train/a.jpg for one: scores will flatter"
    assert line in capsys.readouterr().out.splitlines()


def test_folders_without_the_right_json(tmp_path, refusal):
    source = tmp_path / "source"
    source.mkdir()
    arguments = ("coco_folder", f"--source={source}", f"--data_dir={tmp_path / 'data'}")
    assert "coco_folder needs --name=NAME" in refusal(*arguments)
    arguments += ("--name=mine",)
    assert f"there is no JSON in {source}: give a folder with train.json" in refusal(*arguments)
    for name in ("a.json", "b.json"):
        (source / name).write_text("{}")
    message = refusal(*arguments)
    assert (
        "has 2 JSON files, a.json for one, and it is unclear which is for training: call it train.json; labelme"
        in message
    )
    (source / "train.json").write_text("{}")
    (source / "instances_train.json").write_text("{}")
    assert "has several JSON files for train, instances_train.json and train.json: leave one" in refusal(*arguments)
    (tmp_path / "file").write_text("")
    assert "is no folder: give a folder with train.json" in refusal(
        "coco_folder", f"--source={tmp_path / 'file'}", "--name=mine"
    )


def test_hidden_files_are_no_json(mine, tmp_path, capsys):
    """What macOS writes beside files on disks of others."""
    arguments = mine()
    (tmp_path / "source/train.json").rename(tmp_path / "source/coco.json")
    for name in ("._coco.json", "train/._a.json"):
        (tmp_path / "source" / name).write_bytes(b"\x00\x05\x16\x07")
    run_prepare([*arguments])
    assert "train: images 3 (0 without objects), objects 3, crowds 0, categories 1" in capsys.readouterr().out


def test_another_source_under_the_same_name(mine, refusal, capsys):
    run_prepare([*mine()])
    run_prepare([*mine()])
    assert "already prepared" in capsys.readouterr().out
    message = refusal(*mine(lambda content: content["annotations"][0].update(bbox=[5, 6, 20, 29])))
    assert "was prepared from another source: as many images of each class, but others; delete that folder" in message
    message = refusal(*mine(names=("a.jpg", "b.jpg")))
    assert "train had 3 images of 'größe' and has 2; delete that folder to prepare it anew" in message
