"""Which steps a profile is of; `test_any_task.py` has one of a run."""

import errno
import os

import jax
import jax.numpy as jnp
import pytest
from etils import epath

from posmlp_jax.errors import CheckpointError, ConfigError
from posmlp_jax.training.records.profile import Profiler, profiled_steps

pytestmark = pytest.mark.heavy


@pytest.mark.parametrize(
    ("taken", "said"), [(range(1, 7), "steps 2 to 4"), (range(3, 7), "steps 3 to 4"), (range(1, 4), "steps 2 to 3")]
)
def test_it_says_which_steps_it_has(tmp_path, capsys, taken, said):
    """Of a run that goes on among them, or ends there, only some."""
    profiler = Profiler(epath.Path(tmp_path), "2:5")
    for step in taken:
        profiler.before(step, jnp.zeros(1))
    profiler.close()
    assert capsys.readouterr().out == f"wrote the profile of {said} to {tmp_path / 'profile'}\n"


@pytest.mark.parametrize("text", ["5", "0:3", "5:5", "a:b", "3:"])
def test_what_names_no_steps_is_a_mistake(text):
    with pytest.raises(ConfigError, match=f"profile is '{text}', and should be"):
        profiled_steps(text)


def test_a_folder_that_cannot_be_is_found_before_any_step(tmp_path):
    (tmp_path / "profile").touch()
    with pytest.raises(CheckpointError, match="profile: File exists"):
        Profiler(epath.Path(tmp_path), "2:3")


def test_a_disk_that_is_full_is_no_bug_of_ours(tmp_path, monkeypatch, capsys):
    def stop_trace():
        raise jax.errors.JaxRuntimeError(f"INTERNAL: {os.strerror(errno.ENOSPC)}")

    monkeypatch.setattr(jax.profiler, "start_trace", lambda folder, create_perfetto_trace: None)
    monkeypatch.setattr(jax.profiler, "stop_trace", stop_trace)
    profiler = Profiler(epath.Path(tmp_path), "1:2")
    profiler.before(1, jnp.zeros(1))
    with pytest.raises(CheckpointError, match="No space left on device"):
        profiler.before(2, jnp.zeros(1))
    assert not capsys.readouterr().out
