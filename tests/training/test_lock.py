"""One run at a time in a working directory, for processes that end and such that are killed."""

import json
import os
import socket
import subprocess
import sys
import time

import pytest

from posmlp_jax.errors import CheckpointError, DataError
from posmlp_jax.training import lock, train
from posmlp_jax.training.lock import WorkdirLock

pytestmark = pytest.mark.heavy

HOST = socket.gethostname()
HOLD = """
import fcntl, json, os, sys, time
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
json.dump({"pid": os.getpid(), "host": "there", "since": "then"}, file)
file.flush()
print("held", flush=True)
time.sleep(100)
"""


def test_a_second_run_is_refused_before_it_writes_anything(tiny_config, tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "lock"], stdout=subprocess.PIPE)
    try:
        holder.stdout.readline()
        before = (tmp_path / "lock").read_text()
        start = time.perf_counter()
        with pytest.raises(CheckpointError) as refused:
            train(tiny_config(), tmp_path)
        # Before data or model.
        assert time.perf_counter() - start < 2
        assert str(refused.value) == (
            f"{tmp_path} is in use by process {holder.pid} on there since then; wait until that has ended, or choose "
            "another --workdir"
        )
        assert [path.name for path in tmp_path.iterdir()] == ["lock"]
        assert (tmp_path / "lock").read_text() == before
    finally:
        holder.kill()
        holder.wait()
    # What it has left is taken over.
    held = WorkdirLock(tmp_path)
    held.acquire()
    owner = json.loads((tmp_path / "lock").read_text())
    assert (owner["pid"], owner["host"]) == (os.getpid(), HOST)
    with pytest.raises(CheckpointError, match=f"process {os.getpid()} on {HOST} since 20"):
        WorkdirLock(tmp_path).acquire()
    held.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("written", [False, True])
def test_a_folder_that_was_made_goes_with_the_lock_unless_something_is_in_it(tmp_path, written):
    run = tmp_path / "runs" / "mine"
    held = WorkdirLock(run)
    held.acquire()
    assert (run / "lock").exists()
    with pytest.raises(CheckpointError, match="is in use by"):
        WorkdirLock(run).acquire()
    if written:
        (run / "config.json").touch()
    held.close()
    assert (run.exists(), (tmp_path / "runs").exists()) == (written, written)
    assert not (run / "lock").exists()


def test_a_folder_is_taken_before_data_are_looked_at(tiny_config, tmp_path):
    held = WorkdirLock(tmp_path / "run")
    held.acquire()
    config = tiny_config()
    config.data.update(name="image_folder", data_dir=str(tmp_path / "nothing"))
    with pytest.raises(CheckpointError, match="is in use by"):
        train(config, tmp_path / "run")
    held.close()
    with pytest.raises(DataError, match="no folder"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.fixture
def no_system_locks(monkeypatch):
    def refuse(*arguments):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(lock.fcntl, "flock", refuse)


def beating(folder) -> WorkdirLock:
    return WorkdirLock(folder, beat=0.1, dead=0.5)


def test_without_system_locks_a_run_that_writes_is_alive(tmp_path, no_system_locks, monkeypatch):
    held = beating(tmp_path)
    held.acquire()
    monkeypatch.setattr(lock, "report", lambda line: None)
    with pytest.raises(CheckpointError, match=f"is in use by process {os.getpid()} on {HOST} since"):
        beating(tmp_path).acquire()
    held.close()
    assert not list(tmp_path.iterdir())
    beating(tmp_path).acquire()


def test_storage_that_is_away_for_a_moment_loses_no_lock(tmp_path, no_system_locks, monkeypatch):
    """Nor does who has lost it all the same take it away from the next."""
    held = beating(tmp_path)
    held.acquire()
    away = []

    def write(self, beat):
        away.append(beat)
        raise RuntimeError("503, as gcsfs puts it")

    with monkeypatch.context() as context:
        context.setattr(WorkdirLock, "_write", write)
        while len(away) < 2:
            time.sleep(0.02)
        before = (tmp_path / "lock").read_text()
    end = time.monotonic() + 10
    while (tmp_path / "lock").read_text() == before:
        assert time.monotonic() < end
        time.sleep(0.02)
    silent = []
    monkeypatch.setattr(WorkdirLock, "_write", lambda self, beat: silent.append(beat))
    while not silent:  # By then no earlier beat is still being written.
        time.sleep(0.02)
    (tmp_path / "lock").write_text('{"pid": 1, "id": "another"}')
    held.close()
    assert (tmp_path / "lock").read_text() == '{"pid": 1, "id": "another"}'


@pytest.mark.parametrize("owner", ["", '{"pid": 1, "host": "elsewhere", "since": "then"}', '{"pid": "x'])
def test_without_system_locks_a_run_that_has_stopped_writing_is_dead(tmp_path, no_system_locks, monkeypatch, owner):
    lines = []
    monkeypatch.setattr(lock, "report", lines.append)
    (tmp_path / "lock").write_text(owner)
    held = beating(tmp_path)
    held.acquire()
    assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()
    holder = "process 1 on elsewhere since then" if "elsewhere" in owner else "another run"
    assert lines == [f"{tmp_path}/lock is held by {holder}: looking for a sign of life for 0 s"]
    held.close()


def test_without_system_locks_a_process_of_this_machine_that_is_gone_is_not_waited_for(tmp_path, no_system_locks):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (tmp_path / "lock").write_text(json.dumps({"pid": gone.pid, "host": HOST, "since": "then"}))
    held = WorkdirLock(tmp_path, beat=0.1, dead=1000)
    held.acquire()
    held.close()
