"""Two processes with two CPU devices each, as two hosts: against one process with four."""

import json
import signal
import socket
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from runs import TINY, Process, losses, metrics, on_devices, run, steps
from tiny_scenes import write_scenes

from posmlp_jax.data.prepare.datasets.micro_motions import write_casme2
from posmlp_jax.data.prepare.prepare import prepare
from posmlp_jax.devices.hosts import AgreedMaximum, connect, from_host_0, multihost_utils, together
from posmlp_jax.devices.mesh import create_mesh
from posmlp_jax.errors import ConfigError, PosMLPError
from posmlp_jax.tasks.micro_expressions.predictions import read_table

pytestmark = pytest.mark.heavy

STEPS = 24
RUN = [
    *TINY,
    "--config.devices=0",
    "--config.fsdp=2",
    f"--config.length={STEPS} steps",
    "--config.eval_every=12 steps",
    "--config.checkpoint_every=6 steps",
    "--config.optimizer.peak_rate=1e-4",
    # What is dropped and mixed goes by the place in the batch, which the number of hosts does not change.
    "--config.model.drop_path=0.1",
    "--config.mixing.mixup=0.5",
    "--config.mixing.cutmix=1.0",
]


def start(*arguments: str, each: tuple[list[str], list[str]] = ([], [])) -> list[Process]:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    return [
        Process(
            *arguments,
            *each[index],
            f"--coordinator_address=localhost:{port}",
            "--num_processes=2",
            f"--process_id={index}",
            python=("ours", "another")[index],
            XLA_FLAGS=on_devices(2),
        )
        for index in (0, 1)
    ]


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("alone")
    result = run(*RUN, f"--workdir={workdir}", XLA_FLAGS=on_devices(4))
    assert result.code == 0, result.errors
    return workdir


# `scenes_config` as a file, in a folder with the data.
DETECTOR = """
import pathlib, sys
sys.path.insert(0, {tests!r})
from tiny_scenes import scenes_config

def get_config():
    return scenes_config(pathlib.Path(__file__).parent, "mask_rcnn_posmlp_t", devices=0, eval_batch_size=4)
"""


def assert_same_losses(workdir: Path, alone: Path) -> None:
    assert [line["step"] for line in metrics(workdir)] == [line["step"] for line in metrics(alone)]
    for split in ("train", "eval"):
        np.testing.assert_allclose(losses(workdir, split), losses(alone, split), rtol=1e-5)


def test_two_hosts_stop_together_and_end_where_one_does(alone, tmp_path):
    first, second = start(*RUN, f"--workdir={tmp_path}")
    first.wait_for("step 5/24")
    second.send(signal.SIGTERM)  # One host alone is told.
    assert [first.end(), second.end()] == [143, 143]
    stopped = steps(tmp_path)[-1]
    assert 5 <= stopped < STEPS
    message = f"stopped by SIGTERM after step {stopped}; the same command goes on from there"
    assert message in first.error_lines
    assert message in second.error_lines
    assert "step 5/24" not in second.output
    first, second = start(*RUN, f"--workdir={tmp_path}")
    assert [first.end(), second.end()] == [0, 0], first.errors + second.errors
    assert f"going on from step {stopped} " in first.output
    assert "on 4 cpu" in first.output
    assert_same_losses(tmp_path, alone)
    # Each host evaluates its share of the images, and the results by class are about all of them.
    assert "class by class" in first.output
    assert "class by class" not in second.output
    for file in ("classes.csv", "confusion.csv"):
        (ours,), (theirs,) = (list(workdir.glob(f"evaluation/*/{file}")) for workdir in (tmp_path, alone))
        assert ours.parent.name == theirs.parent.name
        assert ours.read_text() == theirs.read_text()


def test_a_mistake_on_one_host_ends_both(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")  # Only the first host looks.
    processes = start(*RUN, f"--workdir={tmp_path}/run")
    assert [process.end(seconds=60) for process in processes] == [2, 2]
    for process in processes:
        assert "holds a different experiment" in process.errors


@pytest.mark.slow
@pytest.mark.parametrize("dying", [0, 1])
def test_when_one_host_dies_the_other_ends_within_a_minute_and_both_go_on(alone, tmp_path, dying):
    processes = start(*RUN, f"--workdir={tmp_path}")
    processes[0].wait_for("step 10/24")
    processes[dying].send(signal.SIGKILL)
    died = time.monotonic()
    assert processes[1 - dying].end(seconds=60) not in (0, 2, 3)
    assert time.monotonic() - died < 60
    assert processes[dying].end() == -signal.SIGKILL
    processes = start(*RUN, f"--workdir={tmp_path}")
    assert [process.end() for process in processes] == [0, 0], processes[0].errors
    assert "going on from step " in processes[0].output
    assert_same_losses(tmp_path, alone)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("localhost:1234", None, None), "need all of"),
        ((None, 2, 0), "need all of"),
        (("localhost:1234", 2, 2), "process_id is 2, and should be from 0 to 1"),
        (("localhost", 2, 0), "coordinator_address is 'localhost', and should be host:port"),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(ConfigError, match=message):
        connect(*arguments)


def test_alone_nothing_has_to_be_agreed():
    connect(None, None, None)
    assert jax.process_count() == 1
    assert together(lambda: 7) == 7
    assert from_host_0(lambda: [1, None]) == [1, None]
    assert AgreedMaximum(create_mesh())(15) == 15


def test_a_bug_on_the_first_host_ends_the_others(monkeypatch):
    """As of a library that scores what all hosts have found: nobody waits for its answer."""
    sent = []
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(multihost_utils, "broadcast_one_to_all", lambda x: sent.append(x) or x)
    with pytest.raises(ZeroDivisionError):
        from_host_0(lambda: 1 // 0)
    received = iter(sent)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    monkeypatch.setattr(multihost_utils, "broadcast_one_to_all", lambda x: next(received))
    with pytest.raises(PosMLPError, match=r"^host 0: ZeroDivisionError: .* by zero$"):
        from_host_0(lambda: 1)


@pytest.mark.slow
def test_two_hosts_find_the_objects_that_one_does(tmp_path):
    """In images of two canvases, of which each host has its share."""
    write_scenes(tmp_path)
    (tmp_path / "detector.py").write_text(DETECTOR.format(tests=str(Path(__file__).parent.parent)))
    arguments, found = [f"--config={tmp_path}/detector.py"], []
    result = run(*arguments, f"--workdir={tmp_path}/one", XLA_FLAGS=on_devices(4))
    assert result.code == 0, result.errors
    first, second = start(*arguments, f"--workdir={tmp_path}/two")
    assert [first.end(), second.end()] == [0, 0], first.errors + second.errors
    assert_same_losses(tmp_path / "two", tmp_path / "one")
    for hosts in ("one", "two"):
        for file in ("detections", "masks"):
            (path,) = tmp_path.glob(f"{hosts}/evaluation/*/{file}.json")
            found.append(json.loads(path.read_text()))
    assert len(found[0]) > 10
    for ours, theirs in zip(found[:2], found[2:], strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert (one["image_id"], one["category_id"]) == (other["image_id"], other["category_id"])
            np.testing.assert_allclose(one["score"], other["score"], rtol=1e-4)
            np.testing.assert_allclose(one.get("bbox", 0), other.get("bbox", 0), atol=1e-2)


@pytest.mark.slow
def test_two_hosts_leave_out_one_person_after_the_other_as_one_does(tmp_path):
    write_casme2(tmp_path / "faces", subjects=2, clips=1)
    prepare("casme2", str(tmp_path / "faces"), str(tmp_path))
    arguments = [
        "--config=configs/micro_expressions/micro_motions.py",
        "--mode=leave_one_out",
        "--config.data.name=casme2",
        f"--config.data.data_dir={tmp_path}",
        "--config.init_from=",
        "--config.batch_size=4",
        "--config.eval_batch_size=4",
        "--config.length=2 steps",
        "--config.optimizer.warmup=1 steps",
        "--config.optimizer.eps=1e-3",
        "--config.eval_every=2 steps",
        "--config.checkpoint_every=1 steps",
    ]
    assert (result := run(*arguments, f"--workdir={tmp_path}/one", XLA_FLAGS=on_devices(4))).code == 0, result.errors
    for _ in range(2):  # The second time there is nothing left to train.
        first, second = start(*arguments, f"--workdir={tmp_path}/two")
        assert [first.end(), second.end()] == [0, 0], first.errors + second.errors
    assert "UF1" in first.output
    assert "UF1" not in second.output
    texts = [(tmp_path / hosts / "leave_one_out" / "predictions.csv").read_text() for hosts in ("one", "two")]
    ours, theirs = (read_table(text, "") for text in texts)
    assert ours.clips == theirs.clips
    np.testing.assert_allclose(theirs.scores, ours.scores, atol=1e-5)


def test_a_checkpoint_that_one_host_lacks_ends_both(alone, tmp_path):
    each = [f"--config.init_from={alone}"], [f"--config.init_from={tmp_path / 'elsewhere'}"]
    processes = start(*RUN, f"--workdir={tmp_path / 'run'}", each=each)
    assert [process.end() for process in processes] == [2, 2]
    for process in processes:
        assert "there is no checkpoint in" in process.error_lines[-1]
    assert not (tmp_path / "run").exists()


def test_two_hosts_start_from_a_checkpoint_as_one_does(alone, tmp_path):
    tuning = [*RUN, f"--config.init_from={alone}", "--config.length=4 steps", "--config.optimizer.layer_decay=0.5"]
    result = run(*tuning, f"--workdir={tmp_path / 'one'}", XLA_FLAGS=on_devices(4))
    assert result.code == 0, result.errors
    first, second = start(*tuning, f"--workdir={tmp_path / 'two'}")
    assert [first.end(), second.end()] == [0, 0], first.errors + second.errors
    assert f" in {alone} (the run's evaluation found " in first.output
    assert_same_losses(tmp_path / "two", tmp_path / "one")
