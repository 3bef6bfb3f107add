"""The commands of README and the docs are ones that the programs take: fields, values' types and flags. None is run."""

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags
from ml_collections import config_flags

from posmlp_jax.training.config import check_fields, check_override

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
# Where flags are that several programs have.
SHARED = ("posmlp_jax/checkpoints/selection.py", "posmlp_jax/training/flags.py", "posmlp_jax/command_line.py")
CONFIG = re.compile(r"--config[.=]")


def commands(text: str) -> list[tuple[str, list[str]]]:
    """The program, `main.py` or a module, and the arguments of each command in a page's blocks and lines, once."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, flags=re.M | re.S)
    blocks += re.findall(r"^    (.*(?:\n    .*)*)", text, flags=re.M)
    blocks += re.findall(r"`([^`\n]+)`", text)
    found = {}
    for line in "\n".join(blocks).replace("\\\n", " ").splitlines():
        if match := re.search(r"\bpython (main\.py|-m [\w.]+)([^>|;&]*)", line):
            arguments = re.sub(r"\$\w+", "1", re.sub(r'"(\$\w+)"', r"\1", match[2]))
            found[match[1].removeprefix("-m "), tuple(shlex.split(arguments, comments=True))] = None
    return [(program, list(arguments)) for program, arguments in found]


COMMANDS = {
    f"{page.name}:{number}": command for page in PAGES for number, command in enumerate(commands(page.read_text()))
}


def program_files(program: str) -> list[Path]:
    """The source of a program: of a package, all of its files."""
    if program == "main.py":
        return [ROOT / program]
    spec = importlib.util.find_spec(program)
    assert spec, f"there is no {program}"
    folder = spec.submodule_search_locations
    return [*Path(folder[0]).glob("*.py")] if folder else [Path(spec.origin)]


def flag_names(program: str) -> set[str]:
    """The flags that a program's source names, and those that it may share with others."""
    source = "\n".join(file.read_text() for file in [*program_files(program), *(ROOT / file for file in SHARED)])
    names = re.findall(r'"--([\w-]+)"|DEFINE_\w+\(\s*"(\w+)"', source)
    return {option or flag for option, flag in names}


def check(program: str, arguments: list[str], monkeypatch) -> None:
    """Fails where the program would not take the arguments."""
    given = [argument for argument in arguments if CONFIG.match(argument)]
    others = {argument[2:].split("=")[0] for argument in arguments if argument.startswith("--")} - {"help"}
    unknown = {name for name in others if not name.startswith("config")} - flag_names(program)
    assert not unknown, f"{program} has no {unknown}"
    if program == "main.py" and any(argument.startswith("--config=") for argument in given):
        for argument in given:
            if argument.startswith("--config."):
                check_override(argument.split("=")[0].removeprefix("--config."))
        values = flags.FlagValues()
        config = config_flags.DEFINE_config_file("config", None, "", flag_values=values)
        monkeypatch.setattr(sys, "argv", ["main.py", *given])
        monkeypatch.chdir(ROOT)
        values(sys.argv)
        check_fields(values[config.name].value)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_one(name, monkeypatch):
    program, arguments = COMMANDS[name]
    assert any('if __name__ == "__main__":' in file.read_text() for file in program_files(program)), program
    check(program, arguments, monkeypatch)


def test_scripts_are_bash():
    for page in PAGES:
        for script in re.findall(r"^```sh\n(.*?)^```", page.read_text(), flags=re.M | re.S):
            checked = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
            assert not checked.stderr, page.name


def test_commands_are_found_and_refused(monkeypatch):
    text = "    python main.py --config=configs/digits.py \\\n        --config.seed=$SEED > log    # not this\n"
    text += "```sh\npython -m posmlp_jax.export --checkpont=runs/x\n```\n"
    first, second = commands(text)[::-1]
    assert first == ("main.py", ["--config=configs/digits.py", "--config.seed=1"])
    check(*first, monkeypatch)
    with pytest.raises(AssertionError, match="checkpont"):
        check(*second, monkeypatch)
    with pytest.raises(ValueError, match="seed"):
        check("main.py", ["--config=configs/digits.py", "--config.seeds=1"], monkeypatch)
