"""The commands and snippets of docs/{checkpoints,video,detection,actions,micro_expressions}.md, as a reader would.

That is `slow`, and `make test-docs` does it; that all commands have the flags and fields that they name, which
`test_commands.py` looks at, is not.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import warm_python
from runs import on_devices

from posmlp_jax import training
from posmlp_jax.training.experiment import open_training

pytestmark = pytest.mark.heavy

ROOT = Path(__file__).parent.parent
FOLDS = (
    "--config.length='4 steps' --config.optimizer.warmup='0 steps' --config.devices=1 --config.batch_size=8 "
    "--config.eval_every='4 steps'"
)
# Added at the end of what would take minutes.
SHORTER = {
    "main.py --config=configs/digits.py": "--config.length='4 steps' --config.optimizer.warmup='1 steps' "
    "--config.optimizer.constant='0 steps' --config.devices=1",
    "main.py --config=configs/finetune.py": "--config.length='2 steps' --config.optimizer.warmup='0 steps' "
    "--config.devices=1 --config.batch_size=8",
    "main.py --config=configs/moving_digits.py": "--config.length='2 steps' --config.optimizer.warmup='0 steps' "
    "--config.devices=1 --config.batch_size=8 --config.eval_batch_size=40 --config.eval_every='2 steps'",
    "main.py --mode=leave_one_out": FOLDS,
    "main.py --config=configs/micro_expressions": FOLDS,
    "main.py --config=configs/detection/own_objects.py": "--config.length='16 steps' --config.devices=1 "
    "--config.optimizer.warmup='1 steps' --config.data.canvases='((64,64),)' --config.eval_every='16 steps'",
    "main.py --config=configs/ava/acting_digits.py": "--config.length='4 steps' --config.devices=1 "
    "--config.optimizer.warmup='1 steps' --config.eval_every='4 steps' --config.checkpoint_every='4 steps'",
    "benchmarks.inference": "--model=gmlp_s --image_size=32 --repeats=1 --batch_sizes=1 --dtypes=float32",
    "benchmarks.resolutions": "--scales=1,1.5",
}


def blocks(text: str) -> list[tuple[str, str]]:
    """The language and the lines of every fenced block that is to be run."""
    return re.findall(r"^```(bash|python)\n(.*?)^```$", text, flags=re.M | re.S)


def shortened(script: str) -> str:
    lines = []
    for line in script.replace("\\\n", " ").splitlines():
        extra = [flags for program, flags in SHORTER.items() if re.search(rf"python (-m )?{re.escape(program)}", line)]
        lines.append(" ".join([line, *extra]))
    return "\n".join(lines)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder that looks like the repository's after `make demo`, but for how long the demo has trained."""
    folder = tmp_path_factory.mktemp("repository")
    for name in ("posmlp_jax", "configs", "benchmarks", "tests", "main.py"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "bin").mkdir()
    python = folder / "bin" / "python"
    serving = warm_python.server(os.environ)
    python.write_text(
        f'#!/bin/sh\nexec {sys.executable} -IS {warm_python.__file__} run {serving} {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    return folder


def run_bash(folder: Path, script: str) -> subprocess.CompletedProcess:
    paths = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "TFDS_DATA_DIR": str(folder / "data")}
    return subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", script],
        cwd=folder,
        env=os.environ | paths | {"PYTHONPATH": str(folder), "XLA_FLAGS": on_devices(1)},
        capture_output=True,
        text=True,
        timeout=600,
    )


def run_page(folder: Path, name: str, programs: list[str]) -> tuple[str, list[str]]:
    """Runs all blocks of a page, in which each of `programs` must be; gives its text and their outputs."""
    text = (ROOT / "docs" / name).read_text()
    scripts = blocks(text)
    if importlib.util.find_spec("torch") is None:  # Its lines take it, and the page says so.
        scripts = [(language, re.sub(r".*\.pth.*\n", "", script)) for language, script in scripts]
    assert len(scripts) > 3
    for program in programs:
        assert any(program in script.replace("\\\n", " ") for _, script in scripts), f"nothing runs {program}"
    python = ""
    outputs = []
    for number, (language, script) in enumerate(scripts):
        if language == "python":
            # A snippet may go on from the one before.
            python = python + script if "import" not in script else script
            small = python.replace("224, 224", "32, 32")
            script = f"python - <<'END_OF_SNIPPET'\n{small}\nEND_OF_SNIPPET"
        else:
            script = shortened(script)
        done = run_bash(folder, script)
        assert done.returncode == 0, f"block {number}:\n{script}\n{done.stdout}\n{done.stderr}"
        outputs.append(done.stdout)
    return text, outputs


@pytest.mark.slow
def test_checkpoints(folder):
    done = run_bash(folder, shortened("python main.py --config=configs/digits.py --workdir=runs/digits"))
    assert done.returncode == 0, done.stderr
    programs = ["posmlp_jax.convert", "configs/finetune.py", "posmlp_jax.predict", "posmlp_jax.export", "benchmarks."]
    text, outputs = run_page(folder, "checkpoints.md", programs)
    output = "".join(outputs)
    assert "top-1 98.89 %" in outputs[1], "what the card of posmlp_digits says"
    assert (folder / "runs/posmlp_digits/evaluation").is_dir()
    # What the page shows of the conversion is what it printed.
    shown = re.search(r"```text\n(read state_dict.*?)\n```", text, flags=re.S)[1]
    assert shown in output
    assert re.fullmatch(r"(loss \d\.\d{4}\n){3}", outputs[-1])
    assert (folder / "digits.stablehlo.json").exists()


@pytest.mark.slow
def test_video(folder):
    programs = [
        "posmlp_jax.data.prepare video_folder",
        "configs/moving_digits.py",
        "--mode=eval",
        "benchmarks.motion",
    ]
    programs += ["posmlp_jax.predict"]
    _, outputs = run_page(folder, "video.md", programs)
    assert "evaluation of the weights: top-1" in outputs[0]
    assert "(400 videos)" in outputs[0]
    assert (folder / "runs" / "clips.png").exists()
    assert (folder / "runs" / "predictions.png").exists()


@pytest.mark.slow
def test_detection(folder):
    programs = [
        "posmlp_jax.data.prepare coco_folder",
        "configs/detection/own_objects.py",
        "posmlp_jax.preview",
        "posmlp_jax.predict",
    ]
    _, outputs = run_page(folder, "detection.md", programs)
    output = "".join(outputs)
    assert "train: images 300 (15 without objects)" in output
    assert "Average Precision  (AP) @[ IoU=0.50:0.95" in output
    assert (folder / "runs" / "preview.png").exists()
    assert len(list((folder / "runs" / "drawn").iterdir())) > 50
    assert (folder / "runs" / "found.json").exists()


@pytest.mark.slow
def test_actions(folder):
    programs = [
        "posmlp_jax.data.prepare acting_digits",
        "posmlp_jax.preview",
        "configs/ava/acting_digits.py",
        "--mode=eval",
        "posmlp_jax.tasks.action_detection.frame_map",
        "benchmarks.acting",
    ]
    _, outputs = run_page(folder, "actions.md", programs)
    assert (folder / "runs" / "actions.png").exists()
    # The command says of an evaluation's files what it said itself.
    found = re.search(r"^mAP ([\d.]+ %) over 8 of 8 actions", outputs[2], flags=re.M)[1]
    scored = json.loads((folder / "runs" / "scores.json").read_text())
    assert f"{100 * scored['map']:.2f} %" == found
    assert "left / right" in outputs[-1]


@pytest.mark.slow
def test_micro_expressions(folder):
    programs = ["posmlp_jax.data.prepare casme2", "posmlp_jax.preview", "--mode=leave_one_out"]
    _, outputs = run_page(folder, "micro_expressions.md", programs)
    output = "".join(outputs)
    assert "leaving out each of 3 subjects in turn:" in output
    assert '"clips": 24,' in output
    assert re.search(r"^casme2/sub01,casme2/sub01/EP00,positive,", output, flags=re.M)
    assert (folder / "runs" / "faces" / "leave_one_out" / "confusion.png").exists()


def test_the_example_of_python_is_small(monkeypatch, tmp_path):
    """That of docs/start.md, which would take days with the defaults' ImageNet model."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    calls = []
    for name in ("train", "evaluate"):
        monkeypatch.setattr(training, name, lambda *arguments: calls.append(arguments))
    (example,) = [
        script for _, script in blocks((ROOT / "docs" / "start.md").read_text()) if "training.train(" in script
    ]
    exec(example, {})
    (config, workdir), evaluated = calls
    assert evaluated == (config, workdir)
    run = open_training(config)
    assert (run.lengths.total, config.batch_size, run.model.image_size) == (225, 64, (32, 32))
    assert sum(run.model.widths) < 100
    assert sum(run.model.depths) < 4
