"""Runs of `main.py` that several benchmarks make."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from posmlp_jax.errors import ConfigError


def train_to_end(config: str, workdir: Path, overrides: Sequence[str]) -> dict[str, float]:
    """The last top-1, in %, of the weights ('eval') and of their moving average ('ema').

    A run that is finished in its working directory is not repeated, one that was stopped goes on.

    Raises:
      ConfigError: for a run that fails, which has said why.
    """
    command = [sys.executable, "main.py", f"--config={config}", f"--workdir={workdir}", *overrides]
    code = subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode
    if code:
        raise ConfigError(f"the run in {workdir} ended with exit code {code}; its command was {' '.join(command)}")
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return {split: 100 * [line["top1"] for line in lines if line["split"] == split][-1] for split in ("eval", "ema")}
