"""The notebooks of colabs/ as they were committed: whole, run, and alike where they begin. `slow`: they run."""

import builtins
import json
import re
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from test_repository_address import repository

from colabs.run import FIRST_CELL, NotebookError, code_cells, execute, main, notebook_files, read_notebook
from posmlp_jax.errors import ConfigError

ROOT = Path(__file__).parent.parent
NOTEBOOKS = notebook_files()
# Paths that mean something on the machine of whoever ran it alone. Colab's own folder is /content.
LOCAL = re.compile(r"(?<![\w.:/-])(?:/(?:home|Users|tmp|root|work|var|mnt)/|[A-Z]:\\)\w")
MEGABYTES = 1.5


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request) -> Path:
    return request.param


def test_a_notebook_is_committed_with_the_outputs_of_one_run(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert any("image/png" in output.get("data", {}) for output in outputs), "GitHub would show no picture"
    assert "execution" not in "".join(str(cell.metadata) for cell in cells), "times differ from run to run"


def test_a_notebook_is_no_larger_than_github_shows(path):
    assert path.stat().st_size < MEGABYTES * 1e6


def test_a_notebook_knows_nothing_of_who_ran_it(path):
    notebook = nbformat.read(path, as_version=4)
    for cell in code_cells(notebook):
        for output in cell.outputs:
            output.get("data", {}).pop("image/png", None)
    assert LOCAL.findall(json.dumps(notebook, ensure_ascii=False)) == []


def badge(path: Path) -> str:
    colab = f"https://colab.research.google.com/github/{repository()}/blob/main/colabs/{path.name}"
    return f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab})"


def test_the_readme_has_every_notebook(path):
    (row,) = [line for line in (ROOT / "README.md").read_text().splitlines() if f"(colabs/{path.name})" in line]
    assert badge(path) in row


def test_notebooks_begin_alike(path):
    title, first = nbformat.read(path, as_version=4).cells[:2]
    assert title.cell_type == "markdown"
    assert title.source.startswith("# ")
    assert badge(path) in title.source
    assert first.source == FIRST_CELL.read_text().rstrip(), "`make notebooks` puts colabs/first_cell.py there"


def test_a_notebooks_links_lead_somewhere(path):
    """On Colab, too, where no file of the repository lies beside it: to the repository's own addresses."""
    text = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown")
    links, main = re.findall(r"\]\(([^)\s]+)\)", text), f"{repository()}/blob/main/"
    assert [link for link in links if not link.startswith("https://")] == []
    files = [link.partition(main)[2].partition("#")[0] for link in links if main in link]
    assert [file for file in files if not (ROOT / file).is_file()] == []


@pytest.mark.slow
def test_a_notebook_runs(path):
    execute(read_notebook(path))


def small_notebook(*sources: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])


@pytest.mark.heavy
def test_what_differs_from_run_to_run_is_not_kept():
    sources = [
        "import os, posmlp_jax\nprint(os.path.abspath('runs'), 'XLA_FLAGS' in os.environ)",
        "posmlp_jax.__file__",
    ]
    notebook = execute(small_notebook(*sources))
    first, second = notebook.cells
    assert first.outputs[0].text == "runs False\n"
    assert second.outputs[0].data["text/plain"] == "'posmlp_jax/__init__.py'"
    assert "execution" not in first.metadata
    assert notebook.metadata.language_info == {"name": "python"}
    assert [cell.execution_count for cell in notebook.cells] == [1, 2]
    with pytest.raises(NotebookError, match="ZeroDivisionError"):
        execute(small_notebook("1 / 0"))


def test_unknown_notebooks_are_refused():
    with pytest.raises(ConfigError, match="did you mean 'quickstart'"):
        main(["quickstarts"])
    with pytest.raises(ConfigError, match="there is no notebook 'xyz'"):
        notebook_files(["xyz"])


class Runtime:
    """Where the first cell is run: what is installed there, and a pip that installs, or says why not.

    Args:
      installed: the versions of packages.
      newest: of JAX, which pip installs where its own is older than 0.10.
      refused: pip's last words where it fails.
      loaded: whether the notebook has imported JAX before.
    """

    def __init__(self, folder: Path, installed: dict, refused: str = "", loaded: bool = False):
        self.folder, self.installed, self.refused = folder, dict(installed), refused
        self.asked: list[list[str]] = []
        self.path: list[str] = []
        found = self.installed
        metadata = SimpleNamespace(
            distributions=lambda name: [SimpleNamespace(version=found[name])] if name in found else []
        )
        spec = SimpleNamespace(find_spec=lambda name: found.get(name))
        devices = [SimpleNamespace(device_kind="cpu")]
        self.modules = {
            "importlib": SimpleNamespace(metadata=metadata, util=spec, invalidate_caches=lambda: None),
            "subprocess": SimpleNamespace(run=self.pip),
            "sys": SimpleNamespace(path=self.path, executable="python", modules={"jax": None} if loaded else {}),
            "pathlib": SimpleNamespace(Path=SimpleNamespace(cwd=lambda: folder)),
            "jax": SimpleNamespace(__version__=found.get("jax"), devices=lambda: devices),
        }

    def pip(self, command, **_):
        self.asked.append(command[command.index("--quiet") + 1 :])
        if not self.refused:
            self.installed["posmlp_jax"] = "0.1.0"
            if int(self.installed.get("jax", "0.0").split(".")[1]) < 10:
                self.installed["jax"] = "0.10.2"
            self.modules["jax"].__version__ = self.installed["jax"]
        return SimpleNamespace(returncode=int(bool(self.refused)), stderr=self.refused)

    def run(self) -> None:
        def imported(name, *rest):
            return self.modules.get(name.split(".")[0]) or __import__(name, *rest)

        exec(FIRST_CELL.read_text(), {"__builtins__": vars(builtins) | {"__import__": imported}})


def test_first_cell_in_a_clone(capsys):
    runtime = Runtime(ROOT / "colabs", {"jax": "0.10.2", "flax": "0.12"})
    runtime.run()
    assert runtime.path == [str(ROOT)]
    assert not runtime.asked
    assert capsys.readouterr().out == "JAX 0.10.2 on 1 x cpu\n"
    with pytest.raises(SystemExit, match="make demo"):
        Runtime(ROOT, {}).run()


def test_first_cell_where_the_package_is_installed(tmp_path):
    runtime = Runtime(tmp_path, {"jax": "0.10.2", "posmlp_jax": "0.1.0"})
    runtime.run()
    assert not runtime.asked
    assert not runtime.path


def test_first_cell_keeps_a_new_jax(tmp_path, capsys):
    runtime = Runtime(tmp_path, {"jax": "0.11.0", "jax-cuda12-plugin": "0.11.0"})
    runtime.run()
    # With the plugin's own extra, so that pip would not leave it behind.
    assert runtime.asked == [[f"posmlp-jax @ git+https://github.com/{repository()}", "jax[cuda12]"]]
    assert "too old" not in capsys.readouterr().out


def test_first_cell_replaces_an_old_jax_and_says_so(tmp_path, capsys):
    runtime = Runtime(tmp_path, {"jax": "0.7.2", "libtpu": "0.0.21"})
    runtime.run()
    assert runtime.asked[0][1:] == ["jax[tpu]"]
    printed = capsys.readouterr().out
    assert "The runtime's own JAX, 0.7.2, was too old; 0.10.2 is in its place." in printed
    assert printed.endswith("JAX 0.10.2 on 1 x cpu\n")
    with pytest.raises(SystemExit, match="Restart the session"):
        Runtime(tmp_path, {"jax": "0.7.2"}, loaded=True).run()


@pytest.mark.parametrize(
    ("refused", "line"),
    [
        (
            "error: subprocess-exited-with-error\n  fatal: unable to access 'x': Could not resolve host: x\nnote",
            "is there a network? unable to access 'x': Could not resolve host: x",
        ),
        ("ERROR: Package 'posmlp-jax' requires a different Python: 3.10 not in '>=3.11'\n", "3.10 not in '>=3.11'"),
        ("odd\n", "pip failed"),
    ],
)
def test_first_cell_without_network_says_one_line(tmp_path, refused, line):
    with pytest.raises(SystemExit) as stopped:
        Runtime(tmp_path, {}, refused=refused).run()
    assert str(stopped.value).endswith(line)
    assert "\n" not in str(stopped.value)
