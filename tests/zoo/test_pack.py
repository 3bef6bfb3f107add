"""What `python -m posmlp_jax.zoo.pack` makes of a run, and what it refuses."""

import json
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers import randomized
from safetensors.numpy import load_file

from posmlp_jax import create_model, from_pretrained, list_pretrained
from posmlp_jax.checkpoints import zoo
from posmlp_jax.checkpoints.evaluations import Evaluations
from posmlp_jax.checkpoints.state import module_weights
from posmlp_jax.checkpoints.store import Checkpoints
from posmlp_jax.data import eval_batches, open_source
from posmlp_jax.data.fingerprint import fingerprint
from posmlp_jax.errors import CheckpointError, ConfigError, DamagedCheckpointError, DataError, PosMLPError
from posmlp_jax.models.registry import NamedModel
from posmlp_jax.paths import as_path
from posmlp_jax.tasks.classification.outcomes import METRICS
from posmlp_jax.training import evaluate, open_pretrained
from posmlp_jax.training.config import plain
from posmlp_jax.training.saved_config import get_config
from posmlp_jax.training.workdir import claim_workdir
from posmlp_jax.zoo import load_sample
from posmlp_jax.zoo.__main__ import main
from posmlp_jax.zoo.pack import Told, command_of, first_sentence, pack, training_seconds

pytestmark = pytest.mark.heavy

TOLD = Told(
    command="python main.py --config=configs/tiny.py",
    about="A tiny one",
    machine="one core",
    data_licence="none",
    commit="0123abc",
)


@pytest.fixture(scope="module")
def config(tiny_config):
    """Of the command that trained the run; the run's own says where its data were."""
    return tiny_config(**{"data.num_examples": 60})


@pytest.fixture(scope="module")
def workdir(config, tmp_path_factory) -> Path:
    """What a run leaves, of random weights: as if after 0 steps, and logged as if after 30."""
    folder = as_path(tmp_path_factory.mktemp("run"))
    own = config.copy_and_resolve_references()
    own.data.data_dir, own.devices, own.data.threads = "/somewhere/else", 0, 2
    fields = {**config.model.to_dict(), "num_classes": 5}
    fields = {name: value for name, value in fields.items() if value is not None and name != "name"}
    model = randomized(lambda: create_model("posmlp_t", **fields))
    source = open_source(own.data, "eval")
    claim_workdir(folder, own, {"training": fingerprint(source), "evaluation": fingerprint(source)})
    with closing(Checkpoints(folder, keep=1, metrics=METRICS)) as checkpoints:
        checkpoints.save_weights(module_weights(model), plain(own), NamedModel("posmlp_t", model.config), None)
    results = evaluate(get_config(folder), folder)
    Evaluations(folder).record(0, results)
    (folder / "metrics.jsonl").write_text("")
    return folder


@pytest.fixture(autouse=True)
def models(monkeypatch, tmp_path) -> Path:
    """A zoo without any."""
    (tmp_path / "models").mkdir()
    monkeypatch.setattr(zoo, "FOLDER", as_path(tmp_path / "models"))
    return tmp_path / "models"


def test_a_run_becomes_a_model(workdir, config, models, capsys):
    card = pack(workdir, "tiny", config, TOLD, sample=7)
    (recorded,) = json.loads((workdir / "evaluations.json").read_text()).values()
    assert list_pretrained() == ["tiny"]
    assert {path.name for path in models.iterdir()} == {"tiny"}
    top1 = recorded["eval"]["top1"]
    assert card["accuracy"] == {"weights": top1, "moving_average": None, "packed": pytest.approx(top1, abs=5e-4)}
    assert card["dtype"] == "float16"
    assert {name: card[name] for name in asdict(TOLD)} == asdict(TOLD)
    examples = {"split": "train", "examples": 60}
    assert card["data"] == {
        "name": "synthetic",
        "training": examples,
        "evaluation": examples | {"split": "validation"},
    }
    assert (card["minutes"], card["steps"], card["seed"], card["epochs"]) == (0.0, 0, 0, 0.0)
    # What a machine's folders were is no one's business.
    assert "/somewhere" not in "".join(path.read_text() for path in models.rglob("*.json"))
    assert "/somewhere" in json.dumps(plain(get_config(workdir)))
    assert plain(get_config("tiny")) == plain(config)
    before, after = module_weights(from_pretrained(workdir)), module_weights(from_pretrained("tiny"))
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(np.asarray(x, np.float16), np.asarray(y)), before, after)
    capsys.readouterr()
    main(["tiny"])
    shown = capsys.readouterr().out
    assert "7 of the test images, on which top-1 is" in shown
    assert "60 images of synthetic validation" in shown


def test_half_precision_only_where_it_is_as_good(workdir, config, models, monkeypatch):
    (recorded,) = json.loads((workdir / "evaluations.json").read_text()).values()
    top1 = recorded["eval"]["top1"]
    found = iter([top1, top1 - 0.0006])
    monkeypatch.setattr("posmlp_jax.zoo.pack._accuracy", lambda *arguments: next(found))
    card = pack(workdir, "tiny", config, TOLD)
    assert (card["dtype"], card["accuracy"]["packed"], card["sample"]) == ("float32", top1, None)
    kernel = load_file(models / "tiny" / "weights.safetensors")["params.head.kernel"]
    np.testing.assert_array_equal(kernel, open_pretrained(workdir).weights.params["head"]["kernel"])
    found = iter([top1, top1 + 0.0004])
    assert pack(workdir, "half", config, TOLD)["dtype"] == "float16"
    found = iter([top1 + 0.006, top1 + 0.006])
    with pytest.raises(
        CheckpointError, match=r"top-1 is .* % here, and was .* % when the run was evaluated: are these"
    ):
        pack(workdir, "other", config, TOLD)
    assert list_pretrained() == ["half", "tiny"]


def test_a_sample_is_what_evaluation_sees(workdir, config, monkeypatch):
    (recorded,) = json.loads((workdir / "evaluations.json").read_text()).values()
    monkeypatch.setattr("posmlp_jax.zoo.pack._accuracy", lambda *arguments: recorded["eval"]["top1"])
    card = pack(workdir, "tiny", config, TOLD, sample=7)
    sample = load_sample("tiny")
    source = open_source(config.data, "eval")
    (batch,) = eval_batches(source, config.data, (16, 16), batch_size=60)
    places = [0, 10, 20, 30, 39, 49, 59]  # 59/6 apart.
    np.testing.assert_array_equal(sample.pixels, batch["image"][places])
    np.testing.assert_array_equal(sample.labels, batch["label"][places])
    images = (sample.pixels / 255 - np.array(config.data.mean)) / np.array(config.data.std)
    logits = jax.jit(from_pretrained("tiny").__call__)(np.float32(images))
    assert card["sample"]["top1"] == np.mean(np.argmax(logits, -1) == sample.labels)
    # Another model of these data has the same file.
    again = pack(workdir, "twin", config, TOLD, sample=7)
    assert again["sample"] == card["sample"]
    with pytest.raises(CheckpointError, match=r"synthetic_16x16\.npz holds other examples than these"):
        pack(workdir, "third", config, TOLD, sample=6)
    assert list_pretrained() == ["tiny", "twin"]
    file = zoo.FOLDER.parent / "samples" / card["sample"]["file"]
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(
        DamagedCheckpointError, match=r"tiny of the zoo is damaged: synthetic_16x16\.npz .* not what was"
    ):
        load_sample("tiny")
    pack(workdir, "without", config, TOLD)
    with pytest.raises(CheckpointError, match="no test examples come with without"):
        load_sample("without")


MISTAKES = [
    ({"config": {"seed": 3, "data.data_dir": "x"}}, "does not train what is in .*: seed: 0 -> 3$"),
    ({"name": "posmlp_t"}, "'posmlp_t' is no name for a trained model"),
    ({"name": "Tiny model"}, "'Tiny model' is no name for a trained model: a small letter, then"),
    ({"name": "there"}, "there is there already; choose another --name, or delete it"),
    ({"step": 4}, "there is no checkpoint of step 4"),
]


@pytest.mark.parametrize(("given", "message"), MISTAKES, ids=[message for _, message in MISTAKES])
def test_mistakes_leave_nothing(given, message, workdir, config, models):
    (models / "there").mkdir()
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict(given.get("config", {}))
    with pytest.raises(PosMLPError, match=message):
        pack(workdir, given.get("name", "tiny"), config, TOLD, step=given.get("step", "latest"))
    assert [path.name for path in models.iterdir()] == ["there"]


def test_what_is_not_evaluated_or_no_run_is_refused(workdir, config, models, tmp_path):
    with pytest.raises(CheckpointError, match=r"has no config\.json; name the working directory of a run"):
        pack(tmp_path, "tiny", config, TOLD)
    record = workdir / "evaluations.json"
    content = record.read_text()
    record.unlink()
    try:
        with pytest.raises(CheckpointError, match="no evaluation of step 0 is on record"):
            pack(workdir, "tiny", config, TOLD)
    finally:
        record.write_text(content)
    assert not list(models.iterdir())


def test_how_long_the_steps_took(tmp_path):
    lines = [{"step": 10, "split": "train", "step_seconds": 3.0}, {"step": 10, "split": "eval", "loss": 1.0}]
    lines += [{"step": 30, "split": "train", "step_seconds": 1.5}, {"step": 40, "split": "train", "step_seconds": 9.0}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert training_seconds(as_path(tmp_path), 30) == 10 * 3.0 + 20 * 1.5
    # What a kill left of a line.
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 50, "spl')
    assert training_seconds(as_path(tmp_path), 30) == 10 * 3.0 + 20 * 1.5
    (tmp_path / "metrics.jsonl").unlink()
    with pytest.raises(DataError, match=r"has no metrics\.jsonl"):
        training_seconds(as_path(tmp_path), 30)


def test_what_the_card_says_of_the_command():
    arguments = [
        "--workdir=runs/x",
        "--config=configs/cifar10.py",
        "--config.length=60 epochs",
        "--noconfig.ema_warmup",
    ]
    assert command_of([*arguments, "--name=x", "--configuration=y"]) == (
        "python main.py --config=configs/cifar10.py '--config.length=60 epochs' --noconfig.ema_warmup"
    )
    with pytest.raises(ConfigError, match=r"write --config\.length='60 epochs', with a =, as the card will show it"):
        command_of(["--config=configs/cifar10.py", "--config.length", "60 epochs"])
    assert first_sentence(Path("configs/digits.py")).startswith("A small PosMLP on the 8×8 handwritten digits")
    assert first_sentence(Path("configs/digits.py")).endswith("drawn at 32×32")
