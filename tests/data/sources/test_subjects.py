import json
import pickle

import numpy as np
import pytest

from posmlp_jax.data import fingerprint, open_source, open_subjects, read_subjects
from posmlp_jax.data.prepare.datasets import micro_motions
from posmlp_jax.data.prepare.prepare import prepare
from posmlp_jax.data.sources.clip_index import ClipInfo
from posmlp_jax.data.sources.subjects import SubjectSource, subjects_in_order
from posmlp_jax.errors import ConfigError, DataError

NAMES = tuple(f"micro_motions/sub{number:02d}" for number in range(1, 4))


@pytest.fixture
def config(make_config, monkeypatch):
    """Three subjects with eight clips each."""
    monkeypatch.setattr(micro_motions, "SUBJECTS", 3)
    monkeypatch.setattr(micro_motions, "CLIPS", 2)
    return make_config(name="micro_motions", left_out=NAMES[1])


def test_one_subject_is_left_out(config):
    assert read_subjects(config) == NAMES
    train, evaluation = (open_subjects(config, split) for split in ("train", "eval"))
    assert (len(train), len(evaluation)) == (16, 8)
    assert set(evaluation.subjects) == {NAMES[1]}
    assert set(train.subjects) == {NAMES[0], NAMES[2]}
    assert train.datasets == ("micro_motions",) * 16
    everybody = SubjectSource(prepare("micro_motions", data_dir=config.data_dir))
    assert {clip.id for clip in (*train.clips, *evaluation.clips)} == {clip.id for clip in everybody.clips}
    for source in (train, evaluation):
        assert source.kind == "video"
        labels = source.read_labels()
        assert source.class_counts().tolist() == [len(source) // 2, len(source) // 4, len(source) // 4]
        for index in (0, len(source) - 1):
            video, label = source[index]
            assert video.id == source.example_id(index) == source.clips[index].id
            assert label == labels[index] == source.clips[index].label
    copy = pickle.loads(pickle.dumps(evaluation))
    assert copy[3] == evaluation[3]


def test_where_clips_end(config):
    for end, length in (("apex", micro_motions.RISE), ("offset", micro_motions.RISE + micro_motions.FALL)):
        config.clip_end = end
        video, _ = open_subjects(config, "eval")[0]
        assert video.num_frames == len(video.data) == length


def test_an_apex_that_is_not_known_is_in_the_middle():
    info = ClipInfo("a/1/x", "a/1", "happiness", 0, None, 9)
    assert [info._replace(frames=frames).middle for frames in (9, 8, 2)] == [4, 4, 1]
    assert info._replace(apex=3).middle == 3


def test_subjects_have_an_order():
    clips = [ClipInfo("", subject, "", 0, None, 5) for subject in ("smic_hs/s10", "smic_hs/s2", "casme2/sub03")]
    assert subjects_in_order(clips * 2) == ("casme2/sub03", "smic_hs/s2", "smic_hs/s10")


def test_other_subjects_are_other_data(config):
    prints = []
    for left_out, end in ((NAMES[0], "apex"), (NAMES[1], "apex"), (NAMES[1], "offset")):
        config.left_out, config.clip_end = left_out, end
        prints.append(json.dumps(fingerprint.fingerprint(open_subjects(config, "train"))))
    assert len(set(prints)) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"left_out": ""}, r"--mode=leave_one_out, or one of micro_motions's 3 with --config.data.left_out=micro_mo"),
        ({"left_out": "micro_motions/sub2"}, r"no subject of micro_motions: did you mean 'micro_motions/sub0\d'\?"),
        ({"left_out": "sub02"}, r"data.left_out is 'sub02', no subject of micro_motions: "),
        ({"train_fraction": 0.5}, r"data.train_fraction is 0.5, and should be 1"),
    ],
)
def test_what_cannot_be_left_out(config, changes, message):
    config.update(changes)
    with pytest.raises(ConfigError, match=message):
        open_subjects(config, "train")


def test_data_without_subjects(make_config, config):
    with pytest.raises(DataError, match=r"does not say whose its clips are \(no clips.json\)"):
        open_subjects(make_config(left_out="a"), "train")
    with pytest.raises(DataError, match="which 'synthetic' has none of"):
        read_subjects(make_config(name="synthetic"))
    with pytest.raises(DataError, match="the model has 2 classes, but the data 3"):
        open_subjects(config, "train", num_classes=2)


def test_an_index_that_is_damaged(config):
    folder = prepare("micro_motions", data_dir=config.data_dir)
    content = json.loads((folder / "clips.json").read_text())
    (folder / "clips.json").write_text(json.dumps({"clips": content["clips"][1:]}))
    with pytest.raises(DataError, match=r"clips.json is of 23 clips, and there are 24: delete"):
        open_subjects(config, "train")
    (folder / "clips.json").write_text('{"clips": [{"id": 3}]}')
    with pytest.raises(DataError, match=r"clips.json is damaged"):
        open_subjects(config, "train")


def test_classification_takes_them_too(config):
    config.update(train_split="clips", eval_split="clips")
    with pytest.raises(ConfigError, match=r"data\.left_out is 'micro_motions/sub02', which micro-expressions alone"):
        open_source(config, "train", num_classes=3)
    config.left_out = ""
    source = open_source(config, "train", num_classes=3)
    assert len(source) == 24
    assert np.bincount(source.read_labels()).tolist() == [12, 6, 6]
