import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from posmlp_jax.data.decoding.frames import decode_frames
from posmlp_jax.data.prepare import videos
from posmlp_jax.data.prepare.__main__ import run as run_prepare
from posmlp_jax.data.prepare.lists import read_list
from posmlp_jax.data.prepare.prepare import prepare
from posmlp_jax.data.sources.tfds_layout import PreparedSource
from posmlp_jax.errors import ConfigError, DataError

pytestmark = pytest.mark.heavy

ROOT = Path(__file__).parents[3]

# Prepares videos in shards of five; the first argument is at which video the process is killed, or 0.
KILLED = """
import os, signal, sys
from posmlp_jax.data.prepare import videos
from posmlp_jax.data.prepare.__main__ import run
videos.PER_SHARD = 5
stop, read, count = int(sys.argv[1]), videos._read_file, [0]
def read_file(path):
    count[0] += 1
    if count[0] == stop:
        os.kill(os.getpid(), signal.SIGKILL)
    return read(path)
videos._read_file = read_file
try:
    run(sys.argv[2:])
finally:
    print("videos read:", count[0])
"""


def killed_at(number: int, *arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", KILLED, str(number), *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def clip_files(moving_picture, encoded_video) -> list[bytes]:
    """30 small videos, each of another length."""
    return [encoded_video(moving_picture(3 + number, 16, 16, number)) for number in range(30)]


@pytest.fixture
def write_clips(tmp_path, clip_files):
    """Writes the next videos under these paths below a folder, which it returns, and remembers which is where."""
    written: dict[str, bytes] = {}

    def write(*paths: str, folder: str = "source") -> Path:
        for path in paths:
            file = tmp_path / folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            written[path] = clip_files[len(written)]
            file.write_bytes(written[path])
        return tmp_path / folder

    write.written = written
    return write


def contents(folder: Path, split: str) -> dict[str, tuple[bytes, int]]:
    """The videos of a split, by id, and their labels."""
    source = PreparedSource(folder, split)
    examples = [source[index] for index in range(len(source))]
    return {video.id: (video.data, label) for video, label in examples}


def exit_code(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as stop:
        run_prepare(arguments)
    return stop.value.code


def test_video_folder(write_clips, tmp_path):
    suffixes = (".mp4", ".webm", ".avi", ".mkv", ".MOV")
    train = [f"train/{name}/clip{suffix}" for name in ("a", "b b") for suffix in suffixes]
    source = write_clips(*train, "val/b b/x.mp4")
    (source / "train/a/notes.txt").write_text("no video")
    (source / "train/a/.hidden.mp4").write_text("no video")
    folder = prepare("video_folder", str(source), str(tmp_path), under="mine")
    assert folder == tmp_path / "mine/1.0.0"
    written = write_clips.written
    assert contents(folder, "train") == {path: (written[path], int("b b" in path)) for path in train}
    assert contents(folder, "validation") == {"val/b b/x.mp4": (written["val/b b/x.mp4"], 1)}
    prepared = PreparedSource(folder, "train")
    assert (prepared.kind, prepared.num_classes, prepared.class_names) == ("video", 2, ("a", "b b"))
    assert "(train/" in prepared.example_id(0)
    assert sorted(prepared.read_labels()) == [0] * 5 + [1] * 5
    one = prepared[0][0]
    assert one.num_frames == 3 + list(written.values()).index(one.data)
    assert one.fps == 25
    assert decode_frames(one, [0, 2])[0].shape == (2, 16, 16, 3)
    copy = pickle.loads(pickle.dumps(prepared))
    assert copy[3] == prepared[3]
    # What tfds itself sees.
    dataset = tfds.builder_from_directory(folder)
    assert dataset.info.supervised_keys == ("video", "label")
    assert {read["id"].decode(): read["video"] for read in dataset.as_data_source("train")} == {
        path: written[path] for path in train
    }
    assert not (folder / "unreadable.txt").exists()


def test_video_folder_without_val(write_clips, tmp_path):
    source = write_clips(*(f"{name}/{i}.mp4" for name in "ab" for i in range(12)))
    folder = prepare("video_folder", str(source), str(tmp_path))
    train, validation = (contents(folder, split) for split in ("train", "validation"))
    assert (len(train), len(validation)) == (22, 2)
    assert {label for _, label in validation.values()} == {0, 1}
    assert not set(train) & set(validation)
    assert {**train, **validation} == {path: (data, "ab".index(path[0])) for path, data in write_clips.written.items()}


OFFICIAL = "label,youtube_id,time_start,time_end,split,is_cc\n"


def test_kinetics_from_the_official_lists(write_clips, tmp_path):
    source = write_clips(
        "train/abseiling/-3B32lodo2M_000059_000069.mp4", "train/b_000001_000011.mp4", "val/c_000000_000010.mp4"
    )
    (source / "annotations").mkdir()
    (source / "annotations/train.csv").write_text(
        f'{OFFICIAL}abseiling,-3B32lodo2M,59,69,train,0\n"air drumming, loudly",b,1,11,train,0\n'
    )
    (source / "annotations/validate.csv").write_text(f"{OFFICIAL}abseiling,c,0,10,validate,0\n")
    folder = prepare("kinetics400", str(source), str(tmp_path))
    first, second, third = write_clips.written.values()
    assert contents(folder, "train") == {"-3B32lodo2M_000059_000069": (first, 0), "b_000001_000011": (second, 1)}
    assert contents(folder, "validation") == {"c_000000_000010": (third, 0)}
    assert PreparedSource(folder, "train").class_names == ("abseiling", "air drumming, loudly")


@pytest.mark.parametrize(
    ("train", "val", "labels"),
    [
        ("v/a.mp4,3\nv/b c.mp4,0\n", "v/d.mp4,1\n", (3, 0, 1)),
        ("path,label\nv/a.mp4, 3\n\nv/b c.mp4, 0\n", "v/d.mp4, 1\n", (3, 0, 1)),
        ("v/a.mp4 3\nv/b c.mp4 0", "v/d.mp4 1\n", (3, 0, 1)),
        ("\ufeffa.mp4 3\r\nb c.mp4 0\r\n", "{dir}/v/d.mp4 1\n", (3, 0, 1)),
        ("v/a.mp4,yoga\nv/b c.mp4,air drumming\n", "v/d.mp4,yoga\n", (1, 0, 1)),
    ],
)
def test_kinetics_from_lists_of_paths(write_clips, tmp_path, train, val, labels):
    source = write_clips("v/a.mp4", "v/b c.mp4", "v/d.mp4")
    (source / "train.csv").write_bytes(train.encode())
    (source / "val.csv").write_text(val.replace("{dir}", str(source)))
    folder = prepare("kinetics400", str(source), str(tmp_path))
    written = list(write_clips.written.values())
    assert sorted(contents(folder, "train").values()) == sorted(zip(written, labels[:2], strict=False))
    assert list(contents(folder, "validation").values()) == [(written[2], labels[2])]
    assert PreparedSource(folder, "train").num_classes == (2 if "yoga" in train else 4)


def test_names_of_numbered_classes(write_clips, tmp_path):
    source = write_clips("a.mp4", "b.mp4")
    (source / "train.csv").write_text("a.mp4,1\n")
    (source / "val.csv").write_text("b.mp4,0\n")
    (source / "classes.txt").write_text("walk\nrun\njump\n")
    folder = prepare("kinetics400", str(source), str(tmp_path))
    assert PreparedSource(folder, "train").class_names == ("walk", "run", "jump")


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ("a.mp4,0\nb.mp4\n", r"train.csv, line 2: expected 'path,label', not 'b.mp4'"),
        ("a.mp4,0\n\nb.mp4,0,7\n", r"train.csv, line 3: expected 'path,label', not 'b.mp4,0,7'"),
        ("a.mp4 0\nb.mp4\n", r"train.csv, line 2: expected 'path label', not 'b.mp4'"),
        ("a.mp4,0\nb.mp4,walk\n", r"train.csv, line 2: label 'walk' is not a number from 0 to 0"),
        ("a.mp4,0\nb.mp4,-1\n", r"train.csv, line 2: label '-1' is not a number from 0 to 0"),
        ("\n", r"train.csv is empty"),
        (
            f"{OFFICIAL}walk,a,0,10,train,0\nrun,b,0,x,train,0\n",
            r"line 3: time_start and time_end must be whole seconds",
        ),
        (f"{OFFICIAL}walk,a,0,10,train,0\nrun,b\n", r"line 3: time_start and time_end must be whole seconds"),
        (f"{OFFICIAL}walk,a,0,10,train,0\n,b,0,10,train,0\n", r"train.csv, line 3: the label is missing"),
        (f"{OFFICIAL}walk,,0,10,train,0\n", r"train.csv, line 2: the youtube_id is missing"),
        ("label,youtube_id,time_start,split\n", r"train.csv, line 1: the column time_end is missing"),
        (OFFICIAL, "train.csv lists no video"),
    ],
)
def test_wrong_lines(write_clips, tmp_path, train, message):
    source = write_clips("a.mp4", "b.mp4")
    (source / "train.csv").write_text(train)
    (source / "val.csv").write_text("a.mp4,0\n")
    with pytest.raises(DataError, match=message):
        prepare("kinetics400", str(source), str(tmp_path))
    assert not (tmp_path / "kinetics400").exists()


def test_wrong_lists(write_clips, tmp_path):
    source = write_clips("a.mp4")
    with pytest.raises(DataError, match=r"has no train.csv: give a folder with the video files"):
        prepare("kinetics400", str(source), str(tmp_path))
    (source / "train.csv").write_text("a.mp4,0\n")
    with pytest.raises(DataError, match=r"has no val.csv"):
        prepare("kinetics400", str(source), str(tmp_path))
    (source / "val.csv").write_text("a.mp4,1\n")
    with pytest.raises(DataError, match=r"val.csv, line 1: label '1' is not a number from 0 to 0"):
        prepare("kinetics400", str(source), str(tmp_path))
    (source / "train.csv").write_text("a.mp4,walk\n")
    (source / "val.csv").write_text("a.mp4,run\n")
    with pytest.raises(DataError, match=r"val.csv, line 1: label 'run' is not among the 1 classes"):
        prepare("kinetics400", str(source), str(tmp_path))
    (source / "val.csv").write_bytes(b"a.mp4,\xff\n")
    with pytest.raises(DataError, match=r"val.csv is no text file in UTF-8 \(byte 6\)"):
        prepare("kinetics400", str(source), str(tmp_path))
    for name in ("kinetics400", "something_something_v1", "something_something_v2", "video_folder"):
        with pytest.raises(DataError, match="is no folder: give"):
            prepare(name, str(source / "a.mp4"), str(tmp_path))
        with pytest.raises(DataError, match="needs --source="):
            prepare(name, None, str(tmp_path))


def test_lists_with_counts_of_frames(tmp_path):
    (tmp_path / "list.txt").write_text("v1/100218 42 7\nv1/24413 30 0\n")
    assert [(one.video, one.label) for one in read_list(tmp_path / "list.txt")] == [
        ("v1/100218", "7"),
        ("v1/24413", "0"),
    ]
    (tmp_path / "list.txt").write_text("my, clip.mp4 3\nother clip 2.mp4 1\n")
    assert [(one.video, one.label) for one in read_list(tmp_path / "list.txt")] == [
        ("my, clip.mp4", "3"),
        ("other clip 2.mp4", "1"),
    ]


@pytest.fixture
def something_v1(tmp_path, moving_picture, encoded):
    """Version 1 with three videos as frames; returns the folder and the frames by id."""
    root = tmp_path / "sth"
    frames = {}
    for number, count in (("100218", 3), ("24413", 5), ("8", 2)):
        folder = root / "20bn-something-something-v1" / number
        folder.mkdir(parents=True)
        frames[number] = tuple(encoded(frame) for frame in moving_picture(count, 16, 24, count))
        for i, data in enumerate(frames[number], 1):
            (folder / f"{i:05d}.jpg").write_bytes(data)
    (root / "something-something-v1-labels.csv").write_text(
        "Holding something\nDropping something into something, hard\n"
    )
    (root / "something-something-v1-train.csv").write_text(
        "100218;Holding something\n24413;Dropping something into something, hard\n"
    )
    (root / "something-something-v1-validation.csv").write_text("8;Holding something\n")
    (root / "something-something-v1-test.csv").write_text("9\n")
    return root, frames


def test_something_something_v1(something_v1, tmp_path):
    source, frames = something_v1
    folder = prepare("something_something_v1", str(source), str(tmp_path))
    prepared = PreparedSource(folder, "train")
    assert prepared.class_names == ("Dropping something into something, hard", "Holding something")
    assert contents(folder, "train") == {"100218": (frames["100218"], 1), "24413": (frames["24413"], 0)}
    assert contents(folder, "validation") == {"8": (frames["8"], 1)}
    one = PreparedSource(folder, "validation")[0][0]
    assert (one.num_frames, one.fps) == (2, 12.0)
    assert decode_frames(one, [1, 0])[0].shape == (2, 16, 24, 3)


def test_something_something_v1_from_lists_with_numbers(something_v1, tmp_path):
    source, frames = something_v1
    for name in ("train", "validation"):
        (source / f"something-something-v1-{name}.csv").unlink()
    (source / "train.txt").write_text("100218 3 1\n24413 5 0\n")
    (source / "val.txt").write_text("8 2 1\n")
    folder = prepare("something_something_v1", str(source), str(tmp_path))
    assert contents(folder, "train") == {"100218": (frames["100218"], 1), "24413": (frames["24413"], 0)}


def test_wrong_something_something_v1(something_v1, tmp_path):
    source, _ = something_v1
    file = source / "something-something-v1-train.csv"
    file.write_text("100218;Holding something\n24413;Holding nothing\n")
    with pytest.raises(DataError, match=r"v1-train.csv, line 2: label 'Holding nothing' is not among the 2 classes"):
        prepare("something_something_v1", str(source), str(tmp_path))
    file.write_text("100218;Holding something\n24413\n")
    with pytest.raises(DataError, match=r"v1-train.csv, line 2: expected 'path;label', not '24413'"):
        prepare("something_something_v1", str(source), str(tmp_path))
    file.write_text("77;Holding something\n")
    with pytest.raises(DataError, match=r"no folder 77 of frames in"):
        prepare("something_something_v1", str(source), str(tmp_path))


def json_lines(*entries: dict) -> str:
    return "[\n" + ",\n".join(json.dumps(entry) for entry in entries) + "\n]\n"


def entry(number: str, template: str) -> dict:
    return {"id": number, "label": template.lower(), "template": template, "placeholders": ["cup"]}


@pytest.fixture
def something_v2(write_clips):
    source = write_clips(*(f"20bn-something-something-v2/{number}.webm" for number in (78687, 42326, 100904)))
    (source / "labels").mkdir()
    names = {"Holding something next to something": "1", "Approaching something with your camera": "0"}
    (source / "labels/labels.json").write_text(json.dumps(names))
    (source / "labels/train.json").write_text(
        json_lines(
            entry("78687", "Holding [something] next to [something]"),
            entry("42326", "Approaching [something] with your camera"),
        )
    )
    (source / "labels/validation.json").write_text(
        json_lines(entry("100904", "Holding [something] next to [something]"))
    )
    return source


@pytest.mark.parametrize("older_names", [False, True])
def test_something_something_v2(something_v2, write_clips, tmp_path, older_names):
    if older_names:
        for name in ("labels", "train", "validation"):
            (something_v2 / f"labels/{name}.json").rename(something_v2 / f"something-something-v2-{name}.json")
    folder = prepare("something_something_v2", str(something_v2), str(tmp_path))
    first, second, third = write_clips.written.values()
    assert contents(folder, "train") == {"78687": (first, 1), "42326": (second, 0)}
    assert contents(folder, "validation") == {"100904": (third, 1)}
    assert PreparedSource(folder, "train").class_names == (
        "Approaching something with your camera",
        "Holding something next to something",
    )


def test_something_something_v2_from_lists(something_v2, write_clips, tmp_path):
    for name in ("train", "validation"):
        (something_v2 / f"labels/{name}.json").unlink()
    (something_v2 / "train.csv").write_text("20bn-something-something-v2/78687.webm,1\n42326.webm,0\n")
    (something_v2 / "val.csv").write_text("100904,1\n")
    folder = prepare("something_something_v2", str(something_v2), str(tmp_path))
    first, second, third = write_clips.written.values()
    assert sorted(contents(folder, "train").values()) == sorted([(first, 1), (second, 0)])
    assert contents(folder, "validation") == {"100904": (third, 1)}


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("train", "[\n{'id': 1}]", r"train.json, line 2: Expecting property name"),
        ("train", '[\n{"id": "1", "template": "Holding"},\n\n{"id": "2"}]', r"line 4: the entry has no text 'templ"),
        ("train", '[\n{"id": 1, "template": "Holding"}]', r"line 2: the entry has no text 'id'"),
        ("train", '[\n{"id": "1", "template": "[x]"}\n{"id": "2"}]', r"line 3: expected a comma or the end"),
        ("train", '[\n{"id": "1", "template": "Hiding [something]"}]', r"line 2: label 'Hiding something' is not"),
        ("train", '[\n{"id": "1", "template": "a"},', r"train.json, line 2: Expecting value"),
        ("train", '{"id": "1"}', r"train.json, line 1: expected a list of objects"),
        ("train", "[\n\n7]", r"train.json, line 3: expected an object, not 7"),
        ("train", "[]", r"train.json lists no video"),
        ("labels", '{"a": "0",\n"b": }', r"labels.json, line 2: Expecting value"),
        ("labels", '["a"]', r'labels.json must hold {"class": "number", …}'),
        ("labels", '{"a": "first"}', r'labels.json must hold {"class": "number", …}'),
        ("labels", '{"a": "0", "b": "2"}', r"labels.json: the 2 classes are not numbered from 0 to 1"),
    ],
)  # fmt: skip
def test_wrong_something_something_v2(something_v2, tmp_path, file, text, message):
    (something_v2 / f"labels/{file}.json").write_text(text)
    with pytest.raises(DataError, match=message.replace("{", r"\{")):
        prepare("something_something_v2", str(something_v2), str(tmp_path))


@pytest.fixture
def with_broken(write_clips):
    """Fourteen listed videos for training, of which one is missing, one garbage, one empty, one without frames."""
    names = [f"{i}.mp4" for i in range(14)]
    source = write_clips(*names, "val.mp4")
    (source / "3.mp4").unlink()
    (source / "5.mp4").write_bytes(b"nonsense" * 100)
    (source / "8.mp4").write_bytes(b"")
    (source / "9.mp4").write_bytes((source / "9.mp4").read_bytes()[:300])
    (source / "train.csv").write_text("".join(f"{name},{i % 2}\n" for i, name in enumerate(names)))
    (source / "val.csv").write_text("val.mp4,0\n")
    return source


def test_what_cannot_be_read_is_left_out_and_listed(with_broken, tmp_path, capsys):
    arguments = ["kinetics400", f"--source={with_broken}", f"--data_dir={tmp_path}", "--max_broken=0.3"]
    run_prepare(arguments)
    folder = tmp_path / "kinetics400/1.0.0"
    lacking = f"4 videos could not be read and are left out, see {folder}/unreadable.txt"
    assert capsys.readouterr().out == f"prepared: {folder}; {lacking}\n"
    assert len(contents(folder, "train")) == 10
    lines = (folder / "unreadable.txt").read_text().splitlines()
    assert len(lines) == 4
    reasons = {line.partition(": ")[0]: line.partition(": ")[2] for line in lines}
    assert reasons[f"{with_broken}/3.mp4"] == "No such file or directory"
    assert reasons[f"{with_broken}/8.mp4"] == "the file is empty"
    assert reasons[f"{with_broken}/5.mp4"].startswith("not a video file, or a broken one (")
    assert reasons[f"{with_broken}/9.mp4"] == "the file has no video stream"
    assert not (folder / "unreadable").exists()
    run_prepare(arguments)
    assert capsys.readouterr().out == f"already prepared: {folder}; {lacking}\n"


def test_too_many_that_cannot_be_read(with_broken, tmp_path, capsys):
    arguments = ["kinetics400", f"--source={with_broken}", f"--data_dir={tmp_path}"]
    assert exit_code(arguments) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "2 of the 15 videos of kinetics400 cannot be read, more than the share of 0.1 that --max_broken" in error
    assert "or set --max_broken higher" in error
    run_prepare([*arguments, "--max_broken=0.3"])
    assert "4 videos could not be read" in capsys.readouterr().out
    with pytest.raises(ConfigError, match=r"--max_broken must be a share in \[0, 1\], not 7"):
        prepare("kinetics400", str(with_broken), str(tmp_path / "other"), max_broken=7)


def test_a_shard_of_which_nothing_can_be_read(write_clips, tmp_path, monkeypatch):
    monkeypatch.setattr(videos, "PER_SHARD", 1)
    source = write_clips("train/a/1.mp4", "train/a/2.mp4", "train/a/3.mp4", "val/a/1.mp4")
    (source / "train/a/2.mp4").write_bytes(b"nonsense")
    folder = prepare("video_folder", str(source), str(tmp_path), max_broken=0.5)
    assert set(contents(folder, "train")) == {"train/a/1.mp4", "train/a/3.mp4"}


def test_a_killed_run_goes_on_and_lists_everything(with_broken, tmp_path):
    arguments = ("kinetics400", f"--source={with_broken}", "--max_broken=0.3")
    whole = killed_at(0, *arguments, f"--data_dir={tmp_path / 'whole'}")
    assert whole.returncode == 0, whole.stderr
    assert "videos read: 15" in whole.stdout
    assert "15/15" in whole.stderr
    assert "videos/s" in whole.stderr
    here = f"--data_dir={tmp_path / 'killed'}"
    assert killed_at(8, *arguments, here).returncode == -9
    staging = tmp_path / "killed/kinetics400/1.0.0.incomplete"
    assert (staging / "kinetics400-train.array_record-00000-of-00003").is_file()
    end = killed_at(0, *arguments, here)
    assert end.returncode == 0, end.stderr
    assert "videos read: 10" in end.stdout
    assert "15/15" in end.stderr
    folders = [tmp_path / name / "kinetics400/1.0.0" for name in ("whole", "killed")]
    files = [{file.name: file.read_bytes() for file in folder.iterdir()} for folder in folders]
    assert files[0] == files[1]
    assert len((folders[1] / "unreadable.txt").read_text().splitlines()) == 4


def test_videos_in_sub_splits_and_subsets(write_clips, tmp_path):
    from posmlp_jax.data.sources.subset import stratified_subset

    source = write_clips(*(f"train/{name}/{i}.mp4" for name in "ab" for i in range(10)), "val/a/1.mp4")
    folder = prepare("video_folder", str(source), str(tmp_path))
    parts = [contents(folder, split) for split in ("train[:50%]", "train[50%:]")]
    assert not set(parts[0]) & set(parts[1])
    assert len(parts[0]) == len(parts[1]) == 10
    subset = stratified_subset(PreparedSource(folder, "train"), 0.5)
    assert subset.kind == "video"
    assert np.bincount([subset[i][1] for i in range(len(subset))]).tolist() == [5, 5]


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["val/a/1.mp4"], "has val/ but no train/: give a folder with train/CLASS"),
        (["a/1.mp4", "b/1.mp4"], r"hold a tenth out, of the largest 1: 6 would do, or divide them"),
        (["train/a/1.mp4", "train/a/2.mp4"], r"to hold a tenth out, of the largest 2: 6 would do, or add val/CLASS/"),
        (["train/a/1.mp4", "val/b/1.mp4"], "class 'b' of .* is not among the 1 training classes"),
        (["train/a/1.mp4", "val/a/1.txt"], r"no videos in .*val: expected .*/CLASS/\*.mp4"),
        (["train/a/1.mp4", "train/b/1.jpg"], r"class 'b' has no videos \(.mp4, .webm, .avi, .mkv, .mov\)"),
        (["1.mp4"], r"no class folders in .*: videos are expected in DIR/train/CLASS/\*.mp4"),
    ],
)
def test_wrong_video_folders(write_clips, tmp_path, paths, message):
    source = write_clips(*paths)
    with pytest.raises(DataError, match=message):
        prepare("video_folder", str(source), str(tmp_path))


def test_videos_of_other_sizes_are_another_source(write_clips, tmp_path):
    source = write_clips("train/a/1.mp4", "train/a/2.mp4", "val/a/1.mp4")
    arguments = ("video_folder", str(source), str(tmp_path / "prepared"))
    folder = prepare(*arguments)
    assert prepare(*arguments) == folder
    (source / "train/a/2.mp4").write_bytes((source / "val/a/1.mp4").read_bytes() + b"\0")
    with pytest.raises(
        DataError, match="was prepared from another source: videos of the same names, but other sizes; del"
    ):
        prepare(*arguments)
    # Versions before this one have not stored sizes.
    plan = json.loads((folder / "plan.json").read_text())
    del plan["source"]["sizes"]
    (folder / "plan.json").write_text(json.dumps(plan))
    assert prepare(*arguments) == folder
