"""What models are trained for, by the name that a config's `task` has."""

from posmlp_jax.lazy import lazily

__all__ = ["TASKS", "Task", "find_task"]

__getattr__ = lazily(__name__, {"TASKS": "registry", "find_task": "registry", "Task": "task"})
