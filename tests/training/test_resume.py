"""Runs that are killed, stopped, or caught out by their disk, as real processes."""

import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from runs import ROOT, TINY, Process, assert_equal, metrics, run, saved_arrays, steps

from posmlp_jax.training import from_pretrained

# What are to be the same bits are those of the programs that users run.
pytestmark = [pytest.mark.heavy, pytest.mark.usefixtures("optimized_programs")]

STEPS = 60
RUN = [*TINY, f"--config.length={STEPS} steps", "--config.eval_every=30 steps", "--config.checkpoint_every=4 steps"]
SLOW = ROOT / "tests" / "slow_saves.py"


@pytest.fixture(scope="module")
def unbroken(optimized_programs, tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("unbroken")
    # In an interpreter of its own: the others, forks of one, have its order of sets.
    assert run(*RUN, f"--workdir={workdir}", python="new").code == 0
    return workdir


def assert_same(workdir: Path, unbroken: Path) -> None:
    """Parameters, statistics, moving average, optimizer state and metrics are the same to the last bit."""
    assert_equal(saved_arrays(workdir, STEPS), saved_arrays(unbroken, STEPS))
    assert metrics(workdir) == metrics(unbroken)


def test_a_killed_run_goes_on_to_the_same_bits(unbroken, tmp_path):
    killed = Process(*RUN, f"--workdir={tmp_path}")
    killed.wait_for("step 18/60")
    killed.send(signal.SIGKILL)
    assert killed.end() == -signal.SIGKILL
    assert 8 <= steps(tmp_path)[-1] < STEPS
    resumed = run(*RUN, f"--workdir={tmp_path}", "--config.data.threads=3")
    assert resumed.code == 0, resumed.errors
    assert "going on from step " in resumed.output
    assert_same(tmp_path, unbroken)


def test_a_run_that_is_stopped_twice_goes_on_to_the_same_bits(unbroken, tmp_path):
    first = Process(*RUN, f"--workdir={tmp_path}", "--config.data.threads=2")
    first.wait_for("step 13/60")
    first.send(signal.SIGTERM)
    assert first.end() == 143
    stopped = steps(tmp_path)[-1]
    assert 13 <= stopped < STEPS
    assert first.error_lines == [f"stopped by SIGTERM after step {stopped}; the same command goes on from there"]
    assert metrics(tmp_path)[-1]["step"] == stopped
    # Other processes load the same stream.
    second = Process(*RUN, f"--workdir={tmp_path}", "--config.data.processes=2")
    second.wait_for(f"step {stopped + 3}/60")
    second.send(signal.SIGINT)
    assert second.end() == 130
    assert f"going on from step {stopped} " in second.output
    assert "stopped by SIGINT after step " in second.errors
    assert run(*RUN, f"--workdir={tmp_path}").code == 0
    assert_same(tmp_path, unbroken)


def test_a_second_signal_ends_at_once(tmp_path):
    process = Process(
        *RUN, f"--workdir={tmp_path}", "--config.checkpoint_every=1000 steps", program=SLOW, SLOW_SAVES="99"
    )
    process.wait_for("step 5/60")
    process.send(signal.SIGINT)
    process.wait_until(lambda: (tmp_path / "checkpoints").is_dir() and list((tmp_path / "checkpoints").iterdir()))
    process.send(signal.SIGINT)
    assert process.end(seconds=5) == -signal.SIGINT
    assert steps(tmp_path) == []


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_a_save_that_is_killed_is_never_loaded(unbroken, tmp_path, kills):
    moments = random.Random(kills)
    checkpoints = tmp_path / "checkpoints"
    for _ in range(kills):
        process = Process(*RUN, f"--workdir={tmp_path}", program=SLOW, SLOW_SAVES="0.2")
        process.wait_for("step ")  # What an earlier kill has left is cleaned up by then.
        process.wait_until(lambda: not all(path.name.isdecimal() for path in checkpoints.iterdir()))
        time.sleep(moments.uniform(0, 0.6))
        process.send(signal.SIGKILL)
        assert process.end() == -signal.SIGKILL
        for step in steps(tmp_path):  # What has a name is complete.
            from_pretrained(tmp_path, step=step)
            saved_arrays(tmp_path, step)
    # Of a step that is not saved again.
    (checkpoints / "3.orbax-checkpoint-tmp" / "weights").mkdir(parents=True)
    assert run(*RUN, f"--workdir={tmp_path}").code == 0
    assert all(path.name.isdecimal() for path in checkpoints.iterdir())
    assert_same(tmp_path, unbroken)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own, which can be filled."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root can mount")
    yield disk
    subprocess.run(["umount", disk], check=True)


def fill(disk: Path) -> Path:
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return filler


def test_a_full_disk_is_one_clear_line_and_the_checkpoint_before_is_intact(unbroken, small_disk):
    workdir = small_disk / "run"
    process = Process(*RUN, f"--workdir={workdir}", program=SLOW, SLOW_SAVES="0.1")
    process.wait_until(lambda: (workdir / "checkpoints").is_dir() and steps(workdir))
    filler = fill(small_disk)
    assert process.end(seconds=60) == 2, process.errors
    assert len(process.error_lines) == 1, process.errors
    assert f"cannot write to the working directory {workdir}: No space left on device" in process.errors
    last = steps(workdir)[-1]
    saved_arrays(workdir, last)
    filler.unlink()
    resumed = run(*RUN, f"--workdir={workdir}")
    assert resumed.code == 0, resumed.errors
    assert f"going on from step {last} " in resumed.output
    assert_same(workdir, unbroken)
