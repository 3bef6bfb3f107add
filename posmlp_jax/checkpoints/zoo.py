"""The trained models that come with this package, by name, and their cards.

Each is a packed checkpoint (`checkpoints.packed`), a folder in `posmlp_jax/zoo/models`. Listing names and reading cards
takes no JAX.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from etils import epath

from posmlp_jax.errors import CheckpointError, DamagedCheckpointError, nearest

FOLDER = epath.Path(__file__).parent.parent / "zoo" / "models"
# The file that makes a folder a packed checkpoint.
CARD = "card.json"


def list_pretrained() -> list[str]:
    """The names of the trained models that come with this package, for `from_pretrained` and the commands."""
    return sorted(card.parent.name for card in FOLDER.glob(f"[!.]*/{CARD}"))


def find(name: str) -> epath.Path:
    """The folder of a model of the zoo.

    Raises:
      CheckpointError: if there is none of that name; of an architecture's it says where trained weights can be had.
      DamagedCheckpointError: if its card is missing.
    """
    names = list_pretrained()
    if name in names:
        return FOLDER / name
    if any(folder.name == name for folder in FOLDER.glob("[!.]*")):
        raise damaged(FOLDER / name, f"{CARD} is missing")
    # Not above: names and cards need no JAX.
    from posmlp_jax.models import list_models

    if name in list_models():
        raise CheckpointError(
            f"no trained weights of {name} come with this package; make a checkpoint of the authors' file, "
            f"python -m posmlp_jax.convert --source=FILE --model={name} --output=DIR, and name DIR"
        )
    raise CheckpointError(
        f"there is no file or folder '{name}', and no trained model of that name comes with this package; "
        f"{nearest(name, names)}"
    )


def name_of(folder: epath.Path) -> str | None:
    """The name of the model of the zoo that a folder is, or None."""
    # One that is being packed has a name that begins with a dot.
    return folder.name if folder.parent == FOLDER and not folder.name.startswith(".") else None


def read_card(folder: epath.Path) -> dict[str, Any]:
    """What the card of a packed checkpoint says.

    Raises:
      DamagedCheckpointError: if that is no card.
    """
    try:
        card = json.loads((folder / CARD).read_bytes())
        if card["card_sha256"] == card_checksum(card):
            return card
    except (OSError, ValueError, LookupError, TypeError):
        pass
    raise damaged(folder, f"{CARD} is not what was written")


def read_checked(folder: epath.Path, card: Mapping[str, Any], name: str) -> bytes:
    """What a file of a packed checkpoint holds.

    Raises:
      DamagedCheckpointError: if it is not there, or not what the card says was written.
    """
    try:
        content = (folder / name).read_bytes()
    except OSError as error:
        reason = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
        raise damaged(folder, f"{name} {reason}") from error
    if hashlib.sha256(content).hexdigest() != card["sha256"][name]:
        raise damaged(folder, f"{name} is not what was written")
    return content


def card_checksum(card: Mapping[str, Any]) -> str:
    """The SHA-256 of what a card says, but for this itself, however it is laid out as JSON."""
    said = {name: value for name, value in card.items() if name != "card_sha256"}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def damaged(folder: epath.Path, damage: str) -> DamagedCheckpointError:
    """What to raise where a file of a packed checkpoint is not as it was."""
    name = name_of(folder)
    what, advice = (f"{name} of the zoo", "install posmlp_jax again") if name else (folder, "copy the folder again")
    return DamagedCheckpointError(f"{what} is damaged: {damage}", advice)
