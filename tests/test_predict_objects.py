"""Objects found in image files: what an evaluation finds, in the pixels of each file, and what the command writes."""

import json
import os
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageOps
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from tiny_detectors import tiny

from posmlp_jax.checkpoints.pretrained import open_pretrained
from posmlp_jax.checkpoints.state import module_weights
from posmlp_jax.checkpoints.store import Checkpoints
from posmlp_jax.data.augment.crops import fit
from posmlp_jax.errors import PosMLPError
from posmlp_jax.models.registry import NamedModel
from posmlp_jax.predict import draw_predictions, predict
from posmlp_jax.predict.__main__ import main
from posmlp_jax.tasks.detection.mask_rcnn_loss import Samples
from posmlp_jax.tasks.detection.objective import DetectionObjective
from posmlp_jax.tasks.detection.results import coco_results
from posmlp_jax.training.config import default_config, plain

pytestmark = pytest.mark.heavy

NAME, CLASSES, IDS = "mask_rcnn_posmlp_t", ("cat", "日本", "emu"), (3, 7, 90)
MEAN, STD = (0.3, 0.5, 0.4), (0.2, 0.3, 0.1)
WIDE, HIGH = (128, 256), (256, 128)


def write_image(path: Path, seed: int, size: tuple[int, int], turned: bool = False) -> None:
    """Colours as they come: (height, width) as it is seen, in a file that lies on its side where it is turned."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    small = Image.fromarray(random.integers(0, 256, (9, 9, 3), dtype=np.uint8))
    image = small.resize(size[::-1], Image.Resampling.BICUBIC)
    exif = Image.Exif()
    if turned:
        exif[0x0112] = 6
        image = image.transpose(Image.Transpose.ROTATE_90)
    image.save(path, exif=exif)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Wide and high images, two of one name, one that is as large as its canvas, one turned and one broken."""
    folder = tmp_path_factory.mktemp("photos")
    write_image(folder / "a.png", 0, (90, 200))
    write_image(folder / "b" / "a.png", 1, (300, 170), turned=True)
    write_image(folder / "b" / "upright.png", 1, (300, 170))
    write_image(folder / "b" / "c.jpg", 2, WIDE)
    (folder / "b" / "no.jpg").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> Path:
    """A checkpoint of random weights."""
    folder = tmp_path_factory.mktemp("run")
    config = default_config(NAME, "detection")
    config.data.update(name="digit_scenes", crop="fit", canvases=(WIDE, HIGH), mean=MEAN, std=STD)
    model = tiny(NAME)
    checkpoints = Checkpoints(folder, keep=1)
    checkpoints.save_weights(module_weights(model), plain(config), NamedModel(NAME, model.config), CLASSES, IDS)
    checkpoints.close()
    return folder


@pytest.fixture(scope="module")
def pretrained(workdir):
    return open_pretrained(workdir)


@pytest.fixture(scope="module")
def everything(pretrained, photos):
    """All that is found in the photos."""
    return {
        str(Path(one.file).relative_to(photos)): one for one in predict(pretrained, photos, threshold=0.0, batch_size=2)
    }


def test_what_an_evaluation_finds(pretrained, photos, everything):
    """By its objective, in the canvas that the image belongs to, in the data set's numbers of classes."""
    objective = DetectionObjective(MEAN, STD, Samples(anchors=4, candidates=8, proposals=8, regions=4))
    evaluate = jax.jit(lambda batch: objective.evaluate(pretrained.model(), batch)[1])
    for name in ("a.png", "b/c.jpg"):
        image = np.asarray(ImageOps.exif_transpose(Image.open(photos / name)))
        fitted, _ = fit(image, WIDE, 0, 0)
        canvas = np.zeros((1, *WIDE, 3), np.uint8)
        canvas[0, : len(fitted), : len(fitted[0])] = fitted
        nothing = {
            "boxes": jnp.zeros((1, 2, 4)),
            "classes": jnp.full((1, 2), -1),
            "masks": jnp.zeros((1, 2, 112, 14), jnp.uint8),
            "weight": jnp.ones(1),
        }
        rows = evaluate({"image": canvas, "size": jnp.array([fitted.shape[:2]]), **nothing})
        rows = {key: np.asarray(value[0]) for key, value in rows.items()}
        expected = coco_results(
            5,
            *(rows[key] for key in ("boxes", "scores", "classes", "masks")),
            size_in_canvas=fitted.shape[:2],
            image_size=image.shape[:2],
            categories=IDS,
        )
        found = everything[name]
        assert (found.size, found.fitted) == (image.shape[:2], fitted.shape[:2])
        assert len(found.objects) == len(expected) > 3
        assert [each.category_id for each in found.objects] == [each["category_id"] for each in expected]
        for each, other in zip(found.objects, expected, strict=True):
            assert each.name == CLASSES[IDS.index(other["category_id"])]
            np.testing.assert_allclose(each.score, other["score"], rtol=1e-5)
            np.testing.assert_allclose(each.bbox, other["bbox"], atol=1e-3)
            assert each.segmentation["size"] == list(image.shape[:2])
            assert np.mean(each.mask != coco_mask.decode(other["segmentation"])) < 0.01


def assert_same(found, expected) -> None:
    """Objects of programs whose batches may be others."""
    assert [each.index for each in found] == [each.index for each in expected]
    np.testing.assert_allclose([each.score for each in found], [each.score for each in expected], rtol=1e-5)
    np.testing.assert_allclose([each.bbox for each in found], [each.bbox for each in expected], atol=1e-3)


def test_a_turned_image_is_seen_upright(everything):
    turned, upright = everything["b/a.png"], everything["b/upright.png"]
    assert turned.size == upright.size == (300, 170)
    assert turned.fitted == upright.fitted == (226, 128)
    assert_same(turned.objects, upright.objects)
    assert len(turned.objects) > 3
    assert max(each.box[3] for each in turned.objects) > 170


def test_thresholds_and_numbers(pretrained, photos, everything):
    whole = everything["a.png"].objects
    scores = [each.score for each in whole]
    assert scores == sorted(scores, reverse=True)
    middle = (scores[3] + scores[4]) / 2
    for options, number in (({"threshold": middle}, 4), ({"threshold": 0.0, "top_k": 2}, 2), ({"threshold": 1.0}, 0)):
        one = next(predict(pretrained, photos, batch_size=2, **options))
        assert one.error is None
        assert_same(one.objects, whole[:number])


def test_weights_that_are_no_numbers(pretrained, photos):
    """Of which nothing would be found, as if there were nothing."""
    diverged = replace(pretrained)
    vars(diverged)["weights"] = jax.tree.map(lambda leaf: leaf * jnp.nan, pretrained.weights)
    with pytest.raises(PosMLPError, match="its training diverged"):
        predict(diverged, photos)


def test_the_command(workdir, photos, everything, tmp_path, capsys):
    """JSON lines, drawn pictures and COCO's JSON say the same; what is broken is named."""
    drawn, coco, picture = tmp_path / "drawn", tmp_path / "found.json", tmp_path / "grid.png"
    arguments = [f"--checkpoint={workdir}", str(photos), "--output=json", "--threshold=0", "--batch_size=2"]
    assert main([*arguments, f"--drawn={drawn}", f"--coco={coco}", f"--picture={picture}"]) == 1
    output, errors = capsys.readouterr()
    lines = {os.path.relpath(line["file"], photos): line for line in map(json.loads, output.splitlines())}
    assert lines.keys() == {"a.png", "b/a.png", "b/c.jpg", "b/upright.png"}
    data = COCO(coco)
    capsys.readouterr()
    assert {image["file_name"] for image in data.imgs.values()} == lines.keys()
    assert [(each["id"], each["name"]) for each in data.cats.values()] == list(zip(IDS, CLASSES, strict=True))
    for image in data.imgs.values():
        found, line = everything[image["file_name"]], lines[image["file_name"]]
        annotations = data.loadAnns(data.getAnnIds(imgIds=image["id"]))
        assert (line["width"], line["height"]) == (image["width"], image["height"]) == found.size[::-1]
        assert [each.to_json() for each in found.objects] == line["objects"]
        assert [each["bbox"] for each in annotations] == [list(each.bbox) for each in found.objects]
        assert [each["score"] for each in annotations] == [each.score for each in found.objects]
        np.testing.assert_array_equal(data.annToMask(annotations[0]), found.objects[0].mask)
        pixels = np.asarray(Image.open(drawn / image["file_name"]))
        assert pixels.shape[0] * found.size[1] == pixels.shape[1] * found.size[0]
    assert errors.splitlines()[1:] == [
        f"cannot read {photos}/b/no.jpg: not a JPEG, PNG, WEBP, GIF or BMP image, or a broken one",
        f"wrote {picture}",
        f"drew 4 of 5 files into {drawn}",
        f"wrote {coco} (images: 4, objects: {len(data.anns)})",
        "1 of 5 images could not be read",
    ]
    # Again: what is there is not written over, and nothing else is begun.
    with pytest.raises(PosMLPError, match="is there already; choose another --coco"):
        main([*arguments, f"--coco={coco}"])
    with pytest.raises(PosMLPError, match="is there already; choose another --drawn"):
        main([*arguments, f"--drawn={drawn}", f"--coco={tmp_path / 'other.json'}"])
    assert not (tmp_path / "other.json").exists()
    assert capsys.readouterr() == ("", "")


def test_a_table(workdir, photos, everything, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main([f"--checkpoint={workdir}", str(photos), "--threshold=0", "--top-k=3", "--batch_size=2"]) == 1
    head, *rows = (line.split() for line in capsys.readouterr().out.splitlines())
    assert head == ["file", "score", "left", "top", "right", "bottom", "class"]
    expected = [each for one in everything.values() for each in one.objects[:3]]
    for row, each in zip(rows, expected, strict=True):
        assert row[-1] == each.name
        assert [float(value) for value in row[-6:-1]] == pytest.approx([each.score, *each.box], abs=0.51)


def test_a_picture_of_many_has_boxes(pretrained, everything):
    with_objects = everything["a.png"]
    nothing = replace(with_objects, objects=())
    figure = draw_predictions(pretrained, [with_objects, nothing])
    one, other = (axes.images[0].get_array() for axes in figure.axes)
    assert one.shape == other.shape
    assert (one != other).any(axis=-1).mean() > 0.02


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--threshold=1.5"], "threshold is 1.5, and should be a score, from 0 to 1"),
        (["--threshold=nan"], "threshold is nan, and should be a score, from 0 to 1"),
        (["--threshold=high"], "argument --threshold: invalid float value: 'high'"),
        (["--top-k=0"], "top_k is 0, and should be 1 or more"),
        (["--crops=3"], "shows all of an image in one view"),
        (["--clips=2"], "clips is 2, but the model takes images"),
        (["--coco=found.txt"], "cannot write found.txt as JSON; the ending should be .json"),
        (["--coco={photos}"], "the ending should be .json"),
        (["--coco="], "the ending should be .json"),
        (["--drawn="], "--drawn names no folder"),
        (["--drawn={photos}"], "a.png is there already; choose another --drawn, or delete it"),
        (["--drawn={photos}/a.png"], "a.png is not a folder"),
        (["--picture=x.txt"], "cannot draw 'x.txt'"),
    ],
)
def test_mistakes(arguments, message, workdir, photos, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PosMLPError) as mistake:
        main([f"--checkpoint={workdir}", str(photos), *(each.format(photos=photos) for each in arguments)])
    assert message in str(mistake.value)
    assert "\n" not in str(mistake.value)
    assert capsys.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("argument", ["--drawn=x", "--coco=x.json", "--threshold=0.5"])
def test_a_classifier_finds_no_objects(argument, photos, capsys):
    with pytest.raises(PosMLPError, match="of detectors"):
        main(["--checkpoint=posmlp_digits", str(photos), argument])
    assert capsys.readouterr() == ("", "")
