"""AVA's tables as they are published, and everything that people get wrong in their own."""

import csv
import io
import os
import pickle
import struct

import numpy as np
import pytest

from posmlp_jax.data.array_pickles import ArraysOnly
from posmlp_jax.data.sources.ava_tables import (
    Boxes,
    boxes_csv,
    read_detections,
    read_excluded,
    read_ground_truth,
    read_label_map,
)
from posmlp_jax.errors import DataError

TRUTH = "1j20qq1JyX4,0902,0.002,0.118,0.714,0.977,12,1\n1j20qq1JyX4,0902,0.002,0.118,0.714,0.977,79,1\n"
FOUND = "1j20qq1JyX4,0902,0.077,0.151,0.283,0.811,,0.996382\n_-Z6wFjXtGQ,1798,0.1,0.2,0.3,0.4,80,1e-05\n"


@pytest.fixture
def file(tmp_path):
    """Writes a text, or bytes, to a file."""

    def write(content, name="table.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_tables_as_published(file):
    truth = read_ground_truth(file(TRUTH))
    assert truth.videos.tolist() == ["1j20qq1JyX4"] * 2
    assert truth.seconds.tolist() == [902, 902]
    assert truth.boxes.tolist() == [[0.002, 0.118, 0.714, 0.977]] * 2
    assert truth.actions.tolist() == [12, 79]
    assert truth.people.tolist() == [1, 1]
    assert np.isnan(truth.scores).all()
    found = read_detections(file(FOUND))
    assert found.actions.tolist() == [0, 80]
    assert found.scores.tolist() == [0.996382, 1e-05]
    assert found.people.tolist() == [-1, -1]
    assert [column.dtype for column in found] == [object, np.int64, float, np.int64, float, np.int64]
    assert [len(column) for column in found.take(found.scores > 0.5)] == [1] * 6
    assert read_excluded(file("a,0904\n\n_-Z,1798\n")) == {("a", 904), ("_-Z", 1798)}
    assert read_excluded(file("")) == frozenset()


def test_tables_as_other_systems_write_them(file):
    """With a mark of UTF-8, Windows' line ends, empty lines, quoted names, without people."""
    text = '\ufeff"a, b",0902,0.1,0.2,0.3,0.4,7\r\n\r\nc,903,0.1,0.2,0.3,0.4,8,\r\n'
    truth = read_ground_truth(file(text))
    assert truth.videos.tolist() == ["a, b", "c"]
    assert truth.seconds.tolist() == [902, 903]
    assert truth.people.tolist() == [-1, -1]


def test_what_is_written_is_read(file):
    random = np.random.default_rng(0)
    corners = np.sort(random.random((50, 2, 2)), axis=1).reshape(50, 4)
    videos, seconds = np.array(["a", 'b, "c"'] * 25, object), random.integers(0, 10_000, 50)
    scores = random.random(50, np.float32).astype(np.float64)
    found = Boxes(videos, seconds, corners, random.integers(0, 81, 50), scores, np.full(50, -1))
    again = read_detections(file(boxes_csv(found)))
    for name, column in found._asdict().items():
        read = getattr(again, name)
        np.testing.assert_array_equal(read.astype(np.float32) if name == "scores" else read, column, err_msg=name)
    truth = found._replace(scores=np.full(50, np.nan), people=random.integers(-1, 3, 50), actions=found.actions + 1)
    for read, column in zip(read_ground_truth(file(boxes_csv(truth))), truth, strict=True):
        np.testing.assert_array_equal(read, column)
    assert boxes_csv(truth.take(np.array([], int))) == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "table.csv is empty: expected ground truth as rows of video,second"),
        ("\n\n", "is empty"),
        (TRUTH + "a,0902,0.1,0.2\n", "line 3: number of columns: 4, and should be 7 or 8: video,second,x1"),
        (TRUTH + "a,0902,0.1,0.2,0.3,0.", "line 3: number of columns: 6"),
        (TRUTH + "a;0902;0.1;0.2;0.3;0.4;12;1\n", "line 3: number of columns: 1"),
        ("video,second,x1,y1,x2,y2,action,person\n" + TRUTH, "line 1: .* whole number; there is no header line"),
        ("a,902.5,0.1,0.2,0.3,0.4,12,1\n", "the second is '902.5', and should be a whole number"),
        ("a,99999999999999999999,0.1,0.2,0.3,0.4,12,1\n", "the second is '99999999999999999999'"),
        (TRUTH + "a,0902,12,40,200.5,310,12,1\n", r"line 3: the box \(12, 40, 200.5, 310\) .* divide pixels by"),
        ("a,0902,0.5,0.5,0.2,0.4,12,1\n", r"the box \(0.5, 0.5, 0.2, 0.4\) ends before it begins"),
        ("a,0902,0.1,nan,0.3,0.4,12,1\n", "y1 is nan, and should be a number"),
        ("a,0902,0.1,0.2,0.3,O.4,12,1\n", "y2: could not convert string to float: 'O.4'"),
        ("a,0902,0.1,0.2,0.3,0.4,0,1\n", "action 0: ids begin with 1"),
        ("a,0902,0.1,0.2,0.3,0.4,-1,1\n", "action -1: ids begin with 1"),
        ("a,0902,0.1,0.2,0.3,0.4,stand,1\n", "the action is 'stand', and should be a whole number"),
        ("a,0902,0.1,0.2,0.3,0.4,,1\n", "the action, column 7, is empty: these are a detector's boxes"),
        ("a,0902,0.1,0.2,0.3,0.4,12,0.98\n", "the person is '0.98', .* makes it a table of detections"),
        (",0902,0.1,0.2,0.3,0.4,12,1\n", "the video, column 1, is empty"),
        (b"a\xff,0902,0.1,0.2,0.3,0.4,12,1\n", r"it is no text in UTF-8 \(byte 1\)"),
    ],
)
def test_ground_truth_that_is_none(file, text, message):
    with pytest.raises(DataError, match=message) as error:
        read_ground_truth(file(text))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty: expected detections"),
        ("a,0902,0.1,0.2,0.3,0.4,12\n", "line 1: column 8, the score, is missing"),
        ("a,0902,0.1,0.2,0.3,0.4,12,high\n", "score: could not convert string to float: 'high'"),
        ("a,0902,0.1,0.2,0.3,0.4,12,inf\n", "score is inf"),
        (TRUTH + "a,0902,0.1,0.2,0.3,0.4,12,3\n", "column 8 has whole numbers alone, up to 3: these are people"),
        (FOUND + "a,0902,0.1,0.2,300,0.4,12,0.5\n", "line 3: the box .* is not in shares"),
    ],
)
def test_detections_that_are_none(file, text, message):
    with pytest.raises(DataError, match=message):
        read_detections(file(text))


def test_a_mistake_in_a_later_part_of_a_long_table(file):
    with pytest.raises(DataError, match="line 70001: number of columns: 2"):
        read_detections(file("a,0902,0.1,0.2,0.3,0.4,12,0.5\n" * 70_000 + "a,0902\n"))


def test_excluded_frames_that_are_none(file, tmp_path):
    with pytest.raises(DataError, match="line 2: number of columns: 3, and should be 2: video,second"):
        read_excluded(file("a,0902\na,0902,1\n"))
    with pytest.raises(DataError, match="the second is 'x'"):
        read_excluded(file("a,x\n"))
    with pytest.raises(DataError, match=r"cannot read .*none.csv: No such file"):
        read_excluded(tmp_path / "none.csv")
    with pytest.raises(DataError, match="Is a directory"):
        read_ground_truth(tmp_path)


def test_label_maps(file):
    evaluated = (
        'item {\n  name: "bend/bow (at the waist)"\n  id: 1\n}\nitem {\n  name: "talk to {a person}"\n  id: 79\n}\n'
    )
    named = "label { name: 'say \\'so\\'' label_id: 80 label_type: OBJECT }\n# all\nlabel{label_id:3 name:\"x\"}"
    assert read_label_map(file(evaluated)) == ((1, "bend/bow (at the waist)"), (79, "talk to {a person}"))
    assert read_label_map(file(named)) == ((3, "x"), (80, "say 'so'"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty: expected a label map"),
        ("1: bend/bow (at the waist)\n", "line 1: expected an action as a label map has it"),
        ('item {\n name: "a"\n id: 1\n}\n\nitem {\n name: "b"\n', "line 6: expected an action"),
        ('item {\n name: "a"\n id: 1\n}\nitem {\n name: "b"\n id: 1\n}\n', "line 5: id 1 is that of 'a' already"),
        ('item { name: "a" }', "line 1: an action needs a name in quotes and an id from 1 on"),
        ("item { name: a id: 1 }", "an action needs a name in quotes"),
        ('item { name: "a" id: 0 }', "an id from 1 on"),
    ],
)
def test_label_maps_that_are_none(file, text, message):
    with pytest.raises(DataError, match=message):
        read_label_map(file(text, "map.pbtxt"))


BOXES = {
    "0f39OWEqJ24,0902": np.array([[0.011, 0.157, 0.655, 0.983, 0.998163], [0.1, 0.1, 0.2, 0.2, 0.5]]),
    "a, b,1798": np.array([[0.0, 0.0, 1.0, 1.0, 0.25]], np.float32),
    "none,0903": np.zeros((0, 5)),
}


@pytest.mark.parametrize("protocol", range(6))
def test_the_pickle(file, protocol):
    found = read_detections(file(pickle.dumps(BOXES, protocol), "proposals.pkl"))
    assert found.videos.tolist() == ["0f39OWEqJ24", "0f39OWEqJ24", "a, b"]
    assert found.seconds.tolist() == [902, 902, 1798]
    np.testing.assert_array_equal(found.boxes, np.concatenate([rows[:, :4] for rows in BOXES.values()]))
    assert found.scores.tolist() == [0.998163, 0.5, 0.25]
    assert not found.actions.any()


def test_a_pickle_of_python_2(file):
    """As NumPy of 2012 wrote it: byte strings, and the private names of then."""
    raw = np.array([[0.1, 0.2, 0.3, 0.4, 0.9]]).tobytes()
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR(K\x01K\x01K\x05\x86"
        b"cnumpy\ndtype\n(U\x02f8K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89T" + struct.pack("<i", len(raw)) + raw + b"tb"
    )
    whole = b"\x80\x02}(U\x06a,0902" + array + b"u."
    found = read_detections(file(whole, "old.pkl"))
    assert found.videos.tolist() == ["a"]
    assert found.boxes.tolist() == [[0.1, 0.2, 0.3, 0.4]]
    # As CIFAR-10's are read.
    (array,) = ArraysOnly(io.BytesIO(whole), encoding="bytes").load().values()
    assert array.tolist() == [[0.1, 0.2, 0.3, 0.4, 0.9]]


class Program:
    def __reduce__(self):
        return os.mkdir, ("run_by_a_pickle",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a,0902": Program()}, "it wants to load posix.mkdir, and boxes are arrays of numbers alone"),
        ({"a,0902": csv.Sniffer()}, "it wants to load"),
        ([BOXES], "holds no boxes: expected a dict"),
        ({}, "holds no boxes"),
        ({"a": BOXES["none,0903"]}, "the key 'a' should be 'video,second'"),
        ({("a", 902): BOXES["none,0903"]}, "should be 'video,second'"),
        ({"a,09x2": BOXES["none,0903"]}, "'a,09x2': the second is '09x2'"),
        ({"a,0902": [[0.1, 0.2, 0.3, 0.4, 0.5]]}, "expected an array of numbers, not list"),
        ({"a,0902": np.zeros((2, 6))}, r"'a,0902': an array of shape \[2, 6\]"),
        ({"a,0902": np.array([[0, 0, 1, 1, np.nan]])}, "a score is no number"),
        ({"a,0902": np.array([[0, 0, 640, 480, 0.5]])}, "'a,0902': the box .* is not in shares of the frame"),
    ],
)
def test_pickles_that_are_none(file, tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=message):
        read_detections(file(pickle.dumps(content), "boxes.pkl"))
    assert not (tmp_path / "run_by_a_pickle").exists()


def test_damaged_pickles(file):
    whole = pickle.dumps(BOXES)
    for end in (0, 10, len(whole) // 2):
        with pytest.raises(DataError, match="cannot read"):
            read_detections(file(whole[:end], "boxes.pkl"))


def text(value: str) -> bytes:
    return b"X" + struct.pack("<i", len(value)) + value.encode()


def numbers(code: str) -> bytes:
    """A pickled type, but for what else NumPy has to say of it."""
    return b"cnumpy\ndtype\n" + text(code) + b"K\x00K\x01\x87R"


@pytest.mark.parametrize("made", ["by its type", "by its state", "by a buffer"])
def test_a_pickle_cannot_make_addresses_of_numbers(file, made):
    """A type of float64 that has objects in it, whose array's bytes NumPy would follow when one is set."""
    state = b"(K\x03" + text("<") + b"N" + text("a") + b"\x85}" + text("a") + numbers("O8") + b"K\x00\x86s"
    kind = numbers("f8") + state + b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    address = b"\x96" + struct.pack("<q", 8) + b"ABCDEFGH"
    array = {
        "by its type": b"cnumpy\nndarray\n(K\x01\x85" + kind + address + b"tR",
        "by its state": b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR(K\x01K\x01\x85"
        + kind
        + b"\x89T"
        + struct.pack("<i", 8)
        + b"ABCDEFGHtb",
        "by a buffer": b"cnumpy.core.numeric\n_frombuffer\n(" + address + kind + b"K\x01\x85U\x01CtR",
    }[made]
    set_an_object = text("a") + b"K\x05s"
    with pytest.raises(DataError, match="cannot read"):
        read_detections(file(b"\x80\x05" + array + set_an_object + b".", "boxes.pkl"))


def test_arrays_of_other_types(file):
    whole = {"a,0902": np.array([[0, 0, 1, 1, 1]], ">i2"), "b,0902": np.asfortranarray(np.eye(5)[[3, 2, 2]] / 2)}
    found = read_detections(file(pickle.dumps(whole), "boxes.pkl"))
    np.testing.assert_array_equal(found.boxes[0], [0, 0, 1, 1])
    np.testing.assert_array_equal(found.boxes[1:], whole["b,0902"][:, :4])
    assert {type(column) for column in found} == {np.ndarray}
    with pytest.raises(DataError, match="it has an array of object, and boxes are arrays of numbers alone"):
        read_detections(file(pickle.dumps({"a,0902": np.array([None])}), "boxes.pkl"))
