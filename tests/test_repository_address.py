"""The repository's address is set in pyproject.toml, and whatever repeats it says the same."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Also as Colab has it, …/github/OWNER/posmlp_jax/blob/…, and as what is fetched raw.
ADDRESS = re.compile(r"(?:github\.com|githubusercontent\.com|/github)/([\w.-]+/posmlp_jax)\b")


def repository() -> str:
    """OWNER/NAME of the address in pyproject.toml."""
    address = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
    return re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+)", address)[1]


def other_addresses(text: str, here: str) -> list[int]:
    """The lines of `text` with an address of this project that is not `here`'s."""
    return [
        number
        for number, line in enumerate(text.splitlines(), 1)
        if any(found != here for found in ADDRESS.findall(line))
    ]


def test_addresses_are_found():
    text = """one
    https://github.com/OWNER/posmlp_jax.git
    [badge](https://colab.research.google.com/github/other/posmlp_jax/blob/main/colabs/quickstart.ipynb)
    https://raw.githubusercontent.com/other/posmlp_jax/main/README.md, https://github.com/other/PosMLP"""
    assert other_addresses(text, "OWNER/posmlp_jax") == [3, 4]
    assert other_addresses(text, "other/posmlp_jax") == [2]


def test_the_address_is_one():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not in a clone")
    here = repository()
    wrong = []
    for name in listed.stdout.splitlines():
        if name != "tests/test_repository_address.py" and name.endswith((".md", ".ipynb", ".py", ".toml", ".sh")):
            wrong += [f"{name}:{number}" for number in other_addresses((ROOT / name).read_text(), here)]
    assert not wrong, f"another address of the repository than pyproject.toml's ({here}): {', '.join(wrong)}"
