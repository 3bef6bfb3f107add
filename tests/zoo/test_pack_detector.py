"""A detector in the zoo: its card, and its name wherever a checkpoint's folder can be."""

from contextlib import closing

import pytest
from tiny_detectors import fields, tiny

from posmlp_jax import from_pretrained
from posmlp_jax.checkpoints import zoo
from posmlp_jax.checkpoints.evaluations import Evaluations
from posmlp_jax.checkpoints.pretrained import open_pretrained
from posmlp_jax.checkpoints.state import module_weights
from posmlp_jax.checkpoints.store import Checkpoints
from posmlp_jax.errors import PosMLPError
from posmlp_jax.models.registry import NamedModel
from posmlp_jax.paths import as_path
from posmlp_jax.predict import predict
from posmlp_jax.tasks.detection.scoring import METRICS
from posmlp_jax.training.config import default_config, plain
from posmlp_jax.training.workdir import claim_workdir
from posmlp_jax.zoo import load_sample
from posmlp_jax.zoo.__main__ import main
from posmlp_jax.zoo.pack import Told, pack

pytestmark = pytest.mark.heavy

NAME = "retinanet_posmlp_t"
TOLD = Told("python main.py", "A tiny one", "one core", "none", "0123abc")
EXAMPLES = {"training": {"examples": 60, "hash": "a"}, "evaluation": {"examples": 7, "hash": "b"}}


@pytest.fixture
def config():
    config = default_config(NAME, "detection")
    config.model.update({key: value for key, value in fields(NAME).items() if key in config.model})
    config.data.update(name="digit_scenes", crop="fit")
    return config


@pytest.fixture
def workdir(config, tmp_path, monkeypatch):
    """A run's folder, whose evaluation found what it says here, with a zoo that has nothing."""
    folder = as_path(tmp_path / "run")
    folder.mkdir()
    claim_workdir(folder, config, EXAMPLES)
    model = tiny(NAME)
    with closing(Checkpoints(folder, keep=1, metrics=METRICS)) as checkpoints:
        named = NamedModel(NAME, model.config)
        checkpoints.save_weights(module_weights(model), plain(config), named, ("a", "b", "c"), (2, 5, 9))
    Evaluations(folder).record(0, {"eval": {"loss": 1.0, "box_ap": 0.55, "count": 7}})
    (folder / "metrics.jsonl").write_text("")
    (tmp_path / "models").mkdir()
    monkeypatch.setattr(zoo, "FOLDER", as_path(tmp_path / "models"))
    monkeypatch.setattr("posmlp_jax.zoo.pack._accuracy", lambda *arguments: 0.55)
    return folder


def test_a_detector_becomes_a_model(workdir, config, tmp_path, capsys):
    card = pack(workdir, "tiny", config, TOLD)
    assert (card["metric"], card["accuracy"]["packed"], card["task"]) == ("box AP", 0.55, "detection")
    assert card["fields"]["widths"] == list(fields(NAME)["widths"])
    assert "packed the weights" in capsys.readouterr().out
    main(["tiny"])
    assert "box AP 55.00 % on 7 images of digit_scenes validation" in " ".join(capsys.readouterr().out.split())
    pretrained = open_pretrained("tiny")
    assert (pretrained.class_names, pretrained.class_ids) == (("a", "b", "c"), (2, 5, 9))
    assert from_pretrained("tiny").config == tiny(NAME).config
    with pytest.raises(PosMLPError, match="no test examples come with tiny"):
        load_sample("tiny")
    # It is one that predicts, as far as that is without computing anything.
    with pytest.raises(PosMLPError, match="there is no file or folder 'nothing"):
        predict(pretrained, "nothing.png")


def test_no_sample_is_packed(workdir, config):
    with pytest.raises(PosMLPError, match="leave --sample out"):
        pack(workdir, "tiny", config, TOLD, sample=3)
    assert not list(zoo.FOLDER.iterdir())
