"""What is said of files in which objects were found: as a table, as JSON, as COCO's, drawn."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from posmlp_jax.errors import PosMLPError
from posmlp_jax.predict.drawn import DrawnFiles, names_below
from posmlp_jax.tasks.detection.annotations import CocoAnnotations, image_ids
from posmlp_jax.tasks.detection.prediction import DetectionPrediction, FoundObject
from posmlp_jax.tasks.detection.table import ObjectTable

SIZE = (40, 60)
MASK = np.zeros(SIZE, bool)
MASK[10:20, 30:50] = True
RLE = coco_mask.encode(np.asfortranarray(MASK, np.uint8))
RLE = {"size": list(RLE["size"]), "counts": RLE["counts"].decode()}
CAT = FoundObject("cat", 0, 17, 0.912345678901234, (30.25, 10.5, 20.125, 10.0), RLE)
DOG = FoundObject("dog", 2, 90, 0.4, (0.0, 0.0, 5.0, 40.0))


def predicted(file="photos/a.jpg", *objects: FoundObject) -> DetectionPrediction:
    return DetectionPrediction(str(file), size=SIZE, fitted=(20, 30), objects=objects)


def test_an_object():
    assert CAT.box == (30.25, 10.5, 50.375, 20.5)
    np.testing.assert_array_equal(CAT.mask, MASK)
    assert CAT.area == 200
    assert DOG.mask is None
    assert DOG.area == 200
    line = json.loads(json.dumps(predicted("x", CAT, DOG).to_json()))
    assert (line["width"], line["height"]) == (60, 40)
    assert line["objects"][0] == {
        "class": "cat",
        "index": 0,
        "category_id": 17,
        "score": 0.912345678901234,
        "box": [30.25, 10.5, 50.375, 20.5],
        "segmentation": RLE,
    }
    assert "segmentation" not in line["objects"][1]


def test_a_table():
    table = ObjectTable(["photos/a.jpg", "b.png"], ["cat", "emu", "dog"], 80)
    lines = "\n".join([table(predicted("photos/a.jpg", CAT, DOG)), table(predicted("b.png"))]).split("\n")
    assert [line.split() for line in lines] == [
        ["file", "score", "left", "top", "right", "bottom", "class"],
        ["photos/a.jpg", "0.91", "30", "10", "50", "20", "cat"],
        ["0.40", "0", "0", "5", "40", "dog"],
        ["b.png", "(nothing", "found)"],
    ]
    places = [lines[0].index(head) + len(head) for head in ("score", "left", "right", "bottom")]
    assert [lines[1][:place].split()[-1] for place in places] == ["0.91", "30", "50", "20"]
    assert lines[1].index("cat") == lines[0].index("class") == lines[3].index("(nothing")


def test_a_data_set_that_coco_reads(tmp_path, capsys):
    annotations = CocoAnnotations(["cat", "emu", "dog"], [17, 18, 90])
    annotations.add(predicted("photos/a.jpg", CAT, DOG), "a.jpg")
    annotations.add(predicted("photos/b/a.jpg"), "b/a.jpg")
    (tmp_path / "found.json").write_text(json.dumps(annotations.to_json()))
    read = COCO(tmp_path / "found.json")
    assert capsys.readouterr().err == ""
    assert read.imgs == {
        1: {"id": 1, "file_name": "a.jpg", "width": 60, "height": 40},
        2: {"id": 2, "file_name": "b/a.jpg", "width": 60, "height": 40},
    }
    assert [read.cats[number]["name"] for number in (17, 18, 90)] == ["cat", "emu", "dog"]
    cat, dog = read.loadAnns(read.getAnnIds(imgIds=1))
    assert (cat["id"], cat["category_id"], cat["bbox"], cat["score"]) == (1, 17, list(CAT.bbox), CAT.score)
    assert (cat["area"], cat["iscrowd"]) == (200, 0)
    np.testing.assert_array_equal(read.annToMask(cat), MASK)
    assert (dog["id"], dog["area"]) == (2, 200)
    assert "segmentation" not in dog
    assert read.getAnnIds(imgIds=2) == []


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (["000000397133.jpg", "000000037777.jpg"], [397133, 37777]),
        (["a/7.jpg", "b/8.tar.png"], [7, 8]),
        (["a/7.jpg", "b/7.jpg"], [1, 2]),
        (["7.jpg", "x.jpg"], [1, 2]),
        (["7.jpg", "007.jpg"], [1, 2]),
        (["²7.jpg"], [1]),
        ([f"{'9' * 30}.jpg"], [1]),
        ([".jpg"], [1]),
        ([], []),
    ],
)
def test_ids_of_images(names, ids):
    assert image_ids(names) == ids


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["photos/a.jpg"], ["a.jpg"]),
        (["photos/a.jpg", "./photos/b.jpg"], ["a.jpg", "b.jpg"]),
        (["photos/a.jpg", "photos/cats/a.jpg"], ["a.jpg", "cats/a.jpg"]),
        (["photos/cats/a.jpg", "photos/cars/a.jpg"], ["cats/a.jpg", "cars/a.jpg"]),
        (["gs://one/x/a.jpg", "gs://one/y/a.jpg"], ["x/a.jpg", "y/a.jpg"]),
        (["/a.jpg", "/b/a.jpg"], ["a.jpg", "b/a.jpg"]),
    ],
)
def test_names_below_what_files_share(files, names):
    assert names_below(files) == names


def test_names_in_buckets_and_on_disks_are_apart():
    (one, other) = names_below(["gs://one/a.jpg", "/tmp/a.jpg"])
    assert one != other


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "photos"
    for name, turned in (("a.jpg", 1), ("cats/a.JPEG", 6), ("b.webp", 1), ("b.webp.png", 1), ("c.png", 1)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        exif[0x0112] = turned
        # As its camera holds it, and on its side.
        size = SIZE if turned == 6 else SIZE[::-1]
        Image.new("RGB", size, (90, 90, 90)).save(folder / name, exif=exif)
    return folder


def draw(folder: Path, files: list[Path], *objects: FoundObject) -> list[str]:
    drawn = DrawnFiles(folder, list(map(str, files)))
    try:
        for file in files:
            drawn.add(predicted(file, *objects))
        return drawn.finish()
    finally:
        drawn.close()


def test_drawn_files(photos, tmp_path, monkeypatch):
    """Of every image one of its own size, upright, under its own name."""
    monkeypatch.setattr("posmlp_jax.predict.drawn._LEAST_SIDE", 1)
    files = sorted(path for path in photos.rglob("*") if path.is_file())
    lines = draw(tmp_path / "out" / "drawn", files, CAT, DOG)
    assert lines == [f"drew 5 of 5 files into {tmp_path}/out/drawn"]
    found = {str(path.relative_to(tmp_path / "out/drawn")): path for path in (tmp_path / "out").rglob("*.*")}
    assert found.keys() == {"a.jpg", "cats/a.JPEG", "b.webp.png", "b.webp.png.png", "c.png"}
    for path in found.values():
        pixels = np.asarray(Image.open(path)).astype(int)
        assert pixels.shape == (*SIZE, 3)
        assert not dict(Image.open(path).getexif())
        # The dog's box is at the left edge, and nothing is in the lower right corner.
        assert np.abs(pixels[25, 0] - 90).max() > 60
        assert np.abs(pixels[30:, 52:] - 90).max() < 12


def test_small_images_are_enlarged(photos, tmp_path):
    """By whole pixels, as often as it takes."""
    draw(tmp_path, [photos / "c.png"])
    pixels = np.asarray(Image.open(tmp_path / "c.png"))
    assert pixels.shape == (7 * 40, 7 * 60, 3)


def test_nothing_that_is_there_is_written_over(photos, tmp_path):
    before = (photos / "a.jpg").read_bytes()
    for folder in (photos, tmp_path / "x/../photos"):
        with pytest.raises(PosMLPError, match=r"a\.jpg is there already; choose another --drawn"):
            DrawnFiles(folder, [str(photos / "a.jpg")])
    assert (photos / "a.jpg").read_bytes() == before
    with pytest.raises(PosMLPError, match=r"c\.png is not a folder"):
        DrawnFiles(photos / "c.png", [str(photos / "a.jpg")])


def test_what_else_is_written_is_no_drawn_file(photos, tmp_path):
    for other in ("drawn/cats/a.JPEG", "drawn/cats", "drawn"):
        with pytest.raises(PosMLPError, match="where something else is to be written"):
            DrawnFiles(tmp_path / "drawn", [str(photos / "a.jpg"), str(photos / "cats/a.JPEG")], [tmp_path / other])
    DrawnFiles(tmp_path / "drawn", [str(photos / "a.jpg")], [tmp_path / "drawn/b.jpg"]).close()


def test_what_has_gone_is_named(photos, tmp_path):
    gone, broken = photos / "gone.jpg", photos / "broken.jpg"
    broken.write_bytes(b"no image")
    lines = draw(tmp_path / "drawn", [photos / "a.jpg", gone, broken])
    assert lines[0] == f"cannot draw {gone}: No such file or directory"
    assert lines[1].startswith(f"cannot draw {broken}: not a JPEG")
    assert lines[2] == f"drew 1 of 3 files into {tmp_path / 'drawn'}"
    assert [path.name for path in (tmp_path / "drawn").iterdir()] == ["a.jpg"]


@pytest.mark.parametrize("scale", [0.5, 1, 3])
def test_drawn_at_any_size(scale):
    height, width = (round(scale * side) for side in SIZE)
    image = np.full((height, width, 3), 90, np.uint8)
    drawn = (predicted("x", CAT).drawn_into(image) != image).any(axis=-1)
    # Within the mask, and not beside the box and its label.
    assert drawn[round(15 * scale), round(40 * scale)]
    assert not drawn[round(30 * scale) :].any()
