"""A profile of some steps, for TensorBoard's profiler, XProf or Perfetto."""

import contextlib
import re
import tempfile
from pathlib import Path
from typing import Any

import jax
from etils import epath

from posmlp_jax.devices.hosts import from_host_0
from posmlp_jax.errors import ConfigError
from posmlp_jax.paths import in_bucket
from posmlp_jax.terminal import report
from posmlp_jax.writing import upload, writing_to


def profiled_steps(profile: str) -> range:
    """The steps that a config's `profile` names, as '100:105': from the 100th, counted from 1, to the 104th.

    Raises:
      ConfigError: for another text.
    """
    if not profile:
        return range(0)
    match = re.fullmatch(r"(\d+):(\d+)", str(profile))
    if not match or not 0 < int(match[1]) < int(match[2]):
        raise ConfigError(f"profile is '{profile}', and should be '' (off) or steps like 100:105, the end left out")
    return range(int(match[1]), int(match[2]))


class Profiler:
    """Records the steps that a config's `profile` names, on the first host; to be closed.

    Args:
      workdir: the working directory; the profile goes to its `profile/`.
      profile: the config's.

    Raises:
      CheckpointError: if there cannot be such a folder; from the methods, if the profile cannot be written.
    """

    def __init__(self, workdir: epath.Path, profile: str):
        self._folder, self._steps = workdir / "profile", profiled_steps(profile)
        self._under_way = contextlib.ExitStack()
        self._running = False
        self._first = self._last = 0
        if self._steps:
            # Now: what refuses the profile would otherwise end the run once it has taken steps.
            from_host_0(self._make_folder)

    def _make_folder(self) -> None:
        if not in_bucket(self._folder):
            with writing_to(self._folder):
                self._folder.mkdir(parents=True, exist_ok=True)

    def before(self, step: int, state: Any) -> None:
        """Begins or ends recording before a step, counted from 1, once what `state` is computed from is computed."""
        if self._running != (step in self._steps):
            jax.block_until_ready(state)
        if self._running and step not in self._steps:
            self.close()
        elif not self._running and step in self._steps:
            self._running, self._first = True, step
            self._start()
        if self._running:
            self._last = step

    def _start(self) -> None:
        if jax.process_index() == 0:
            local = in_bucket(self._folder)
            folder = self._under_way.enter_context(tempfile.TemporaryDirectory()) if local else str(self._folder)
            jax.profiler.start_trace(folder, create_perfetto_trace=True)
            self._under_way.callback(self._write, Path(folder))

    def _write(self, folder: Path) -> None:
        with writing_to(self._folder):
            jax.profiler.stop_trace()
            if in_bucket(self._folder):
                for file in folder.rglob("*"):
                    if file.is_file():
                        upload(file, self._folder / file.relative_to(folder))
        report(f"wrote the profile of steps {self._first} to {self._last} to {self._folder}")

    def close(self) -> None:
        """Ends recording, if it is under way."""
        self._running = False
        self._under_way.close()
