"""Which steps a profile is of; `test_any_task.py` has one of a run."""

import jax.numpy as jnp
import pytest
from etils import epath

from posmlp_jax.errors import ConfigError
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
