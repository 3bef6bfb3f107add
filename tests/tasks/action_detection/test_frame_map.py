"""Frame mAP against three published evaluators' own outputs, and against loops over single boxes."""

import functools
import json
from pathlib import Path

import numpy as np
import pytest

from posmlp_jax.data.sources.ava_tables import Boxes, boxes_csv
from posmlp_jax.errors import ConfigError, DataError
from posmlp_jax.tasks.action_detection import frame_map as command
from posmlp_jax.tasks.action_detection.frame_map import PROTOCOLS, frame_map
from posmlp_jax.tasks.action_detection.mismatches import check_tables

# What ActivityNet's get_ava_performance.py, SlowFast's ava_eval_helper.py and mmaction2's ava_utils.py gave for the
# tables of `random_set(0)` to `random_set(99)`: float64 [100, ACTIONS] a protocol, NaN where a class is in no mean.
PUBLISHED = Path(__file__).parent.parent.parent / "reference_outputs" / "frame_map.npz"
SETS, ACTIONS = 100, 12


@functools.cache
def random_set(seed):
    """(truth, detections, classes, excluded), whose corners have 3 decimals and whose scores are all different.

    `RandomState` gives the same numbers for ever. Frames have none to 60 detections; some are of no annotated frame, of
    classes that are not evaluated, of none at all, without an area, or on top of each other.
    """
    random = np.random.RandomState(seed)
    classes = sorted((random.permutation(ACTIONS)[: 4 + seed % 7] + 1).tolist())
    most = (3, 12, 60)[seed % 3]
    truth, found, excluded = [], [], set()
    for second in range(902, 902 + 12):
        video = ("first", "second", "a, third")[random.randint(3)]
        if random.random_sample() < 0.15:
            excluded.add((video, second))
        people = np.round(random.random_sample((random.randint(5), 4)) * [0.6, 0.6, 0.3, 0.3], 3)
        people[:, 2:] = np.round(people[:, :2] + people[:, 2:] + 0.1, 3)
        done = 1 + random.randint(ACTIONS - 2, size=(len(people), 1 + random.randint(3)))
        truth += [(video, second, people[who], action, who) for who in range(len(people)) for action in done[who]]
        for _ in range(random.randint(most)):
            box, actions = random.random_sample(4) * 0.5 + [0, 0, 0.5, 0.5], 1 + random.randint(ACTIONS, size=2)
            if len(people) and random.random_sample() < 0.8:
                who = random.randint(len(people))
                box = people[who] + (random.random_sample(4) - 0.5) * 0.1
                actions[0] = done[who, 0]
            box = np.round(np.clip(box, 0, 1), 3)
            box[2:] = np.maximum(box[2:], box[:2])
            if random.random_sample() < 0.03:
                box[2] = box[0]
            found += [(video, second, box, action) for action in actions]
    scores = (random.permutation(len(found)) + 1) / 2.0**12
    videos, seconds, boxes, actions, people = (list(column) for column in zip(*truth, strict=True))
    labelled = table(videos, seconds, boxes, actions, people=people)
    return labelled, table(*(list(column) for column in zip(*found, strict=True)), scores), classes, frozenset(excluded)


def table(videos, seconds, boxes, actions, scores=None, people=None):
    n = len(videos)
    return Boxes(
        np.array(videos, object),
        np.array(seconds, np.int64).reshape(n),
        np.array(boxes, np.float64).reshape(n, 4),
        np.array(actions, np.int64).reshape(n),
        np.full(n, np.nan) if scores is None else np.array(scores, np.float64).reshape(n),
        np.full(n, -1) if people is None else np.array(people, np.int64).reshape(n),
    )


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_published_evaluators(protocol):
    published, number = np.load(PUBLISHED), list(PROTOCOLS).index(protocol)
    for seed in range(SETS):
        truth, found, classes, excluded = random_set(seed)
        # ActivityNet's has no list of excluded frames.
        scores = frame_map(
            truth, found, classes, excluded=() if protocol == "official" else excluded, protocol=protocol
        )
        by_class = np.full(ACTIONS, np.nan)
        by_class[np.array(list(scores.classes)) - 1] = list(scores.classes.values())
        np.testing.assert_allclose(by_class, published[protocol][seed], rtol=0, atol=1e-12, err_msg=str(seed))
        assert scores.map == pytest.approx(published["maps"][seed, number], abs=1e-12)


def naive_overlap(first, second):
    sides = [max(0.0, min(first[k + 2], second[k + 2]) - max(first[k], second[k])) for k in (0, 1)]
    area = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    shared = sides[0] * sides[1]
    return shared / (area - shared) if area > shared else 0.0


def naive_map(truth, found, classes, excluded, protocol):
    """The rules of the research note, one box at a time."""
    labelled = list(zip(truth.videos, truth.seconds, truth.boxes, truth.actions, strict=True))
    annotated = {(v, s) for v, s, _, a in labelled if protocol == "official" or a in classes} - set(excluded)
    rows = list(zip(found.videos, found.seconds, found.boxes, found.actions, found.scores, strict=True))
    rows = [row for row in rows if row[3] in classes and (row[0], row[1]) not in excluded]
    if protocol != "slowfast":
        rows = sorted((row for row in rows if (row[0], row[1]) in annotated), key=lambda row: -row[4])
    if protocol == "official":
        seen, kept = {}, []
        for row in rows:
            seen[row[:2]] = seen.get(row[:2], 0) + 1
            kept += [row] if seen[row[:2]] <= 50 else []
        rows = kept
    if protocol != "mmaction2":
        rows = [row for row in rows if row[2][0] < row[2][2] and row[2][1] < row[2][3]]
    precisions, taken = {}, set()
    for action in sorted(classes):
        number = sum(a == action and (protocol == "mmaction2" or (v, s) not in excluded) for v, s, _, a in labelled)
        of_class, results = [row for row in rows if row[3] == action], []
        for video, second, box, _, score in of_class:
            best, most = None, 0.0
            for index, (v, s, other, a) in enumerate(labelled):
                if (v, s, a) == (video, second, action) and naive_overlap(box, other) > most:
                    best, most = index, naive_overlap(box, other)
            right = most >= 0.5 and best not in taken
            taken |= {best} if right else set()
            results.append((score, right))
        if number and (results or protocol != "mmaction2"):
            results = [right for _, right in sorted(results, key=lambda each: -each[0])]
            points = [(sum(results[:k]) / k, sum(results[:k])) for k in range(1, len(results) + 1)]
            steps = [max(p for p, hits in points if hits >= n) for n in range(1, sum(results) + 1)]
            precisions[action] = sum(steps) / number
    return sum(precisions.values()) / len(precisions), precisions


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("seed", [1, 2, 5])
def test_rounded_scores_and_a_loop(protocol, seed):
    """Where scores are equal, the table's order decides."""
    truth, found, classes, excluded = random_set(seed)
    found = found._replace(scores=np.round(found.scores, 1))
    expected, by_class = naive_map(truth, found, classes, excluded, protocol)
    scores = frame_map(truth, found, classes, excluded=excluded, protocol=protocol)
    assert scores.map == pytest.approx(expected, abs=1e-12)
    assert scores.classes == pytest.approx(by_class, abs=1e-12)


BOX, SHIFTED, FAR = [0.1, 0.1, 0.5, 0.5], [0.12, 0.1, 0.52, 0.5], [0.6, 0.6, 0.9, 0.9]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_two_detections_of_one_box(protocol):
    """Of two the first by score is right, but with SlowFast the first of the table; the other has no second choice."""
    truth = table(["a"] * 2, [902] * 2, [BOX, [0.1, 0.1, 0.5, 0.4]], [1, 1])
    found = table(["a"] * 2, [902] * 2, [SHIFTED, BOX], [1, 1], [0.5, 0.9])
    swapped = found.take(np.array([1, 0]))
    first = 0.5 if protocol != "slowfast" else 0.25
    assert frame_map(truth, found, [1], protocol=protocol).map == pytest.approx(first)
    assert frame_map(truth, swapped, [1], protocol=protocol).map == pytest.approx(0.5)


def test_classes_and_frames_without_ground_truth():
    truth = table(["a", "a", "b"], [902, 902, 902], [BOX, FAR, BOX], [1, 2, 9])
    found = table(["a", "a", "b", "c"], [902] * 4, [BOX, BOX, BOX, BOX], [1, 3, 1, 1], [0.1, 0.2, 0.3, 0.4])
    # Frame b has ground truth of a class that is not evaluated, frame c none.
    assert frame_map(truth, found, [1, 2, 3]).classes == {1: 0.5, 2: 0.0}
    assert frame_map(truth, found, [1, 2, 3], protocol="slowfast").classes == pytest.approx({1: 1 / 3, 2: 0.0})
    assert frame_map(truth, found, [1, 2, 3], protocol="mmaction2").classes == {1: 1.0}
    # An excluded frame's detections are no false positives; its ground truth is missed in mmaction2 alone.
    without = {("c", 902)}
    assert frame_map(truth, found, [1, 2], excluded=without, protocol="slowfast").classes == {1: 0.5, 2: 0.0}
    twice = table(["a", "b"], [902] * 2, [BOX, BOX], [1, 1])
    for protocol, expected in (("official", 1.0), ("slowfast", 1.0), ("mmaction2", 0.5)):
        assert frame_map(twice, found, [1], excluded={("b", 902), *without}, protocol=protocol).map == expected


def test_no_detections():
    truth, none = table(["a"], [902], [BOX], [1]), table([], [], [], [], [])
    for protocol in ("official", "slowfast"):
        assert frame_map(truth, none, [1, 2], protocol=protocol) == (0.0, {1: 0.0})
    with pytest.raises(DataError, match="nothing to score"):
        frame_map(truth, none, [1, 2], protocol="mmaction2")
    with pytest.raises(DataError, match="nothing to score"):
        frame_map(truth, none, [2])
    with pytest.raises(ConfigError, match="did you mean 'slowfast'"):
        frame_map(truth, none, [1], protocol="slow_fast")


def test_fifty_rows_a_frame():
    """The 51st row, of any class that counts, is cut off; rows of other classes take no place."""
    truth = table(["a"], [902], [BOX], [1])
    boxes, scores = [FAR] * 60 + [BOX], np.linspace(0.9, 0.1, 61)
    for others, expected in ((10, 0.0), (11, 1.0)):
        actions = [7] * others + [2] * (60 - others) + [1]
        found = table(["a"] * 61, [902] * 61, boxes, actions, scores)
        assert frame_map(truth, found, [1, 2]).map == expected
        assert frame_map(truth, found, [1, 2], protocol="slowfast").map == 1.0


def files(folder, truth, found, classes):
    (folder / "g.csv").write_text(boxes_csv(truth))
    (folder / "d.csv").write_text(boxes_csv(found))
    (folder / "l.pbtxt").write_text("".join(f'item {{\n  name: "does {id_}"\n  id: {id_}\n}}\n' for id_ in classes))
    return [
        f"--{name}={folder / file}"
        for name, file in (("groundtruth", "g.csv"), ("detections", "d.csv"), ("labelmap", "l.pbtxt"))
    ]


def test_command(tmp_path, capsys):
    truth, found, classes, excluded = random_set(4)
    arguments = files(tmp_path, truth, found, classes)
    (tmp_path / "e.csv").write_text("".join(f'"{video}",{second:04d}\n' for video, second in excluded))
    output = tmp_path / "made" / "scores.json"
    command.main([*arguments, f"--excluded={tmp_path / 'e.csv'}", "--protocol=slowfast", f"--output={output}"])
    expected = frame_map(truth, found, classes, excluded=excluded, protocol="slowfast")
    scores = json.loads(output.read_text())
    assert scores == {"map": expected.map, "classes": {str(id_): value for id_, value in expected.classes.items()}}
    printed = capsys.readouterr().out
    assert f"mAP {100 * expected.map:.4f} % over {len(expected.classes)} of {len(classes)} classes" in printed
    assert "not in the label map" in printed
    assert "are on frames without ground truth" in printed


def test_command_refuses(tmp_path, capsys):
    truth = table(["a", "b"], [902, 903], [BOX, FAR], [1, 2])
    found = table(["a"], [902], [BOX], [1], [0.5])
    arguments = files(tmp_path, truth, found, [1, 2])
    with pytest.raises(SystemExit, match="2"):
        command.run([*arguments, "--protocol=officiall"])
    assert capsys.readouterr().err == "error: --protocol=officiall is unknown: did you mean 'official'?\n"
    with pytest.raises(ConfigError, match="it is read for this"):
        command.main([*arguments, f"--output={tmp_path / 'd.csv'}"])
    assert (tmp_path / "d.csv").read_text() == boxes_csv(found)


def test_tables_that_do_not_belong_together():
    truth = table(["a", "b"], [902, 903], [BOX, FAR], [1, 2])
    found = table(["a"], [902], [BOX], [1], [0.5])
    with pytest.raises(DataError, match=r"first being 'a.mp4,0902' and 'a,0902': the names of the videos differ"):
        check_tables(truth, found._replace(videos=np.array(["a.mp4"], object)), [1])
    with pytest.raises(DataError, match="the seconds differ"):
        check_tables(truth, found._replace(seconds=found.seconds + 1), [1])
    with pytest.raises(DataError, match="row 1 of the detections has no action"):
        check_tables(truth, found._replace(actions=found.actions * 0), [1])
    with pytest.raises(DataError, match=r"no action of the ground truth \(1, 2\) is in the label map \(3\)"):
        check_tables(truth, found, [3])
    both = Boxes(*(np.concatenate(pair) for pair in zip(found, found._replace(actions=np.array([7])), strict=True)))
    assert "1 of the actions of the detections are not in the label map, and do not count" in check_tables(
        truth, both, [1]
    )
    assert any("over the 60 of" in note for note in check_tables(truth, found, range(1, 81)))
    notes = check_tables(truth, found._replace(boxes=np.array([FAR])), [1])
    assert notes == [
        "1 of the actions of ground truth are not in the label map, and do not count",
        "1 of 2 key frames of ground truth have no detection",
        "no detection overlaps a box of ground truth, of any action, with an IoU of 0.5",
    ]
