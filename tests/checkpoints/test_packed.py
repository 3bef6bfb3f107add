"""Packed checkpoints, and the names of those that come with the package: loaded, chosen, refused, evaluated."""

import hashlib
import json
import shutil
from contextlib import closing
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers import randomized
from runs import assert_equal, save_model
from safetensors.numpy import load_file, save_file

import posmlp_jax
from posmlp_jax import create_model, from_pretrained, list_pretrained
from posmlp_jax.checkpoints import zoo
from posmlp_jax.checkpoints.packed import write_packed
from posmlp_jax.checkpoints.pretrained import open_checkpoints, open_together
from posmlp_jax.checkpoints.state import as_dict, module_weights, parameter_name
from posmlp_jax.checkpoints.store import Checkpoints
from posmlp_jax.convert.__main__ import main as convert
from posmlp_jax.data.fingerprint import fingerprint
from posmlp_jax.data.sources.synthetic import SyntheticSource
from posmlp_jax.errors import CheckpointError, ConfigError, DamagedCheckpointError
from posmlp_jax.training import evaluate, open_pretrained
from posmlp_jax.training.config import plain
from posmlp_jax.training.experiment import open_init, open_training
from posmlp_jax.training.saved_config import get_config, protocol
from posmlp_jax.zoo.__main__ import format_card

pytestmark = pytest.mark.heavy

NAME = "tiny_digits"
FIELDS = {"image_size": 16, "widths": (8, 16), "depths": (1, 1), "expansions": (2, 2), "windows": (4, 2)}
FIELDS |= {"groups": (2, 4), "num_classes": 5, "dropout": 0.1, "drop_path": 0.2}
# What the run's evaluation found, by which the moving average is the better one.
RESULTS = {"eval": {"loss": 0.5, "top1": 0.5, "count": 40.0}, "ema": {"loss": 0.4, "top1": 0.6, "count": 40.0}}


@pytest.fixture(scope="module")
def model():
    return randomized(lambda: create_model("posmlp_t", **FIELDS))


@pytest.fixture(scope="module")
def packed(model, tiny_config, tmp_path_factory) -> Path:
    """A zoo of one model, packed in float16: its folder."""
    folder = tmp_path_factory.mktemp("zoo") / NAME
    folder.mkdir()
    config = tiny_config(**{"data.mean": (0.3, 0.5, 0.4), "data.std": (0.2, 0.3, 0.1)})
    run = {
        "step": 9,
        "config": plain(config),
        "model": {"name": "posmlp_t"}
        | {field: getattr(model.config, field) for field in model.config.__dataclass_fields__},
        "class_names": list("abcde"),
    }
    data = {"evaluation": fingerprint(SyntheticSource(40, 5))}
    write_packed(
        zoo.epath.Path(folder),
        module_weights(model),
        item="ema",
        dtype="float16",
        run=run,
        results=RESULTS,
        data=data,
        card={"name": NAME},
    )
    return folder


@pytest.fixture(autouse=True)
def named(packed, monkeypatch, tmp_path):
    """The zoo is that of `packed`, and nothing is in the current folder."""
    monkeypatch.setattr(zoo, "FOLDER", zoo.epath.Path(packed.parent))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def copy(packed, monkeypatch, tmp_path) -> Path:
    """A zoo with a copy of the model, to be damaged."""
    shutil.copytree(packed, tmp_path / "zoo" / NAME)
    monkeypatch.setattr(zoo, "FOLDER", zoo.epath.Path(tmp_path / "zoo"))
    return tmp_path / "zoo" / NAME


def half(model):
    """The weights as float16 has them."""
    return jax.tree.map(lambda x: np.asarray(x, np.float16).astype(np.float32), module_weights(model))


def test_a_name_is_loaded_like_a_folder(model, packed, monkeypatch):
    assert list_pretrained() == posmlp_jax.list_pretrained() == [NAME]
    for path in (NAME, str(packed), packed, Path(NAME)):
        loaded = from_pretrained(path)
        assert loaded.config == model.config
        assert_equal(module_weights(loaded), half(model))
        assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(module_weights(loaded)))
    pretrained = open_pretrained(NAME)
    assert pretrained.class_names == tuple("abcde")
    assert tuple(pretrained.data["mean"]) == (0.3, 0.5, 0.4)
    assert pretrained.choice == (
        f"moving average of {NAME} of the zoo (the run's evaluation found it better: top-1 60.00 against 50.00 %)"
    )
    assert open_pretrained(NAME, step=9, weights="ema").reason == "as asked for"
    assert open_together(NAME) == pretrained
    # As on a second host.
    monkeypatch.setattr("posmlp_jax.checkpoints.pretrained.jax.process_count", lambda: 2)
    monkeypatch.setattr("posmlp_jax.checkpoints.pretrained.from_host_0", lambda choose: choose())
    monkeypatch.setattr("posmlp_jax.checkpoints.pretrained.together", lambda function: function())
    assert open_together(NAME) == pretrained


def test_the_file_is_what_its_header_says(model, packed):
    """As anything that reads safetensors finds it, without us."""
    arrays = load_file(packed / "weights.safetensors")
    leaves = {
        parameter_name(path): np.asarray(leaf, np.float16)
        for path, leaf in jax.tree_util.tree_leaves_with_path(as_dict(module_weights(model)))
    }
    assert_equal(arrays, leaves)
    assert "params.stages.0.blocks.0.gate.relation.center" in arrays
    card = json.loads((packed / "card.json").read_text())
    assert card["dtype"] == "float16"
    assert card["sha256"] == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in packed.iterdir()
        if path.name != "card.json"
    }


def test_changed_as_a_run_is(model):
    other = from_pretrained(NAME, num_classes=3, image_size=32, windows=(8, 4))
    assert other.config.num_classes == 3
    relation = module_weights(other).params["stages"][0]["blocks"][0]["gate"]["relation"]
    assert_equal(relation, half(model).params["stages"][0]["blocks"][0]["gate"]["relation"])
    with pytest.raises(CheckpointError, match=f"than the moving average of {NAME} of the zoo: covariance 'psd' there"):
        from_pretrained(NAME, covariance="free")


def test_a_run_starts_from_it(tiny_config):
    config = tiny_config(init_from=NAME, **{"data.mean": (), "data.std": (), "model.name": "", "data.num_classes": 3})
    run = open_training(config)
    assert run.config.data.mean == (0.3, 0.5, 0.4)
    first = run.first_weights()
    assert first.source.startswith(f"moving average of {NAME} of the zoo")
    assert first.new == ("head.bias", "head.kernel")
    config.init_weights = "raw"
    with pytest.raises(CheckpointError, match="has its moving average alone; take weights 'ema' or 'best'"):
        open_init(config)


def test_it_is_evaluated_and_not_written_to(packed, capsys, tmp_path):
    before = sorted(packed.iterdir())
    config = get_config(NAME)
    assert plain(config) == plain(get_config(packed))
    config.devices = 1
    results = evaluate(config, NAME)
    assert set(results) == {"ema"}
    shown = capsys.readouterr().out
    assert f"evaluating the moving average of {NAME} of the zoo (the run's" in shown
    assert "class by class" in shown
    assert "wrote" not in shown
    assert "not what the run was evaluated on" not in shown
    assert results == evaluate(config, packed, output=tmp_path / "results")
    assert (tmp_path / "results" / "evaluation" / "step9_ema" / "classes.csv").exists()
    assert sorted(packed.iterdir()) == before
    assert protocol(config, open_pretrained(NAME), SyntheticSource(41, 5)).startswith("data_")
    config.model.gate = "add"
    with pytest.raises(ConfigError, match=f"that of {NAME} of the zoo the config says something else: model.gate"):
        evaluate(config, NAME)


def test_it_is_converted(model, tmp_path):
    convert([f"--source={NAME}", f"--output={tmp_path}/published.npz"])
    head = np.load(tmp_path / "published.npz")["head.weight"]
    np.testing.assert_array_equal(head, half(model).params["head"]["kernel"].T)


def test_a_folder_of_that_name_goes_first(tmp_path):
    mine = create_model("posmlp_t", **FIELDS | {"num_classes": 2})
    save_model(tmp_path / NAME, "posmlp_t", mine)
    assert from_pretrained(NAME).config.num_classes == 2
    assert open_pretrained(NAME).description == f"weights of step 0 in {tmp_path / NAME}"
    shutil.rmtree(tmp_path / NAME)
    (tmp_path / NAME).mkdir()
    with pytest.raises(CheckpointError, match=f"there is no checkpoint in {tmp_path / NAME}"):
        open_pretrained(NAME)
    (tmp_path / NAME).rmdir()
    assert open_pretrained(NAME).place == f"{NAME} of the zoo"


MISTAKES = [
    (
        {"path": "tiny_digit"},
        "there is no file or folder 'tiny_digit', and no trained .* comes .*; did you mean 'tiny_digits'",
    ),
    ({"path": "tiny-digits"}, "there is no file or folder 'tiny-digits', .*; did you mean 'tiny_digits'"),
    (
        {"path": "posmlp_t"},
        r"no trained weights of posmlp_t come .*: |, python -m posmlp_jax.convert --source=FILE --model=posmlp_t",
    ),
    ({"path": NAME, "step": 3}, r"there is no checkpoint of step 3 in .*; there are \[9\]"),
    ({"path": NAME, "step": "best"}, "has no best checkpoint: it was trained with keep_best=''"),
    ({"path": NAME, "weights": "raw"}, "has its moving average alone; take weights 'ema' or 'best'"),
    # What is more than a name is a path, as before.
    (
        {"path": f"./{NAME}"},
        f"there is no checkpoint in .*; '{NAME}' alone is the zoo's where no folder has that name$",
    ),
    ({"path": f"runs/{NAME}"}, f"there is no checkpoint in .*; '{NAME}' alone is the zoo's"),
    ({"path": "runs/other"}, "there is no checkpoint in .*; name the folder of a run that has one$"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=[str(arguments) for arguments, _ in MISTAKES])
def test_mistakes(arguments, message):
    path = arguments.pop("path")
    with pytest.raises(CheckpointError, match=message) as error:
        open_pretrained(path, **arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["tiny_digit", "posmlp_t"])
def test_every_place_that_takes_a_name_refuses_another(name, tiny_config, tmp_path):
    for load in (
        lambda: from_pretrained(name),
        lambda: get_config(name),
        lambda: evaluate(None, name),
        lambda: open_init(tiny_config(init_from=name)),
        lambda: convert([f"--source={name}", f"--output={tmp_path}/out.npz"]),
    ):
        with pytest.raises(
            CheckpointError, match=f"no trained (model|weights) of {name}|'{name}', and no trained model"
        ):
            load()


@pytest.mark.parametrize("name", ["weights.safetensors", "run.json", "evaluations.json", "data.json", "card.json"])
@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
def test_what_is_damaged_is_not_loaded(copy, name, damage):
    file = copy / name
    content = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        # A digit more in a text, another byte in the middle of the weights.
        changed = content[: len(content) // 2] + b"7" + content[len(content) // 2 + 1 :]
        file.write_bytes(changed if damage == "changed" else content[: len(content) // 2])
    what = "is missing" if damage == "gone" else "is not what was written"
    with pytest.raises(DamagedCheckpointError) as error:
        from_pretrained(NAME)
    assert str(error.value) == f"{NAME} of the zoo is damaged: {name} {what}; install posmlp_jax again"
    # Without its card a folder is none of these.
    with pytest.raises(CheckpointError if name == "card.json" else DamagedCheckpointError):
        from_pretrained(copy)
    if name in ("weights.safetensors", "card.json"):
        with pytest.raises(DamagedCheckpointError, match=f"{name} {what}"):
            format_card(NAME)


def test_another_versions_parameters_are_named(copy):
    """Files as they were written, by a version that named its parameters otherwise."""
    file = copy / "weights.safetensors"
    arrays = load_file(file)
    arrays["params.head.weights"] = arrays.pop("params.head.kernel")
    save_file(arrays, file)
    card = json.loads((copy / "card.json").read_text())
    card["sha256"][file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
    card["card_sha256"] = zoo.card_checksum(card)
    (copy / "card.json").write_text(json.dumps(card))
    with pytest.raises(CheckpointError, match=r"of another architecture, 2 .* head.kernel missing there"):
        from_pretrained(NAME)


def test_on_eight_devices(packed, model):
    """Each device has its part of what is sharded."""
    mesh = jax.make_mesh((8,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))

    def spread(leaf):
        spec = jax.P("x") if leaf.shape[0] % 8 == 0 else jax.P()
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=jax.NamedSharding(mesh, spec))

    target = jax.tree.map(spread, module_weights(model))
    with closing(open_checkpoints(zoo.epath.Path(packed))) as checkpoints:
        assert not isinstance(checkpoints, Checkpoints)
        restored = checkpoints.restore_weights(9, "ema", target)
    assert_equal(restored, half(model))
    assert len(restored.params["head"]["kernel"].sharding.device_set) == 8
