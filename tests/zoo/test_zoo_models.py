"""The models that come with the package: each does what its card says, on data that every machine has."""

import hashlib
import json
import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import jax
import numpy as np
import pytest

from posmlp_jax import list_pretrained
from posmlp_jax.checkpoints import zoo
from posmlp_jax.checkpoints.run import as_tuples
from posmlp_jax.data import eval_batches, open_source
from posmlp_jax.models import model_config
from posmlp_jax.models.cost import model_cost
from posmlp_jax.training import open_pretrained
from posmlp_jax.training.saved_config import get_config
from posmlp_jax.zoo import load_sample
from posmlp_jax.zoo.__main__ import format_card, format_list, main

pytestmark = pytest.mark.heavy

ROOT = Path(__file__).parent.parent.parent
NAMES = list_pretrained()


def card_of(name: str) -> dict:
    return json.loads((zoo.FOLDER / name / "card.json").read_text())


def examples_of(name: str, digits_dir: Path) -> tuple[np.ndarray, np.ndarray, float]:
    """Pixels, labels and the share that the card says is recognised."""
    card = card_of(name)
    if card["sample"]:
        sample = load_sample(name)
        assert len(sample.labels) == card["sample"]["examples"]
        return *sample, card["sample"]["top1"]
    config = get_config(name)
    config.data.data_dir = str(digits_dir)
    source = open_source(config.data, "eval")
    assert len(source) == card["data"]["evaluation"]["examples"]
    (batch,) = eval_batches(source, config.data, tuple(card["input"][:-1]), batch_size=len(source))
    return batch["image"], batch["label"], card["accuracy"]["packed"]


@pytest.mark.parametrize("name", NAMES)
def test_it_recognises_what_its_card_says(name, digits_dir):
    pixels, labels, expected = examples_of(name, digits_dir)
    pretrained = open_pretrained(name)
    images = (pixels / 255 - np.array(pretrained.data["mean"])) / np.array(pretrained.data["std"])
    # By the model alone, not the code that made the card; in parts, as a matter of memory.
    forward = jax.jit(lambda images: pretrained.model()(images).argmax(-1))
    parts = [forward(np.float32(images[first : first + 40])) for first in range(0, len(images), 40)]
    correct = int((np.concatenate(parts) == labels).sum())
    assert correct == round(expected * len(labels))
    assert expected > 0.8
    assert set(labels.tolist()) == set(range(pretrained.config.num_classes))


def test_examples_of_data_that_come_with_the_package(digits_dir, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(digits_dir))
    pixels, labels, _ = examples_of("posmlp_digits", digits_dir)
    sample = load_sample("posmlp_digits")
    np.testing.assert_array_equal(sample.pixels, pixels)
    np.testing.assert_array_equal(sample.labels, labels)


@pytest.mark.parametrize("name", NAMES)
def test_its_card_is_of_its_files(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    card, pretrained = card_of(name), open_pretrained(name)
    for file, expected in card["sha256"].items():
        assert hashlib.sha256((zoo.FOLDER / name / file).read_bytes()).hexdigest() == expected
    fields = {field: as_tuples(value) for field, value in card["fields"].items()}
    assert model_config(card["model"], **fields) == pretrained.config.replace(dtype="float32", remat=False)
    assert card["parameters"] == model_cost(pretrained.name, **fields)[0]
    assert (card["name"], card["steps"], card["item"]) == (name, pretrained.step, pretrained.item)
    config = get_config(name)
    assert config.data.data_dir == ""
    assert (config.seed, config.data.name) == (card["seed"], card["data"]["name"])
    examples = json.loads((zoo.FOLDER / name / "data.json").read_text())["training"]["examples"]
    assert card["epochs"] == pytest.approx(card["steps"] * config.batch_size / examples, abs=0.005)
    assert (ROOT / re.search(r"--config=(\S+)", card["command"])[1]).is_file()
    # The better of both, which the record of the run says.
    results = json.loads((zoo.FOLDER / name / "evaluations.json").read_text())[str(card["steps"])]
    best = max(values["top1"] for values in results.values())
    assert card["accuracy"]["packed"] == pytest.approx(best, abs=5e-4)
    text = format_card(name)
    for part in (card["command"], f"{100 * card['accuracy']['packed']:.2f} %", card["data_licence"], "Apache-2.0"):
        assert part in text


def test_all_of_it_is_small_and_part_of_the_package():
    folder = Path(zoo.FOLDER.parent)
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")]
    assert sum(path.stat().st_size for path in files) < 10e6
    with open(ROOT / "pyproject.toml", "rb") as file:
        patterns = tomllib.load(file)["tool"]["setuptools"]["package-data"]["posmlp_jax.zoo"]
    names = [str(path.relative_to(folder)) for path in files]
    assert all(any(fnmatch(name, pattern) for pattern in patterns) for name in names), names
    samples = {card_of(name)["sample"]["file"] for name in NAMES if card_of(name)["sample"]}
    assert {path.name for path in (folder / "samples").iterdir()} == samples


def test_the_list(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    main([])
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split()[:4] == ["name", "accuracy", "parameters", "MB"]
    assert [line.split()[0] for line in lines] == NAMES
    main([NAMES[0]])
    assert capsys.readouterr().out == format_card(NAMES[0]) + "\n"


def test_the_list_in_a_narrow_terminal(monkeypatch):
    """It is wider then, rather than with words and numbers that are cut, as 98.…."""
    monkeypatch.setenv("COLUMNS", "40")
    found = format_list().split()
    for name in NAMES:
        card = card_of(name)
        accuracy, *words = f"{100 * card['accuracy']['packed']:.2f}", *card["about"].split()
        assert {name, accuracy, f"{card['parameters']:,}", *words} <= set(found)


def test_what_the_readme_says_of_them():
    """Its table has the models, and their cards' numbers."""
    rows = re.findall(
        r"^\| `(\w+)` \| ([\d.]+) % \| ([\d,]+) \| ([\d.]+) MB \|", (ROOT / "README.md").read_text(), re.M
    )
    assert [name for name, *_ in rows] == NAMES
    for name, accuracy, parameters, megabytes in rows:
        card = card_of(name)
        assert accuracy == f"{100 * card['accuracy']['packed']:.2f}"
        assert parameters == f"{card['parameters']:,}"
        assert float(megabytes) == round((zoo.FOLDER / name / "weights.safetensors").stat().length / 1e6, 2)
