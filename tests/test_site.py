"""The documentation site, without Sphinx: pages that are found, links that lead somewhere, nothing public left out."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md")])
# Rooms whose names are for users: all that they export is in the reference.
ROOMS = ("", "models", "checkpoints", "data", "training", "convert", "predict", "analysis", "zoo")
# Modules that are named one by one: all in them that has no underscore is in the reference.
MODULES = ("relations", "gating", "windows", "layers", "export", "tasks.task")
MODULES += tuple(
    f"detection.{name}" for name in ("anchors", "boxes", "losses", "masks", "matching", "nms", "roi_align", "sampling")
)
COMMANDS = {"main", "run"}


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$|^    .*?$|`[^`\n]*`", "", text, flags=re.M | re.S)


def anchors(text: str) -> set[str]:
    """Of the headings, as GitHub and MyST make them."""
    titles = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken_links(page: Path) -> list[str]:
    """Links of a page to files of the repository that are not there, or to headings that their page has not."""
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text())):
        if re.match(r"\w+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        if not file.exists() or (anchor and anchor not in anchors(file.read_text())):
            broken.append(target)
    return broken


def test_broken_links_are_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# A page, of `code`\n[a](page.md#a-page-of-code) [b](#other) [c](gone.md) [d](https://x.y) `[e](f)`"
    )
    assert broken_links(page) == ["#other", "gone.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    assert broken_links(page) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_in_the_text_are_there(page):
    """Of files that are Python, be it from the package: `configs/digits.py`, `data/targets.py`."""
    named = re.findall(r"`((?:[\w-]+/)+[\w-]+\.py)`", page.read_text())
    assert [name for name in named if not any((ROOT / base / name).exists() for base in ("", "posmlp_jax"))] == []


def test_every_page_is_in_a_toctree():
    listed = set()
    for page in [DOCS / "index.md", DOCS / "api" / "index.rst"]:
        for block in re.findall(r"toctree(?:::|\})\n(.*?)(?:```|\Z)", page.read_text(), flags=re.S):
            listed |= {page.parent / entry for entry in re.findall(r"^ *(?:.+ <)?([\w/]+)>?$", block, flags=re.M)}
    patterns = ("*.md", "api/*.rst", "colabs/*.ipynb")
    pages = {path.with_suffix("") for pattern in patterns for path in DOCS.glob(pattern)}
    assert listed == pages - {DOCS / "index"}


def public_objects() -> dict[str, object]:
    """What the rooms' `__all__` have, and what else is named for users, by name."""
    objects = {}
    for room in ROOMS:
        module = importlib.import_module(".".join(filter(None, ("posmlp_jax", room))))
        objects |= {f"{module.__name__}.{name}": getattr(module, name) for name in module.__all__}
    for name in MODULES:
        module = importlib.import_module(f"posmlp_jax.{name}")
        for found, value in vars(module).items():
            if getattr(value, "__module__", None) == module.__name__ and not found.startswith("_"):
                objects[f"{module.__name__}.{found}"] = value
    return objects


def test_every_public_name_is_in_the_reference():
    """By a directive of its own, of any module that has it, or by one of its module with all members."""
    reference = "\n".join(page.read_text() for page in (DOCS / "api").glob("*.rst"))
    named = re.findall(r"^\.\. auto(?:class|function):: (?:\w+\.)*(\w+)$", reference, flags=re.M)
    whole = re.findall(r"^\.\. automodule:: ([\w.]+)\n   :members:", reference, flags=re.M)
    missing = []
    for name, value in public_objects().items():
        room, _, short = name.rpartition(".")
        if short not in {*named, *COMMANDS} and not {room, value.__module__} & set(whole):
            missing.append(name)
    assert missing == []


def test_nothing_is_in_the_reference_twice():
    reference = "\n".join(page.read_text() for page in (DOCS / "api").glob("*.rst"))
    directives = re.findall(r"^\.\. auto\w+:: [\w.]+$", reference, flags=re.M)
    assert sorted(set(directives)) == sorted(directives)
