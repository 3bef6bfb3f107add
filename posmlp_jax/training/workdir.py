"""The working directory: one experiment's `config.json`, `checkpoints/`, `metrics.jsonl` and `tensorboard/`."""

import json
from pathlib import Path

from ml_collections import ConfigDict

from posmlp_jax.errors import CheckpointError
from posmlp_jax.training.config import differences, plain, without_newer_fields
from posmlp_jax.training.disk import writing_to


def read_config(workdir: Path) -> dict | None:
    """What `config.json` says, or None where there is none.

    Raises:
      CheckpointError: if it is no JSON object.
    """
    path = workdir / "config.json"
    if not path.exists():
        return None
    try:
        saved = json.loads(path.read_text())
        if isinstance(saved, dict):
            return saved
    except ValueError:
        pass
    raise CheckpointError(f"{path} is damaged: it should be a JSON object, the run's config; choose another --workdir")


def claim_workdir(workdir: Path, config: ConfigDict) -> None:
    """Makes the working directory this experiment's: writes `config.json`, or checks the one that is there; on host 0.

    Raises:
      CheckpointError: if another experiment lives there (names what differs), or it cannot be written.
    """
    path = workdir / "config.json"
    current, saved = plain(config), read_config(workdir)
    if saved is not None:
        changed = list(differences(saved, current))
        if changed:
            more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
            raise CheckpointError(
                f"{workdir} holds a different experiment ({'; '.join(changed[:3])}{more}); choose another --workdir"
            )
        current = without_newer_fields(current, saved)
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
