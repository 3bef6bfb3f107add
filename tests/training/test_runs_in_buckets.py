"""A whole life in a bucket: training, going on, evaluating and loading, to the same numbers as on a disk."""

import json
import os

import pytest
from etils import epath
from flax import nnx
from runs import assert_equal, metrics, save_model

from posmlp_jax.analysis.curves import main as draw
from posmlp_jax.analysis.curves import read_metrics
from posmlp_jax.convert.__main__ import main as convert
from posmlp_jax.errors import CheckpointError
from posmlp_jax.models import create_model
from posmlp_jax.paths import list_folder
from posmlp_jax.training import evaluate, from_pretrained, open_pretrained, train
from posmlp_jax.training.lock import WorkdirLock
from posmlp_jax.training.records.metrics import MetricsWriter
from posmlp_jax.writing import LineWriter, Pace

pytestmark = pytest.mark.heavy


@pytest.fixture(autouse=True)
def quick_lock(monkeypatch):
    """Whoever takes a bucket's lock waits a moment for others; here there are none."""
    monkeypatch.setattr(WorkdirLock.__init__, "__kwdefaults__", {"beat": 0.2, "dead": 1.0})


def test_a_run_in_a_bucket(bucket, tiny_config, tmp_path, monkeypatch, capsys):
    expected = train(tiny_config(), tmp_path / "run")
    workdir, write = f"{bucket}/{tmp_path.name}/run", MetricsWriter.write

    def stop_at_6(self, step, split, values):
        if step == 6:
            raise KeyboardInterrupt
        write(self, step, split, values)

    monkeypatch.setattr(MetricsWriter, "write", stop_at_6)
    with pytest.raises(KeyboardInterrupt):
        train(tiny_config(), workdir)
    monkeypatch.setattr(MetricsWriter, "write", write)
    assert train(tiny_config(), workdir) == expected
    assert f"going on from step 4 of {workdir}" in capsys.readouterr().out
    folder = epath.Path(workdir)
    assert metrics(folder) == metrics(tmp_path / "run")
    assert len(read_metrics(folder)) == len(metrics(folder))
    config = json.loads((folder / "config.json").read_text())
    assert config == json.loads((tmp_path / "run/config.json").read_text())
    assert sorted(map(sorted, list_folder(folder))) == sorted(map(sorted, list_folder(epath.Path(tmp_path) / "run")))
    events = [folder / "tensorboard" / name for name in list_folder(folder / "tensorboard")[1]]
    assert all(b"eval/top1" in event.read_bytes() for event in events)

    assert evaluate(None, workdir, step=4) == evaluate(tiny_config(), tmp_path / "run", step=4)
    models = [from_pretrained(path, weights="raw") for path in (f"{workdir}/checkpoints/9", tmp_path / "run")]
    assert_equal(*(nnx.state(model) for model in models))
    assert open_pretrained(workdir).description.endswith(workdir)
    with pytest.raises(CheckpointError, match=r"gs://.* holds a different experiment \(seed"):
        train(tiny_config(seed=1), workdir)
    assert not os.path.exists("gs:")


def test_what_is_not_there(bucket, tiny_config):
    with pytest.raises(CheckpointError, match=r"there is no checkpoint in gs://bucket/none/checkpoints"):
        open_pretrained(bucket / "none")
    with pytest.raises(CheckpointError, match=r"cannot write to the working directory gs://no_bucket/x: .*no_bucket"):
        train(tiny_config(), "gs://no_bucket/x")


def test_programs(bucket, tiny_config, tmp_path, capsys):
    """What is written to a bucket and read from it without any training."""
    folder = bucket / tmp_path.name
    small = {
        "image_size": 16,
        "widths": (8, 16),
        "depths": (1, 1),
        "expansions": (2, 2),
        "windows": (4, 2),
        "groups": (2, 4),
    }
    model = create_model("posmlp_t", num_classes=3, **small)
    save_model(folder / "run", "posmlp_t", model)
    for file in (folder / "published.npz", epath.Path(tmp_path) / "published.npz"):
        convert([f"--source={folder}/run", f"--output={file}"])
    assert list_folder(folder)[1] == ["published.npz"]
    assert (folder / "published.npz").read_bytes() == (tmp_path / "published.npz").read_bytes()
    overrides = [f"--override={name}={value}" for name, value in small.items()]
    convert([f"--source={tmp_path}/published.npz", "--model=posmlp_t", f"--output={folder}/converted", *overrides])
    assert_equal(nnx.state(from_pretrained(folder / "converted")), nnx.state(model))
    with pytest.raises(CheckpointError, match=r"gs://.*/published.npz is in a bucket, and is read from"):
        convert([f"--source={folder}/published.npz", "--model=posmlp_t", f"--output={tmp_path}/x"])
    with pytest.raises(CheckpointError, match=r"gs://.*/converted is there already"):
        convert([f"--source={tmp_path}/published.npz", "--model=posmlp_t", f"--output={folder}/converted"])
    row = {"step": 1, "split": "train", "loss": 2.0, "top1": 0.5, "learning_rate": 0.1}
    (folder / "run/metrics.jsonl").write_text(json.dumps(row) + "\n")
    draw([f"{folder}/run", f"--output={folder}/curves.svg"])
    assert b"learning rate" in (folder / "curves.svg").read_bytes()
    assert capsys.readouterr().out.endswith(f"wrote {folder}/curves.svg\n")


def test_lines_in_a_bucket(bucket, tmp_path):
    """Storage cannot add to a file: it is given anew, but not with every line."""
    file = bucket / tmp_path.name / "lines.txt"
    file.write_text("before\n")
    lines = LineWriter(file)
    for line in ("a", "b"):
        lines.write(line)
    assert file.read_text() == "before\na\n"
    lines.write("c", flush=True)
    assert file.read_text() == "before\na\nb\nc\n"
    lines.write("d")
    lines.close()
    assert file.read_text() == "before\na\nb\nc\nd\n"


def test_pace(monkeypatch):
    now = 100.0
    monkeypatch.setattr("posmlp_jax.writing.time.monotonic", lambda: now)
    pace = Pace(10)
    due = []
    for now in (100.0, 109.9, 110.0, 115.0, 121.0):  # noqa: B007 (the clock reads it)
        due.append(pace.due())
    assert due == [True, False, True, False, True]
