import pickle
import shutil

import numpy as np
import pytest

from posmlp_jax.data import open_annotated
from posmlp_jax.data.fingerprint import changes, fingerprint
from posmlp_jax.data.prepare import annotated_images
from posmlp_jax.data.prepare.annotated_images import AnnotatedImage, annotated_recipe
from posmlp_jax.data.prepare.shards import write_dataset
from posmlp_jax.data.sources.annotated import AnnotatedSource
from posmlp_jax.data.sources.objects import Category
from posmlp_jax.errors import ConfigError, DataError
from posmlp_jax.paths import as_path

CATEGORIES = (Category(7, "cat"), Category(2, "dog"), Category(90, "cow"))


def annotation(id: int, category: int = 7, iscrowd: int = 0, segmentation: object = None) -> dict:
    return {
        "id": id,
        "category_id": category,
        "bbox": [1.25, 2.5, 10.1, 20],
        "area": 30.5,
        "iscrowd": iscrowd,
        "segmentation": segmentation,
    }


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """Twelve training and five validation images in small shards; returns the folder and the images."""
    monkeypatch.setattr(annotated_images, "PER_SHARD", 5)
    train = [
        AnnotatedImage(100 + i, f"{i}.png", (40 + i, 60), [annotation(10 * i + k, (2, 7)[k % 2]) for k in range(i % 4)])
        for i in range(12)
    ]
    polygon = [[1.5, 2, 3, 4, 5, 6]]
    validation = [
        AnnotatedImage(1, "ü/1.png", (50, 60), [annotation(1, segmentation=polygon), annotation(2, 2, 1)]),
        AnnotatedImage(2, "2.png", (31, 60), [annotation(3, segmentation=polygon)]),
        AnnotatedImage(3, "3.png", (32, 60), [annotation(4, segmentation=polygon)]),
        AnnotatedImage(4, "4.png", (50, 60), []),
        AnnotatedImage(5, "5.png", (50, 60), [annotation(5, iscrowd=1)]),
    ]
    images = {"train": train, "validation": validation}

    def write(name: str, splits: list[str]):
        recipe = annotated_recipe(
            name,
            CATEGORIES,
            {split: images[split] for split in splits},
            lambda split, image: f"{split} {image.id}".encode(),
            fingerprint={"sha256": images.get("digest", "")},
            description="Some.",
        )
        return write_dataset(recipe, as_path(tmp_path), 0.0)

    return write, images


@pytest.mark.parametrize(
    "split", ["train", "train[:50%]", "train[7:]", "train[3:9]", "train+validation", "validation[2:]+train[10:]"]
)
def test_what_is_known_without_reading_is_what_is_read(prepared, split):
    write, images = prepared
    source = AnnotatedSource(write("mine", ["train", "validation"]), split)
    by_id = {image.id: image for split in ("train", "validation") for image in images[split]}
    assert source.categories == ((2, "dog"), (7, "cat"), (90, "cow"))
    for index in range(len(source)):
        encoded, found = source[index]
        image = by_id[found.image_id]
        assert encoded.decode().split()[1] == str(image.id) == str(source.image_ids[index])
        assert found.size == image.size == tuple(source.sizes[index])
        assert source.counts[index] == (~found.crowd).sum() == sum(not one["iscrowd"] for one in image.annotations)
        assert found.ids.tolist() == [one["id"] for one in image.annotations]
        assert [CATEGORIES[[1, 0, 2][k]].id for k in found.classes] == [one["category_id"] for one in image.annotations]
        assert image.file_name in source.example_id(index)
        again = source.objects(index)
        assert all(np.array_equal(a, b) for a, b in zip(again[:5], found[:5], strict=True))
        assert again[5:] == found[5:]


def test_the_numbers_are_those_of_the_json(prepared):
    write, _ = prepared
    source = AnnotatedSource(write("mine", ["validation"]), "validation")
    (found,) = (source.objects(index) for index in range(5) if source.image_ids[index] == 1)
    assert found.boxes.tolist() == [[1.25, 2.5, 1.25 + 10.1, 22.5]] * 2
    assert found.boxes.dtype == found.areas.dtype == np.float64
    assert found.classes.dtype == found.ids.dtype == source.counts.dtype == source.sizes.dtype == np.int64
    assert found.areas.tolist() == [30.5, 30.5]
    assert found.crowd.tolist() == [False, True]
    assert found.segmentations == ([[1.5, 2, 3, 4, 5, 6]], None)
    (empty,) = (source.objects(index) for index in range(5) if source.image_ids[index] == 4)
    assert empty.boxes.shape == (0, 4)
    assert (empty.classes.shape, empty.crowd.shape) == ((0,), (0,))


def test_what_cannot_be_trained_on_is_left_out(prepared):
    write, _ = prepared
    folder = write("mine", ["train", "validation"])
    source = AnnotatedSource(folder, "validation", for_training=True)
    assert (sorted(source.image_ids), source.left_out) == ([1, 3], 3)
    for index in range(2):
        encoded, found = source[index]
        assert encoded.decode() == f"validation {source.image_ids[index]}"
        assert str(found.image_id) in source.example_id(index)
    copy = pickle.loads(pickle.dumps(source))
    assert copy[1][0] == source[1][0]
    with pytest.raises(IndexError):
        source[2]
    empty = next(i for i, id in enumerate(AnnotatedSource(folder, "validation").image_ids) if id in (2, 4, 5))
    with pytest.raises(DataError, match=r"no image of mine .* can be trained on: each has no object, or a side below"):
        AnnotatedSource(folder, f"validation[{empty}:{empty + 1}]", for_training=True)


def test_other_annotations_are_another_data_set(prepared, tmp_path):
    """Also where files have as many bytes, and images as many objects, as before."""
    write, images = prepared
    before = fingerprint(AnnotatedSource(write("mine", ["train"]), "train"))
    assert before == fingerprint(AnnotatedSource(write("mine", ["train"]), "train"))
    assert before["classes"] == ["dog", "cat", "cow"]
    shutil.rmtree(tmp_path / "mine")
    images["digest"] = "other"
    after = fingerprint(AnnotatedSource(write("mine", ["train"]), "train"))
    assert after["files"] != before["files"]
    assert [*changes(before, after)] == ["as many examples of each class, but other files, by their names or sizes"]


def test_an_index_that_is_damaged(prepared):
    write, _ = prepared
    folder = write("mine", ["train", "validation"])
    (folder / "objects.json").write_text("{")
    with pytest.raises(DataError, match=r"objects.json is damaged \(.*\): delete .*/mine/1.0.0 and prepare it again"):
        AnnotatedSource(folder, "train")


def test_masks_that_are_missing(prepared):
    """Those of crowds are not asked for."""
    write, _ = prepared
    assert AnnotatedSource(write("with_masks", ["validation"]), "validation").has_masks
    assert not AnnotatedSource(write("without", ["train", "validation"]), "validation").has_masks


def test_open_annotated(prepared, tmp_path, make_config, digits_dir):
    write, _ = prepared
    write("mine", ["train", "validation"])
    config = make_config(name="mine", train_split="train[:6]", eval_split="validation")
    train, validation = open_annotated(config, "train"), open_annotated(config, "eval")
    assert len(train) + train.left_out == 6
    assert (len(validation), validation.left_out) == (5, 0)
    with pytest.raises(ConfigError, match=r"data.train_fraction is 0.5, .*train_split='train\[:10%\]'"):
        open_annotated(make_config(name="mine", train_fraction=0.5), "train")
    with pytest.raises(DataError, match=r"split 'test' of mine .* cannot be read: the splits are train, validation"):
        open_annotated(make_config(name="mine", eval_split="test"), "eval")
    for name in ("synthetic", "image_folder"):
        with pytest.raises(DataError, match=f"annotated objects, which '{name}' has none of: take coco2017 or "):
            open_annotated(make_config(name=name), "train")
    with pytest.raises(DataError, match=r"digits in .* has no annotated objects, which detection needs"):
        open_annotated(make_config(data_dir=str(digits_dir)), "train")
