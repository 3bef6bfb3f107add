"""From tables and folders as their owners give them away to clips: what is counted, and what is refused."""

import json

import cv2
import fake_faces
import numpy as np
import pytest

from posmlp_jax.data.decoding.images import decode
from posmlp_jax.data.prepare.prepare import prepare
from posmlp_jax.data.sources.subjects import SubjectSource
from posmlp_jax.errors import DataError

# Five clips of three subjects: what most of the tests need.
ROWS = [
    [1, "EP02_01f", "", 98, 100, 102, "", "", "happiness"],
    [1, "EP19_05f", "", 98, "/", 102, "", "", "Disgust"],
    [2, "EP01_11f", "", 99, 101, 101, "", "", "repression"],
    [2, "EP03_02f", "", 98, 120, 102, "", "", "surprise"],
    [12, "EP02_01f", "", 98, 99, 102, "", "", "others"],
]


@pytest.fixture
def faces(tmp_path):
    """Writes CASME II of some rows; returns its folder."""
    return lambda rows=ROWS, **options: fake_faces.write_casme2(tmp_path / "source", rows, **options)


@pytest.fixture
def prepared(tmp_path):
    """Prepares a data set; returns its source and the notes."""

    def prepare_it(name, source, **options):
        notes = []
        folder = prepare(name, str(source), str(tmp_path / "data"), report=notes.append, **options)
        return SubjectSource(folder, clip_end="offset"), notes

    return prepare_it


def changed(row: int, column: int, value: object) -> list:
    return [[value if (i, j) == (row, column) else cell for j, cell in enumerate(r)] for i, r in enumerate(ROWS)]


def test_the_counts_of_the_protocols(tmp_path, prepared):
    source = tmp_path / "source"
    fake_faces.write_casme2(source / "casme2")
    fake_faces.write_samm(source / "samm")
    fake_faces.write_smic_hs(source / "smic_hs")
    composite, notes = prepared("megc2019", source)
    assert (len(composite), len(set(composite.subjects))) == (442, 68)
    subjects = set(zip(composite.datasets, composite.subjects, strict=True))
    for part, clips, people, counts in (
        ("casme2", 145, 24, (88, 32, 25)),
        ("samm", 133, 28, (92, 26, 15)),
        ("smic_hs", 164, 16, (70, 51, 43)),
    ):
        labels = composite.read_labels()[np.array(composite.datasets) == part]
        assert (len(labels), *np.bincount(labels)) == (clips, *counts)
        assert sum(dataset == part for dataset, _ in subjects) == people
    assert composite.class_names == ("negative", "positive", "surprise")
    # The person 6 of SAMM is not the person 6 of CASME II.
    assert {"casme2/sub06", "samm/006", "smic_hs/s06"} <= set(composite.subjects)
    assert notes[:2] == [
        "casme2: of 255 clips 108 have none of the classes (fear 2, others 99, sadness 7)",
        "casme2: left out as the protocol says: sub04/EP12_01f, sub24/EP02_07 (2)",
    ]
    assert notes[-1] == "megc2019: 442 clips of 68 subjects"
    five, notes = prepared("casme2_five", source / "casme2")
    assert five.class_names == ("disgust", "happiness", "others", "repression", "surprise")
    assert (len(five), *np.bincount(five.read_labels())) == (246, 63, 32, 99, 27, 25)
    assert notes[0].endswith("of 255 clips 9 have none of the classes (fear 2, sadness 7)")
    assert notes[1].endswith("no apex, the middle is taken for it: 1 clips, the first: sub04/EP12_01f")
    five, notes = prepared("samm_five", source / "samm")
    assert five.class_names == ("anger", "contempt", "happiness", "other", "surprise")
    assert (len(five), *np.bincount(five.read_labels())) == (136, 57, 12, 26, 26, 15)
    assert "; the whole data set has" not in " ".join(notes)


@pytest.mark.parametrize("table", ["xlsx", "csv"])
def test_what_is_known_of_a_clip(faces, prepared, table):
    source, notes = prepared("casme2_five", faces(table=table))
    assert [clip.id for clip in source.clips] == [f"casme2/sub{row[0]:02d}/{row[1]}" for row in ROWS]
    assert source.subjects == ("casme2/sub01", "casme2/sub01", "casme2/sub02", "casme2/sub02", "casme2/sub12")
    assert [clip.emotion for clip in source.clips] == ["happiness", "disgust", "repression", "surprise", "others"]
    assert [clip.apex for clip in source.clips] == [2, None, 2, None, 1]
    assert [clip.frames for clip in source.clips] == [5, 5, 3, 5, 5]
    assert source.read_labels().tolist() == [source[i][1] for i in range(5)] == [1, 0, 3, 4, 2]
    video, _ = source[2]
    assert (video.num_frames, video.fps, video.id) == (3, 200.0, "casme2/sub02/EP01_11f")
    # In the order of the numbers, which is not that of the names.
    assert [int(decode(image)[0, 0, 0]) for image in video.data] == [99, 100, 101]
    assert notes == [
        "casme2: no apex, the middle is taken for it: 1 clips, the first: sub01/EP19_05f",
        "casme2: the apex is not between onset and offset, the middle is taken for it: 1 clips, the first: "
        "sub02/EP03_02f, 120 for 98 to 102",
        "casme2: 5 clips of 3 subjects (disgust 1 of 63, happiness 1 of 32, others 1 of 99, repression 1 of 27, "
        "surprise 1 of 25); the whole data set has 246 of 26",
    ]


def test_subjects_are_written_in_many_ways(tmp_path, faces, prepared):
    rows = [[f"sub{row[0]:02d}", *row[1:]] for row in ROWS]
    folder = faces()
    fake_faces.write_xlsx(folder / "CASME2-coding-20140508.xlsx", {"a": [fake_faces.CASME2_HEADER, *rows]})
    assert prepared("casme2", folder)[0].subjects == ("casme2/sub01",) * 2 + ("casme2/sub02",) * 2
    (folder / "Cropped/sub01").rename(folder / "Cropped/1")
    assert prepared("casme2", folder, under="other")[0].subjects == ("casme2/sub01",) * 2 + ("casme2/sub02",) * 2


def test_frames_that_are_missing(faces, prepared, refusal, tmp_path):
    folder = faces()
    clips = folder / "Cropped"
    (clips / "sub01/EP02_01f/reg_img100.jpg").unlink()
    source, notes = prepared("casme2", folder)
    assert source.clips[0].frames == 4
    assert source.clips[0].apex == 1  # The nearest that is there.
    missing = "frames are missing, those that are there are taken: 1 clips, the first: sub01/EP02_01f lacks 1"
    assert f"casme2: {missing}" in notes
    for number in (98, 99):
        (clips / f"sub01/EP02_01f/reg_img{number}.jpg").unlink()
    arguments = "casme2", f"--source={folder}", "--name=other", f"--data_dir={tmp_path / 'data'}"
    assert "has 2 of the 5 frames from 98 to 102: its numbers go from 101 to 102; mend" in refusal(*arguments)
    (clips / "sub02/EP01_11f").rename(clips / "sub02/other")
    line = refusal(*arguments, "--name=two", "--max_broken=0.3")
    assert "2 of the 4 videos of two cannot be read" in line
    assert f"there is no folder {clips}/sub02/EP01_11f; mend" in line
    fewer, notes = prepared("casme2", folder, under="fewer", max_broken=0.5)
    assert [clip.id for clip in fewer.clips] == ["casme2/sub01/EP19_05f", "casme2/sub02/EP03_02f"]
    assert fewer[0][0].id == "casme2/sub01/EP19_05f"
    assert notes[-2:] == [
        f"casme2: 2 clips cannot be read, the first: {clips}/sub01/EP02_01f has 2 of the 5 frames from 98 to 102: its "
        "numbers go from 101 to 102",
        "casme2: 2 clips of 2 subjects (negative 1 of 88, positive 0 of 32, surprise 1 of 25); the whole data set has "
        "145 of 24",
    ]


def test_two_files_of_one_frame(faces, refusal, tmp_path):
    folder = faces()
    clip = folder / "Cropped/sub01/EP02_01f"
    (clip / "img98.png").write_bytes((clip / "reg_img98.jpg").read_bytes())
    line = refusal("casme2", f"--source={folder}", f"--data_dir={tmp_path / 'data'}")
    assert f"{clip} has two files of frame 98, " in line


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (changed(1, 8, "hapiness"), "row 3: unknown emotion 'hapiness': did you mean 'happiness'?"),
        (changed(1, 3, ""), "row 3: 'Onset Frame' is '', and should be a frame's number"),
        (changed(0, 5, "1O2"), "row 2: 'Offset Frame' is '1O2', and should be a frame's number"),
        (changed(2, 1, ""), "row 4: 'Filename' is empty"),
        ([*ROWS, ["sub12", *ROWS[4][1:]]], "row 7: casme2's clip sub12/EP02_01f is there before, in "),
        ([*ROWS, ["me", *ROWS[4][1:]]], "row 7: 'Subject' is 'me', and should be a subject's number"),
        (changed(1, 5, 97), "the offset 97 is not after the onset 98"),
    ],
)
def test_rows_that_cannot_be(faces, refusal, tmp_path, rows, message):
    folder = faces()
    fake_faces.write_xlsx(folder / "CASME2-coding-20140508.xlsx", {"a": [fake_faces.CASME2_HEADER, *rows]})
    assert message in refusal("casme2", f"--source={folder}", f"--data_dir={tmp_path / 'data'}")


def test_sources_that_cannot_be(faces, refusal, tmp_path):
    arguments = "casme2", f"--source={tmp_path / 'source'}", f"--data_dir={tmp_path / 'data'}"
    folder = faces()
    (folder / "Raw").mkdir()
    (folder / "Cropped/sub02").rename(folder / "Raw/sub02")
    assert "both have frames of the clips in CASME2-coding-20140508.xlsx" in refusal(*arguments)
    (folder / "Raw/sub02").rename(folder / "Cropped/sub2")
    (folder / "Cropped/sub02").mkdir()
    assert "are both of subject 2: keep one of them" in refusal(*arguments)
    for path in ("Cropped/sub01", "Cropped/sub2", "Cropped/sub12"):
        (folder / path).rename(folder / f"{path}_gone")
    assert "has no folder of any of the 5 clips in CASME2-coding-20140508.xlsx, as sub01/EP02_01f" in refusal(
        *arguments
    )
    table = folder / "CASME2-coding-20140508.xlsx"
    fake_faces.write_xlsx(table, {"a": [["Subject", "Filename"], *ROWS]})
    assert "sheet 'a' is nearest, without 'Onset Frame', 'Apex Frame'" in refusal(*arguments)
    table.unlink()
    assert "source has no table" in refusal(*arguments)
    assert "has no folder casme2/ and no samm/ and no smic_hs/" in refusal("megc2019", *arguments[1:])
    assert "has no folders s1/micro, s2/micro" in refusal("smic_hs", *arguments[1:])


def test_exclusions(faces, prepared, refusal, tmp_path):
    folder = faces()
    (folder / "exclusions.txt").write_text("# Two of four.\n01/EP19_05f\n\ncasme2/sub02/EP03_02f  # closed eyes\n")
    source, notes = prepared("casme2", folder)
    assert [clip.id for clip in source.clips] == ["casme2/sub01/EP02_01f", "casme2/sub02/EP01_11f"]
    assert notes[1] == "casme2: left out as exclusions.txt says: sub01/EP19_05f, sub02/EP03_02f (2)"
    (folder / "exclusions.txt").write_text("01/EP19_05\n")
    line = refusal("casme2", f"--source={folder}", "--name=other", f"--data_dir={tmp_path / 'data'}")
    assert "exclusions.txt, line 1: there is no clip '01/EP19_05'; did you mean 'sub01/EP19_05f'?" in line


def test_a_frame_that_is_cut_short(faces, refusal, tmp_path):
    folder = faces()
    file = folder / "Cropped/sub02/EP01_11f/reg_img100.jpg"
    file.write_bytes(file.read_bytes()[:-100])
    line = refusal("casme2", f"--source={folder}", f"--data_dir={tmp_path / 'data'}")
    assert f"{file}: the image cannot be decoded" in line
    assert line.endswith("; mend it, or list casme2/sub02/EP01_11f in exclusions.txt")
    assert not list((tmp_path / "data").rglob("dataset_info.json"))


CROPS = [["clip", "left", "top", "right", "bottom"], *([f"{row[0]:02d}/{row[1]}", 2, 1, 10, 11] for row in ROWS)]


def test_crops(faces, prepared):
    folder = faces(ROWS[:1])
    rng = np.random.default_rng(0)
    picture = cv2.resize(rng.integers(0, 256, (3, 4, 3), np.uint8), (16, 12), interpolation=cv2.INTER_CUBIC)
    for number in range(98, 103):
        cv2.imwrite(str(folder / f"Cropped/sub01/EP02_01f/reg_img{number}.bmp"), picture)
        (folder / f"Cropped/sub01/EP02_01f/reg_img{number}.jpg").unlink()
    fake_faces.write_csv(folder / "crops.csv", CROPS[:2])
    video, _ = prepared("casme2", folder)[0][0]
    assert all(image[:2] == b"\xff\xd8" for image in video.data)
    np.testing.assert_allclose(decode(video.data[0]).astype(int), picture[1:11, 2:10, ::-1], atol=12)
    # As large a part elsewhere is not what was prepared, and neither are whole frames.
    fake_faces.write_csv(folder / "crops.csv", [CROPS[0], [CROPS[1][0], 3, 1, 11, 11]])
    with pytest.raises(DataError, match="from another source: as many videos of each class, but others; delete"):
        prepared("casme2", folder)
    (folder / "crops.csv").unlink()
    with pytest.raises(DataError, match="from another source"):
        prepared("casme2", folder)


@pytest.mark.parametrize(
    ("crops", "message"),
    [
        ([*CROPS, CROPS[1]], "crops.csv, row 7: 01/EP02_01f has a row before this: a clip has one crop"),
        (CROPS[:-1], "crops.csv has no crop of 1 of 5 clips, sub12/EP02_01f for one"),
        ([*CROPS, ["sub12/EP02_02f", 2, 1, 10, 11]], "row 7: there is no clip 'sub12/EP02_02f'; did you mean"),
        ([CROPS[0], ["01/EP02_01f", 10, 1, 2, 11]], "row 2: the crop should be left, top, right and bottom"),
        ([CROPS[0], ["01/EP02_01f", 0.5, 1, 2, 11]], "row 2: the crop should be left, top, right and bottom"),
        (
            [["clip", "x", "y"]],
            "crops.csv has no row with the columns clip, left, top, right, bottom: row 1 is nearest",
        ),
        (
            [*CROPS[:-1], [CROPS[-1][0], 2, 1, 17, 11]],
            "reg_img98.jpg has 16×12 pixels, and the crop 2, 1, 17, 11 (left, top, right, bottom) is not a part",
        ),
    ],
)
def test_crops_that_cannot_be(faces, refusal, tmp_path, crops, message):
    folder = faces()
    fake_faces.write_csv(folder / "crops.csv", crops)
    assert message in refusal("casme2_five", f"--source={folder}", f"--data_dir={tmp_path / 'data'}")


@pytest.fixture
def small_composite(tmp_path, faces):
    """Some clips of each part, and the challenge's list of five of them."""
    faces().rename(tmp_path / "all")
    source = tmp_path / "composite"
    source.mkdir()
    (tmp_path / "all").rename(source / "casme2")
    fake_faces.write_samm(source / "samm", fake_faces.samm_rows({"Anger": 2, "Other": 1}))
    fake_faces.write_smic_hs(source / "smic_hs", {"negative": 2, "surprise": 1})
    lines = ["casme2,sub01,EP02_01f,1", "casme2,sub02,EP01_11f,0", ",,,", "smic,s01,s01_ne_00,0", "samm,6,006_1_2,0"]
    (source / "combined_3class_gt.csv").write_text("\r\n".join([*lines, "smic,s03,s03_sur_02,2"]))
    return source


def test_the_list_of_the_challenge(small_composite, prepared, refusal, tmp_path):
    source, notes = prepared("megc2019", small_composite)
    assert [clip.id for clip in source.clips] == [
        "casme2/sub01/EP02_01f",
        "casme2/sub02/EP01_11f",
        "samm/006/006_1_2",
        "smic_hs/s01/s1_ne_00",
        "smic_hs/s03/s3_sur_02",
    ]
    assert notes[-1] == "megc2019: 5 clips of 5 subjects; the whole composite has 442 of 68"
    file = small_composite / "combined_3class_gt.csv"
    arguments = "megc2019", f"--source={small_composite}", "--name=other", f"--data_dir={tmp_path / 'data'}"
    for line, message in (
        ("casme2,sub01,EP02_02f,1", "line 1: {}/casme2 has no clip sub01/EP02_02f in its table or folders; did you"),
        ("casme2,sub01,EP02_01f,2", "line 1: sub01/EP02_01f is surprise there, and happiness (positive) in "),
        ("casme3,sub01,EP02_01f,2", "line 1: expected 'data set,subject,clip,class' with one of casme2, samm, smic"),
    ):
        file.write_text(line)
        assert message.format(small_composite) in refusal(*arguments)
    file.with_name("combined_3class_gt-2.csv").touch()
    assert "has 2 lists of clips, combined_3class_gt-2.csv and combined_3class_gt.csv: keep one" in refusal(*arguments)


def test_without_the_list(small_composite, prepared):
    (small_composite / "combined_3class_gt.csv").unlink()
    source, _ = prepared("megc2019", small_composite)
    assert list(dict.fromkeys(source.datasets)) == ["casme2", "samm", "smic_hs"]
    assert len(source) == 4 + 2 + 3


def test_other_rows_are_another_source(faces, prepared):
    folder = faces()
    prepared("casme2", folder)
    fake_faces.write_xlsx(
        folder / "CASME2-coding-20140508.xlsx", {"a": [fake_faces.CASME2_HEADER, *changed(0, 8, "disgust")]}
    )
    with pytest.raises(DataError, match="from another source: clips had 1 videos of 'disgust' and has 2"):
        prepared("casme2", folder)


def test_the_index(faces, prepared, tmp_path):
    prepared("casme2_five", faces())
    (file,) = (tmp_path / "data").rglob("clips.json")
    first = json.loads(file.read_text())["clips"][0]
    assert first == {
        "id": "casme2/sub01/EP02_01f",
        "subject": "casme2/sub01",
        "emotion": "happiness",
        "label": 1,
        "apex": 2,
        "frames": 5,
    }
