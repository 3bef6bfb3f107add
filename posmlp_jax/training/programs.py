"""Compiled programs, each once: what several runs of one process compute alike, as the folds of an experiment do."""

import hashlib
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh


class Programs:
    """Compiled programs, by all that makes them what they are.

    That is the text that XLA compiles, which has every number, shape and sharding in it, the trees that go in and come
    out, and the devices. So a run that asks for a program gets its own, whoever had it compiled: what it takes for the
    same is never a matter of what a config says.
    """

    def __init__(self):
        self._programs: dict[tuple, jax.stages.Compiled] = {}

    def __len__(self) -> int:
        """How many there are."""
        return len(self._programs)

    def compile(self, lowered: jax.stages.Lowered, mesh: Mesh) -> jax.stages.Compiled:
        """What is lowered as a program, compiled unless the same one has been.

        Args:
          lowered: by `jax.jit(…).lower(…)`.
          mesh: the devices that it is for.
        """
        text = hashlib.sha256(lowered.as_text().encode()).digest()
        devices = tuple(device.id for device in mesh.devices.flat)
        key = text, lowered.in_tree, lowered.out_tree, devices
        if key not in self._programs:
            self._programs[key] = lowered.compile()
        return self._programs[key]

    def shared(self, function: jax.stages.Wrapped, mesh: Mesh) -> Callable[..., Any]:
        """`function` of arrays that lie on a mesh; it compiles, for each shape of them, what no other has compiled."""
        own: dict[tuple, jax.stages.Compiled] = {}

        def call(*arrays: Any) -> Any:
            leaves, tree = jax.tree.flatten(arrays)
            key = tree, tuple((leaf.shape, leaf.dtype, leaf.sharding) for leaf in leaves)
            if key not in own:
                own[key] = self.compile(function.lower(*arrays), mesh)
            return own[key](*arrays)

        return call
