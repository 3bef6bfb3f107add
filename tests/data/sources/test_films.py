"""Films with AVA's tables: which key frames there are, what is in them, and what users do wrong."""

import os
import pickle
from contextlib import closing

import numpy as np
import pytest
from inked_films import HEIGHT, WIDTH, number_of, write_ava, write_film
from PIL import Image

from posmlp_jax.data import check_source, eval_batches, open_films, train_batches
from posmlp_jax.data.decoding.decodable import check_decodable
from posmlp_jax.data.fingerprint import fingerprint
from posmlp_jax.errors import ConfigError, DataError
from posmlp_jax.tasks.action_detection.targets import ActionTargets

TRAIN = """\
b,0902,0.1,0.2,0.5,0.7,1,0
b,0902,0.6,0.2,0.9,0.7,7,1
a,0903,0.1,0.2,0.5,0.7,3,0
b,0902,0.1,0.2,0.5,0.7,3,0
a,0902,0.3,0.3,0.4,0.4,1,2
a,0905,0.3,0.3,0.4,0.4,1,2
"""
EVAL = "c,0901,0.1,0.1,0.5,0.9,1,0\nc,0904,0.1,0.1,0.5,0.9,4,0\n"
FOUND = "a,0902,0.31,0.3,0.4,0.4,,0.95\na,0902,0.1,0.1,0.2,0.2,,0.5\na,0904,0,0,1,1,,0.99\nz,0902,0,0,1,1,,0.99\n"


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Films of six seconds, for folders to link to."""
    folder = tmp_path_factory.mktemp("films")
    return {name: write_film(folder / f"{name}.mp4", np.arange(180) / 30) for name in "abc"}


@pytest.fixture
def folder(tmp_path, films):
    """A folder with films and tables, and its config."""
    config = write_ava(tmp_path / "ava", train_labels=TRAIN, eval_labels=EVAL, train_excluded="a,0905\n")
    (tmp_path / "ava/videos").mkdir()
    for name, film in films.items():
        os.link(film, tmp_path / f"ava/videos/{name}.mp4")
    return tmp_path / "ava", config


def test_key_frames_and_their_boxes(folder):
    root, config = folder
    source = open_films(config, "train")
    assert list(zip(source.videos, source.seconds.tolist(), strict=True)) == [("a", 902), ("a", 903), ("b", 902)]
    assert (source.counts.tolist(), source.most_boxes, len(source.truth.videos)) == ([1, 1, 2], 2, 6)
    assert source.class_names == ("sit", "action 2", "wave left", "wave right", "action 5", "action 6", "action 7")
    assert [category.id for category in source.categories] == [1, 3, 4]
    assert source.sizes.tolist() == [[HEIGHT, WIDTH]] * 3
    assert (source.excluded, source.remarks) == ({("a", 905)}, ["1 key frames are excluded"])
    moment, boxes = source[2]
    assert moment.time == 2.0
    np.testing.assert_array_equal(boxes.boxes, [[0.1, 0.2, 0.5, 0.7], [0.6, 0.2, 0.9, 0.7]])
    assert [np.flatnonzero(row).tolist() for row in boxes.labels] == [[0, 2], [6]]
    assert boxes.scores.tolist() == [1.0, 1.0]
    assert source.example_id(2) == f"b,0902 ({root}/videos/b.mp4)"
    # A model of both splits has outputs for both, whichever is opened.
    evaluation = open_films(config, "eval")
    assert (evaluation.num_classes, evaluation.to_check()) == (7, [1])
    again = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(again[2][1].labels, boxes.labels)


def test_detected_boxes(folder):
    root, config = folder
    (root / "found.csv").write_text(FOUND)
    config.films.update(train_boxes="found.csv", eval_boxes="found.csv", eval_labels=config.films.train_labels)
    source = open_films(config, "train")
    assert source.remarks[:2] == [
        "2 of the 3 boxes of found.csv have a score of 0.9 or more",
        "1 boxes of found.csv are of films that ava_train_v2.2.csv has not",
    ]
    assert list(zip(source.videos, source.seconds.tolist(), strict=True))[:3] == [("a", 902), ("a", 903), ("a", 904)]
    boxes = source[0][1]
    assert (boxes.scores.tolist(), boxes.labels.sum(1).tolist()) == ([1.0, 0.95], [1, 0])
    # Evaluation has the detector's alone.
    config.films.eval_score = 0.4
    source = open_films(config, "eval")
    assert list(zip(source.videos, source.seconds.tolist(), strict=True)) == [("a", 902), ("a", 904)]
    np.testing.assert_array_equal(source[0][1].boxes, [[0.31, 0.3, 0.4, 0.4], [0.1, 0.1, 0.2, 0.2]])
    assert (source.counts.tolist(), source[0][1].labels.any()) == ([2, 1], False)
    config.films.eval_score = 1.0
    with pytest.raises(DataError, match=r"found\.csv has no box with a score of 1 or more: the best has 0\.99"):
        open_films(config, "eval")
    config.films.eval_score = 0.4
    (root / "found.csv").write_text(FOUND.replace("a,0902", "a,0901"))
    with pytest.raises(DataError, match=r"found\.csv has no box on a key frame of .*, but on others, as 'a,0901'"):
        open_films(config, "eval")


def test_detected_boxes_with_actions(folder):
    """As SlowFast's lists to train on have them: what a box has no action in is not done."""
    root, config = folder
    (root / "found.csv").write_text(
        "a,0902,0.3,0.3,0.4,0.4,3,0.95\na,0902,0.3,0.3,0.4,0.4,4,0.95\na,0902,0,0,1,1,,0.9\n"
    )
    config.films.train_boxes = "found.csv"
    source = open_films(config, "train")
    assert source.remarks[1] == "3 of the 4 key frames of ava_train_v2.2.csv have no box in found.csv"
    assert not any("warning" in remark for remark in source.remarks)
    boxes = source[0][1]
    assert [np.flatnonzero(row).tolist() for row in boxes.labels] == [[0], [2, 3], []]
    (root / "found.csv").write_text("a,0902,0,0,1,1,8,0.95\n")
    with pytest.raises(DataError, match=r"found\.csv has action 8, but those of labels and label map go up to 7"):
        open_films(config, "train")
    (root / "found.csv").write_text(FOUND)
    (warning,) = [remark for remark in open_films(config, "train").remarks if "warning" in remark]
    assert warning.startswith("warning: no box of found.csv has an action, so that nothing is done in any, also wher")


def test_many_rows_are_grouped_as_one_by_one(folder):
    root, config = folder
    rng = np.random.default_rng(0)
    rows = [
        ("ab"[rng.integers(2)], int(rng.integers(901, 906)), *rng.choice(["0.1", "0.2", "0.30"], 2), rng.integers(1, 8))
        for _ in range(300)
    ]
    (root / config.films.train_labels).write_text(
        "".join(f"{video},{second:04d},{x},{y},0.5,0.6,{action},0\n" for video, second, x, y, action in rows)
    )
    expected = {}
    for video, second, x, y, action in rows:
        boxes = expected.setdefault((video, second), {})
        boxes.setdefault((float(x), float(y), 0.5, 0.6), set()).add(int(action) - 1)
    expected.pop(("a", 905))
    source = open_films(config, "train")
    assert list(zip(source.videos, source.seconds.tolist(), strict=True)) == sorted(expected)
    for index, key in enumerate(sorted(expected)):
        boxes = source[index][1]
        assert list(map(tuple, boxes.boxes.tolist())) == list(expected[key])
        assert [set(np.flatnonzero(row).tolist()) for row in boxes.labels] == list(expected[key].values())


@pytest.mark.heavy
def test_batches_are_functions_of_seed_and_step(folder):
    _, config = folder
    source = open_films(config, "train")
    targets = ActionTargets(source, 4, (("wave left", "wave right"),))

    def batches(steps, start_step=0, seed=3, **loading):
        config.update(loading)
        config.scale_sides = (40, 48)
        made = train_batches(
            source, config, (4, 32, 40), batch_size=6, seed=seed, start_step=start_step, targets=targets
        )
        with closing(made):
            return [next(made) for _ in range(steps)]

    expected = batches(3)
    for other in (batches(3, threads=3), batches(1, start_step=2), batches(3, threads=0, processes=1)):
        for one, two in zip(expected[-len(other) :], other, strict=True):
            assert one.keys() == two.keys()
            for name in one:
                np.testing.assert_array_equal(one[name], two[name], err_msg=name)
    config.processes = 0
    assert (batches(1, seed=4)[0]["image"] != expected[0]["image"]).any()


def test_evaluation_shows_the_frames_of_the_seconds(folder):
    _, config = folder
    source = open_films(config, "eval")
    config.canvases = ((HEIGHT, WIDTH),)
    check_source(source, config, (8, 32, 32))
    with closing(
        eval_batches(source, config, (8, HEIGHT, WIDTH), batch_size=2, targets=ActionTargets(source, 1))
    ) as made:
        (batch,) = made
    for clip, second in zip(batch["image"], (1, 4), strict=True):
        wanted = np.clip(30 * second + 4 * np.arange(-4, 4), 0, 179)
        assert [number_of(frame) for frame in clip] == wanted.tolist()
    np.testing.assert_allclose(batch["boxes"][0, 0], [8, 4.8, 40, 43.2], rtol=1e-6)


def test_folders_of_frames_are_films_too(folder):
    root, config = folder
    (root / "videos/c.mp4").unlink()
    (root / "frames/c").mkdir(parents=True)
    for number in range(1, 7):
        Image.new("RGB", (50, 40)).save(root / f"frames/c/c_{number:06d}.jpg")
    config.fps = 1.0
    source = open_films(config, "eval")
    assert source.sizes.tolist() == [[40, 50]] * 2
    assert any(line.startswith("frames/c 6 frames") for line in source.identity())


def test_a_fingerprint_tells_tables_and_films_apart(folder):
    root, config = folder
    first = fingerprint(open_films(config, "eval"))
    assert (first["examples"], first["classes"][2], first["counts"]) == (2, "wave left", None)
    assert fingerprint(open_films(config, "eval")) == first
    (root / config.films.eval_labels).write_text(EVAL.replace("0.9", "0.8"))
    assert fingerprint(open_films(config, "eval"))["files"] != first["files"]
    (root / config.films.eval_labels).write_text(EVAL)
    # Tables may lie elsewhere, and have scores.
    (root.parent / "found.csv").write_text(FOUND.replace("a,", "c,"))
    config.films.eval_boxes = str(root.parent / "found.csv")
    found = [fingerprint(open_films(config, "eval"))["files"]]
    config.films.eval_score = 0.85
    found.append(fingerprint(open_films(config, "eval"))["files"])
    assert len({first["files"], *found}) == 3
    config.films.eval_boxes = ""
    (root / "videos/c.mp4").unlink()
    write_film(root / "videos/c.mp4", np.arange(170) / 30)
    assert fingerprint(open_films(config, "eval"))["files"] != first["files"]


def test_films_that_are_missing_or_broken(folder):
    root, config = folder
    (root / "videos/a.mp4").unlink()
    with pytest.raises(
        DataError, match=r"2 of the 3 key frames of ava_train_v2\.2\.csv, of 1 of 2 films, cannot be sho"
    ) as error:
        open_films(config, "train")
    assert f"the first: no file {root}/videos/a.mp4, nor of another kind, and no folder of its frames" in str(
        error.value
    )
    assert str(error.value).endswith("; that is more than the share of 0.01 that data.max_broken allows")
    config.max_broken = 0.7
    source = open_films(config, "train")
    assert (len(source), source.to_check(), source.videos.tolist()) == (1, [0], ["b"])
    assert source.remarks[-1].startswith(
        "2 of the 3 key frames of ava_train_v2.2.csv, of 1 of 2 films, cannot be shown"
    )
    np.testing.assert_array_equal(source[0][1].labels.sum(1), [2, 1])
    (root / "videos/c.mp4").unlink()
    (root / "videos/c.mp4").write_text("not a film")
    with pytest.raises(DataError, match=r"c\.mp4: not a video file.*, and the mean average precision of the other"):
        open_films(config, "eval")
    (root / "videos/c.mkv").write_text("")
    with pytest.raises(DataError, match=r"videos has c\.mkv, c\.mp4: keep one of them"):
        open_films(config, "eval")


def test_a_film_that_is_cut_off_is_found_before_the_first_step(folder):
    root, config = folder
    (root / "videos/c.mp4").unlink()
    film = write_film(root / "videos/c.mkv", np.arange(180) / 30)
    source = open_films(config, "eval")
    lines = []
    check_decodable(source, threads=1, report=lines.append)
    assert lines[0].startswith("checked 1 evaluation videos")
    film.write_bytes(film.read_bytes()[: film.stat().st_size // 3])
    with pytest.raises(
        DataError, match=r"1 of the 1 .* c,0904 \(.*c\.mkv\): the film breaks off after .* seconds, before"
    ):
        check_decodable(source, threads=1)
    batches = eval_batches(source, config, (8, 48, 80), batch_size=2, targets=ActionTargets(source, 1))
    with closing(batches), pytest.raises(DataError, match=r"c,0904 \(.*c\.mkv\): the film breaks off"):
        next(batches)
    # Training takes others in its place, as with any video.
    config.max_broken = 0.5
    said = []
    with closing(
        train_batches(
            source, config, (8, 32, 32), batch_size=4, seed=0, targets=ActionTargets(source, 1), report=said.append
        )
    ) as batches:
        assert set(next(batches)["index"].tolist()) == {0}
    assert any(line.startswith("a training video is replaced by another: c,0904") for line in said)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"films.begin": 0.0},
            r"2 of the 2 key frames .*: c,0901 \(.*c\.mp4\) is 901 s after .* lasts 6\.0\d s; --co",
        ),
        (
            {"films.begin": 905.0},
            r"c,0901 .* is before it begins; --config\.data\.films\.begin, 905, is the second at",
        ),
        (
            {"films.label_map": "list.pbtxt"},
            r"no file .*/list\.pbtxt: set --config\.data\.films\.label_map to its place",
        ),
        (
            {"films.eval_excluded": "no.csv"},
            r"no file .*/no\.csv: set --config\..*excluded to its place in .*, or to n",
        ),
        (
            {"data_dir": ""},
            r"ava needs the folder with videos/ or frames/ and annotations/: --config\.data\.data_dir=",
        ),
        (
            {"data_dir": "gs://bucket/ava"},
            r"films are entered here and there, so they have to lie on a disk: copy gs:",
        ),
        ({"name": "synthetic"}, r"action detection needs films with labelled boxes, which 'synthetic' has none of"),
    ],
)
def test_mistakes(folder, changes, message):
    pytest.importorskip("gcsfs")
    _, config = folder
    config.update_from_flattened_dict(changes)
    with pytest.raises(DataError, match=message) as error:
        open_films(config, "eval")
    assert "\n" not in str(error.value)


def test_mistakes_of_configs_and_folders(folder):
    root, config = folder
    config.fps = 0.0
    with pytest.raises(ConfigError, match=r"data\.fps is 0"):
        open_films(config, "eval")
    config.update(fps=30.0, train_fraction=0.5)
    with pytest.raises(ConfigError, match=r"data\.train_fraction is 0\.5, .* name other labels by --config\.data\.fil"):
        open_films(config, "train")
    config.scale_sides = (20, 40)
    source = open_films(config, "eval")
    with pytest.raises(ConfigError, match=r"data\.scale_sides is \(20, 40\), but"):
        train_batches(source, config, (4, 32, 32), batch_size=1, seed=0, targets=ActionTargets(source, 1))
    for name in "abc":
        (root / f"videos/{name}.mp4").unlink()
    (root / "videos").rmdir()
    with pytest.raises(DataError, match=r"no videos/ and no frames/ in .*: films are expected in .*/videos/NAME\.mp4"):
        open_films(config, "eval")


def test_films_that_seem_to_be_whole_ones(folder):
    root, config = folder
    (root / config.films.eval_labels).write_text("c,0003,0.1,0.1,0.5,0.9,1,0\n")
    config.films.begin = 2.0
    (remark,) = open_films(config, "eval").remarks
    assert remark.startswith("warning: films should begin at second 2, but are long enough to begin at 0")
