"""The image recipes against the table of what was published, and docs/recipes.md against the paper's tables."""

import dataclasses
import re
import shlex
import sys
from pathlib import Path

import pytest
from absl import flags
from ml_collections import ConfigDict, config_flags
from published_recipes import IMAGES, differing_fields, field_value, recipe_module, values

from posmlp_jax.analysis.paper_tables import ROWS
from posmlp_jax.models import model_config
from posmlp_jax.training import default_config
from posmlp_jax.training.config import check_fields, check_values, resolve_model

ROOT = Path(__file__).parents[2]
# What a recipe says beside what was published: how the run is worked off, and what is kept of it.
OURS = {"data.threads", "checkpoint_every", "model.name", "model.remat"}
LINE = re.compile(
    r"^\| (?P<row>(?:table|figure) [^|]+?) \| `python main\.py (?P<flags>[^`]+)` \| (?P<printed>[^|]+?) \|$", re.M
)
COMMANDS = LINE.findall((ROOT / "docs" / "recipes.md").read_text())
BY_NAME = {row.name: row for row in ROWS}


def test_every_config_on_imagenet_is_in_the_table():
    names = {path.stem for path in (ROOT / "configs").glob("*.py") if hasattr(recipe_module(path.stem), "get_config")}
    assert {name for name in names if recipe_module(name).get_config().data.name == "imagenet2012"} == set(IMAGES)


@pytest.mark.parametrize("name", IMAGES)
def test_a_config_has_what_was_published(name):
    config = recipe_module(name).get_config()
    check_fields(config)
    check_values(config)
    published = values(IMAGES[name])
    assert {field: field_value(config, field) for field in published} == published
    assert f"configs/{name}.py" in recipe_module(name).__doc__


@pytest.mark.parametrize("name", [name for name in IMAGES if "data.crop" in values(IMAGES[name])])
def test_a_published_recipe_has_nothing_else(name):
    config = recipe_module(name).get_config()
    default = default_config(config.model.name)
    changed = differing_fields(config, default)
    assert changed <= set(values(IMAGES[name])) | OURS


@pytest.mark.parametrize("name", [name for name in IMAGES if "data.crop" not in values(IMAGES[name])])
def test_what_was_not_published_says_so_and_is_ts_recipe(name):
    assert re.search(
        r"not published|[Nn]othing else was published|Neither .* published|is another", recipe_module(name).__doc__
    )
    config, of_t = recipe_module(name).get_config(), recipe_module("posmlp_t").get_config()
    pixels = {"data.mean", "data.std"} if "video" in name else set()
    assert differing_fields(config, of_t) <= OURS | pixels


def parse(command: str, monkeypatch) -> tuple[ConfigDict, str]:
    """The config and the working directory of a command, as `main.py` has them."""
    values = flags.FlagValues()
    config = config_flags.DEFINE_config_file("config", None, "", flag_values=values)
    flags.DEFINE_string("workdir", None, "", flag_values=values)
    monkeypatch.setattr(sys, "argv", ["main.py", *shlex.split(command)])
    monkeypatch.chdir(ROOT)
    assert values(sys.argv) == ["main.py"]
    return values[config.name].value, values["workdir"].value


def test_every_row_of_the_tables_is_a_command():
    assert [row for row, _, _ in COMMANDS] == list(BY_NAME)
    assert len({re.search(r"--workdir=(\S+)", command)[1] for _, command, _ in COMMANDS}) == len(COMMANDS)


@pytest.mark.parametrize(("row", "command", "printed"), COMMANDS, ids=[row for row, _, _ in COMMANDS])
def test_a_command_trains_its_row(row, command, printed, monkeypatch):
    """Its model is the one whose parameters test_paper_tables.py holds to the paper's digits."""
    config, _ = parse(command, monkeypatch)
    check_fields(config)
    check_values(config)
    model = resolve_model(config, {"num_classes": 1000})
    wanted = model_config(BY_NAME[row].model, **BY_NAME[row].overrides)
    run = {field: getattr(model, field) for field in ("dropout", "drop_path", "dtype", "remat")}
    assert model == dataclasses.replace(wanted, **run)
    assert config.data.train_fraction == (1.0 if row.startswith("table 2") else 0.5)
    assert printed == (BY_NAME[row].accuracy or "—")
