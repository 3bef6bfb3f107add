"""Average precision: what is asked of pycocotools, what is made of its answers, and the files that it can read."""

import contextlib
import copy
import io
import json
import math

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from posmlp_jax.data.sources.objects import Category, Objects
from posmlp_jax.tasks.detection.report import class_table, count_objects, describe_precision, report_detections
from posmlp_jax.tasks.detection.results import coco_results
from posmlp_jax.tasks.detection.scoring import METRICS, Scores, detections_of, format_precision, ground_truth, score
from posmlp_jax.tasks.task import Evaluation

CATEGORIES = (Category(2, "cat"), Category(7, "dog"), Category(90, "yak"))
SIZE = (60, 80)


def rle(box) -> dict:
    x1, y1, x2, y2 = map(int, box)
    mask = np.zeros(SIZE, np.uint8, order="F")
    mask[y1:y2, x1:x2] = 1
    encoded = coco_mask.encode(mask)
    return {"size": list(SIZE), "counts": encoded["counts"].decode()}


def polygon(box) -> list:
    x1, y1, x2, y2 = map(float, box)
    return [[x1, y1, x2, y1, x2, y2, x1, y2]]


class Annotated:
    """What scoring asks of a source, made up: masks as RLE and polygons, a crowd without any, an empty image."""

    kind, description, has_masks, categories = "image", "made up", True, CATEGORIES
    class_names = tuple(category.name for category in CATEGORIES)
    # Of each image x1, y1, x2, y2, class, crowd. None is of the last class, and none is large.
    boxes = (
        [(3, 4, 23, 34, 0, False), (40, 10, 75, 55, 1, False), (30, 5, 45, 20, 0, False)],
        [],
        [(10, 10, 22, 25, 1, False), (40, 0, 80, 60, 1, True)],
    )
    image_ids, sizes = np.array([11, 5, 8]), np.array([SIZE] * 3)

    def __len__(self):
        return 3

    def objects(self, index):
        rows = self.boxes[index]
        box = np.array([row[:4] for row in rows], float).reshape(-1, 4)
        made = [None if row[5] else (rle if number % 2 else polygon)(row[:4]) for number, row in enumerate(rows)]
        return Objects(
            box,
            np.array([row[4] for row in rows], np.int64),
            np.array([row[5] for row in rows], bool),
            (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]),
            np.arange(len(rows)),  # The first has number 0.
            tuple(made),
            SIZE,
            int(self.image_ids[index]),
        )


def found() -> list[dict]:
    """Some right, one a little off, one of another class, one in the crowd, and one in the empty image."""
    each = {
        0: [(3, 4, 23, 34, 0, 0.9), (41, 12, 75, 55, 1, 0.8), (30, 5, 45, 20, 1, 0.7), (30, 5, 46, 24, 0, 0.4)],
        1: [(0, 0, 30, 30, 0, 0.3)],
        2: [(10, 10, 22, 24, 1, 0.6), (45, 5, 70, 40, 1, 0.5), (0, 0, 60, 60, 2, 0.2)],
    }
    results = []
    for index, rows in each.items():
        values = np.array(rows, np.float32)
        masks = np.ones((len(rows), 28, 28), np.float16)
        results += coco_results(
            int(Annotated.image_ids[index]),
            values[:, :4],
            values[:, 5],
            values[:, 4].astype(np.int32),
            masks,
            size_in_canvas=SIZE,
            image_size=SIZE,
            categories=[category.id for category in CATEGORIES],
        )
    return results


def plain(truth: str, results: str, kind: str) -> np.ndarray:
    """What pycocotools says of two files, as anybody would ask it."""
    with contextlib.redirect_stdout(io.StringIO()):
        annotated = COCO(truth)
        evaluation = COCOeval(annotated, annotated.loadRes(results), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[:6]


@pytest.fixture
def evaluated(capsys):
    values, by_class = score(ground_truth(Annotated()), found(), ["box", "mask"])
    assert capsys.readouterr() == ("", "")
    return values, Scores(found(), by_class)


def test_files_say_the_same_to_pycocotools(evaluated, tmp_path, capsys):
    """To the last bit, and the numbers of objects begin with 1: one of number 0 would never be found."""
    values, scores = evaluated
    results = {"eval": Evaluation({"loss": 1.0, **values}, scores)}
    report_detections(tmp_path, 7, results, Annotated())
    folder = tmp_path / "evaluation" / "step7_eval"
    names = "classes.csv, detections.json, groundtruth.json, masks.json"
    output = capsys.readouterr().out
    assert output.splitlines()[-1] == f"wrote {names} to {folder}"
    for kind, file, iou_type in (("box", "detections", "bbox"), ("mask", "masks", "segm")):
        theirs = plain(str(folder / "groundtruth.json"), str(folder / f"{file}.json"), iou_type)
        ours = [values.get(metric.name, -1) for metric in METRICS if metric.name.startswith(kind)]
        np.testing.assert_array_equal(ours, theirs)
    truth = json.loads((folder / "groundtruth.json").read_text())
    assert [each["id"] for each in truth["annotations"]] == [1, 2, 3, 4, 5]
    assert [each["iscrowd"] for each in truth["annotations"]] == [0, 0, 0, 0, 1]
    assert "bbox" not in json.loads((folder / "masks.json").read_text())[0]
    assert (folder / "classes.csv").read_text().splitlines()[0] == "class,id,objects,box_ap,box_ap50,mask_ap,mask_ap50"
    assert (folder / "classes.csv").read_text().splitlines()[-1] == "yak,90,0,,,,"


def test_by_hand():
    """Of two objects one is found first, and then what is none: precision is 1 up to half of the recall, and then 0."""
    truth = ground_truth(Annotated())
    only = [each for each in found() if each["score"] in (np.float32(0.9), np.float32(0.3))]
    values, by_class = score(truth, only, ["box"])
    # Of 101 steps of recall, those from 0 to 0.5.
    assert by_class["box_ap"][0] == pytest.approx(51 / 101)
    assert by_class["box_ap"][1] == 0
    assert math.isnan(by_class["box_ap"][2])
    assert values["box_ap"] == pytest.approx(51 / 101 / 2)
    # None is large.
    assert values.keys() == {metric.name for metric in METRICS if metric.name.startswith("box")} - {"box_ap_l"}


def test_nothing_found_and_nothing_to_find(evaluated):
    values, _ = score(ground_truth(Annotated()), [], ["box", "mask"])
    assert (values["box_ap"], values["mask_ap50"]) == (0, 0)
    empty = Annotated()
    empty.boxes = ([], [], [])
    values, by_class = score(ground_truth(empty), found(), ["box"])
    assert values == {}
    assert np.isnan(by_class["box_ap"]).all()


def test_what_is_printed(evaluated, capsys):
    values, scores = evaluated
    report_detections(None, 7, {"eval": Evaluation({"loss": 1.0, **values}, scores)}, Annotated())
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"box AP {100 * values['box_ap']:.2f} %, AP50 ")
    assert lines[0].endswith(", no large objects, weights of step 7")
    assert lines[1].startswith("mask AP ")
    assert lines[2:4] == [
        "class by class:",
        "  class  objects  box AP  box AP50  mask AP  mask AP50",
    ]
    assert [line.split()[:2] for line in lines[4:]] == [["cat", "2"], ["dog", "2"]]


def test_scoring_leaves_detections_as_they_are(evaluated):
    before = copy.deepcopy(found())
    score(ground_truth(Annotated()), before, ["box", "mask"])
    assert before == found()
    assert detections_of(before, "box")[0].keys() == {"image_id", "category_id", "bbox", "score"}


def test_what_there_is_nothing_of_is_said_plainly():
    values = dict.fromkeys(("box_ap", "box_ap50", "box_ap75", "box_ap_s"), 0.5)
    assert describe_precision(values, "box") == (
        "box AP 50.00 %, AP50 50.00 %, AP75 50.00 %, small 50.00 %, no medium objects, no large objects"
    )
    assert format_precision(values) == ["box AP 50.00 % (AP50 50.00, AP75 50.00, S 50.00)"]
    assert format_precision({"loss": 0.5}) == []
    assert describe_precision({}, "mask") == "there is no mask AP, as there are no objects"


def test_class_table_has_the_data_sets_numbers(evaluated):
    _, scores = evaluated
    counts = count_objects(ground_truth(Annotated()))
    assert counts.tolist() == [2, 2, 0]
    rows = class_table(scores, Annotated(), counts).splitlines()
    assert [row.split(",")[:3] for row in rows[1:]] == [["cat", "2", "2"], ["dog", "7", "2"], ["yak", "90", "0"]]
