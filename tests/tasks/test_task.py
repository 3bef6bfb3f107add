"""What every task has: whether a checkpoint's outputs are those of the data."""

from types import SimpleNamespace

import pytest

from posmlp_jax.data.sources.synthetic import SyntheticSource
from posmlp_jax.errors import CheckpointError
from posmlp_jax.tasks.classification.task import Classification
from posmlp_jax.tasks.task import Task

SOURCE = SyntheticSource(4, 2)


def check(task: type[Task], saved: tuple[str, ...] | None, now: tuple[str, ...] | None) -> None:
    """Compares names, which need no more of a task than that it has some."""
    named = SimpleNamespace(names=lambda source: now, output=task.output, outputs=task.outputs)
    task.check_names(named, saved, SOURCE)


@pytest.mark.parametrize(
    ("task", "now", "what", "which"),
    [
        (Classification, ("cat", "fish"), "classes", "class 1 is 'dog' there and 'fish' here"),
        (Classification, ("cat", "dog", "fish"), "classes", "2 classes there and 3 here"),
        (Task, ("fish", "dog"), "outputs", "output 0 is 'cat' there and 'fish' here"),
    ],
)
def test_other_names_than_the_checkpoints_are_named(task, now, what, which):
    with pytest.raises(CheckpointError) as error:
        check(task, ("cat", "dog"), now)
    assert str(error.value) == f"the checkpoint was trained on other {what} than {SOURCE.description} has: {which}"


@pytest.mark.parametrize(("saved", "now"), [(("cat",), ("cat",)), (None, ("cat",)), (("cat",), None)])
def test_the_same_names_or_none_are_not(saved, now):
    check(Classification, saved, now)
