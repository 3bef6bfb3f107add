"""The tasks by the name that a config's `task` has."""

from posmlp_jax.errors import ConfigError, nearest
from posmlp_jax.tasks.action_detection.task import ActionDetection
from posmlp_jax.tasks.classification.task import Classification
from posmlp_jax.tasks.detection.task import Detection
from posmlp_jax.tasks.micro_expressions.task import MicroExpressions
from posmlp_jax.tasks.task import Task

TASKS: dict[str, type[Task]] = {
    "classification": Classification,
    "detection": Detection,
    "micro_expressions": MicroExpressions,
    "action_detection": ActionDetection,
}


def find_task(name: str) -> type[Task]:
    """The task of a name.

    Raises:
      ConfigError: if there is none of that name; the message has the nearest.
    """
    # A config's JSON may hold anything.
    if str(name) not in TASKS:
        raise ConfigError(f"unknown task '{name}'; {nearest(str(name), TASKS)}")
    return TASKS[name]
