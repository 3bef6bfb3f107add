"""From a batch's logits to a loss, and from scores to tables of which the command makes the same mAP."""

import json

import numpy as np
import pytest
from naive_detection import cross_entropy
from tiny_actions import ACTIONS, table_of

from posmlp_jax.data.sources.ava_tables import read_detections, read_ground_truth
from posmlp_jax.data.sources.films import ActionSource
from posmlp_jax.data.sources.key_frames import ActionBoxes
from posmlp_jax.data.sources.objects import Category
from posmlp_jax.tasks.action_detection import frame_map
from posmlp_jax.tasks.action_detection.illustration import illustrate_actions
from posmlp_jax.tasks.action_detection.objective import action_term
from posmlp_jax.tasks.action_detection.report import report_actions
from posmlp_jax.tasks.action_detection.scoring import score, scored_boxes
from posmlp_jax.tasks.detection.losses import of_batch, of_images
from posmlp_jax.tasks.task import Evaluation

RANDOM = np.random.default_rng(0)


def test_the_loss_by_loops():
    """The mean over the batch's boxes and all actions, however the batch is cut; one without boxes counts nothing."""
    logits = RANDOM.normal(size=(3, 4, 5)).astype(np.float32)
    labels = RANDOM.integers(0, 2, (3, 4, 5)).astype(np.uint8)
    valid = np.array([[1, 1, 1, 0], [0, 0, 0, 0], [1, 0, 0, 1]], np.uint8)
    each = [
        [
            cross_entropy(logits[place], labels[place])
            for place in np.ndindex(3, 4, 5)
            if place[0] == clip and valid[place[:2]]
        ]
        for clip in range(3)
    ]
    term = action_term(logits, labels, valid)
    every = [value for values in each for value in values]
    np.testing.assert_allclose(of_batch({"action": term})["action"], np.mean(every), rtol=1e-5)
    expected = [np.mean(values) if values else 0 for values in each]
    np.testing.assert_allclose(of_images({"action": term}), expected, rtol=1e-5)


class Films(ActionSource):
    """Five key frames of two films with up to three boxes, one of them excluded; action 2 is in no label map."""

    description = "made up"
    num_classes = 3
    most_boxes = 3

    def __init__(self):
        self.categories = tuple(Category(number, name) for number, name in ACTIONS.items())
        self.videos, self.seconds = np.array(["a", "a", "b", "b", "b"], object), np.array([902, 903, 902, 904, 905])
        self.excluded = frozenset({("b", 905)})
        self._boxes = [np.sort(RANDOM.random((n, 2, 2)), axis=1).reshape(n, 4) for n in (2, 1, 3, 2, 1)]
        rows = [
            (video, second, box, 1 + (number + row) % 3, row)
            for number, (video, second, boxes) in enumerate(zip(self.videos, self.seconds, self._boxes, strict=True))
            for row, box in enumerate(boxes)
        ]
        self.truth = table_of(rows)

    def __len__(self):
        return len(self._boxes)

    def __getitem__(self, index):
        boxes = self._boxes[index]
        return None, ActionBoxes(boxes, np.zeros((len(boxes), 3), bool), np.ones(len(boxes)))


SCORES = RANDOM.random((5, 3, 3)).astype(np.float32)


def test_every_action_in_every_box_is_in_the_table():
    """Boxes and scores to the last bit."""
    source = Films()
    table = scored_boxes(source, SCORES)
    rows = [
        (video, second, tuple(box), action, SCORES[number, row, action - 1])
        for number, (video, second) in enumerate(zip(source.videos, source.seconds, strict=True))
        for row, box in enumerate(source[number][1].boxes)
        for action in ACTIONS
    ]
    found = zip(table.videos, table.seconds, map(tuple, table.boxes), table.actions, table.scores, strict=True)
    assert list(found) == rows


@pytest.mark.parametrize("protocol", frame_map.PROTOCOLS)
def test_the_files_of_a_report_have_the_same_map(protocol, tmp_path, capsys):
    source = Films()
    scores = score(source, SCORES, protocol)
    evaluation = Evaluation({"loss": 1.0, "map": scores.result.map, "count": 5}, scores)
    report_actions(tmp_path, 7, {"eval": evaluation}, source)
    folder = tmp_path / "evaluation" / "step7_eval"
    out = capsys.readouterr().out
    assert f"over 2 of 2 actions (protocol {protocol}), weights of step 7" in out
    assert f"wrote classes.csv, detections.csv, groundtruth.csv to {folder}" in out
    for found, made in (
        (read_detections(folder / "detections.csv"), scores.detections),
        (read_ground_truth(folder / "groundtruth.csv"), source.truth),
    ):
        for name, column in found._asdict().items():
            kind = np.float32 if name == "scores" else column.dtype  # Scores are float32, and written so.
            np.testing.assert_array_equal(column.astype(kind), getattr(made, name).astype(kind), name)
    (tmp_path / "map.pbtxt").write_text("".join(f'item {{ name: "{name}" id: {i} }}\n' for i, name in ACTIONS.items()))
    (tmp_path / "excluded.csv").write_text("b,905\n")
    files = {"groundtruth": folder / "groundtruth.csv", "detections": folder / "detections.csv"}
    files |= {"labelmap": tmp_path / "map.pbtxt", "excluded": tmp_path / "excluded.csv"}
    files["output"] = tmp_path / "scores.json"
    frame_map.main([*(f"--{name}={path}" for name, path in files.items()), f"--protocol={protocol}"])
    saved = json.loads(files["output"].read_text())
    assert saved["map"] == scores.result.map
    assert saved["classes"] == {str(number): value for number, value in scores.result.classes.items()}
    head, *rows = (folder / "classes.csv").read_text().splitlines()
    assert head == "class,id,boxes,ap"
    done = source.truth.take(source.truth.seconds != 905).actions
    assert [row.split(",")[:3] for row in rows] == [
        [name, str(number), str(np.sum(done == number))] for number, name in ACTIONS.items()
    ]


def test_clips_are_drawn_with_their_boxes():
    batch = {
        "image": np.full((2, 3, 32, 48, 3), 100, np.uint8),
        "boxes": np.array([[[24, 16, 48, 32], [0] * 4], [[0] * 4] * 2], np.float32),
        "labels": np.array([[[1, 0, 1], [1, 1, 1]], [[0] * 3] * 2], np.uint8),
        "valid": np.array([[1, 0], [0, 0]], np.uint8),
    }
    clips, captions = illustrate_actions(batch, ("stand", "sit", "talk"))
    assert captions == ["stand, talk", "(no actions)"]
    assert clips.shape[:2] == (2, 3)
    assert (clips[1] == 100).all()
    changed = (clips[0] != 100).any(axis=-1)
    height, width = changed.shape[1:]
    assert changed[:, height // 2 :, width // 2].all()
    assert not changed[:, : height // 4].any()
