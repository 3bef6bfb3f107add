"""The working directory: one experiment's `config.json`, `checkpoints/`, `metrics.jsonl` and `tensorboard/`."""

import json
from pathlib import Path

import jax
from ml_collections import ConfigDict

from posmlp_jax.errors import CheckpointError
from posmlp_jax.training.config import differences, plain
from posmlp_jax.training.disk import writing_to


def claim_workdir(workdir: Path, config: ConfigDict) -> None:
    """Makes the working directory this experiment's: writes `config.json`, or checks the one that is there.

    Only the first host does anything.

    Raises:
      CheckpointError: if another experiment lives there (names what differs), or it cannot be written.
    """
    if jax.process_index():
        return
    path = workdir / "config.json"
    current = plain(config)
    if path.exists():
        changed = list(differences(json.loads(path.read_text()), current))
        if changed:
            more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
            raise CheckpointError(
                f"{workdir} holds a different experiment ({'; '.join(changed[:3])}{more}); choose another --workdir"
            )
    elif any((workdir / "checkpoints").glob("*")):
        raise CheckpointError(
            f"{workdir} holds a checkpoint without its run's config.json, so no run can go on there; start another "
            f"from it with --config.init_from={workdir} and another --workdir"
        )
    with writing_to(workdir):
        workdir.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".json.partial")
        partial.write_text(json.dumps(current, indent=2) + "\n")
        partial.replace(path)
