"""What `benchmarks.ablations` trains: the rows of the paper's tables, as small networks on CIFAR-10."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ml_collections import ConfigDict

from configs import cifar10, cifar10_recipe
from posmlp_jax.analysis.paper_tables import ROWS, Row
from posmlp_jax.training import default_config

# The first two stages of PosMLP-T, and a gMLP of the same 8×8 tokens, a third as wide and shallower.
_MODELS = {
    "posmlp_t": {"widths": (32, 64), "depths": (1, 2), "expansions": (4, 4), "windows": (8, 4), "groups": (8, 16)},
    "gmlp_s": {"patch": 4, "width": 32, "depth": 3},
}
_STEPS = 1600
# Of each class, where a variant does not say another: of all images so few steps see each but twice, and relations
# differ by less than the noise (docs/ablations.md).
_SHARE = 0.1
_SHARES = (0.05, 0.1, 0.25, 0.5, 1.0)


@dataclass(frozen=True)
class Variant:
    """A row that is trained.

    Attributes:
      label: what its table calls it.
      base: what it is a change of, a model or 'recipe'.
      changes: the fields of the config that are changed.
      printed: the paper's top-1 in %, as printed, or None.
      reference: the label of the row of its table that it compares with, its own for that one.
      below: the label of a row that the paper puts above it without a number.
    """

    label: str
    base: str
    reference: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    printed: str | None = None
    below: str | None = None

    @property
    def run(self) -> str:
        """The name of its folder: the same for rows that are the same experiment."""
        changes = (f"{name.rpartition('.')[2]}={value}" for name, value in sorted(self.changes.items()))
        return "-".join([self.base, *(change.replace(" ", "") for change in changes)])

    @property
    def share(self) -> float:
        """Of the images of each class, that it is trained on."""
        return self.changes.get("data.train_fraction", 1.0 if self.base == "recipe" else _SHARE)

    @property
    def alike(self) -> tuple[str, float]:
        """Whose seeds' noise is taken to be the same: what is trained by one recipe on as many images."""
        return "recipe" if self.base == "recipe" else "", self.share

    def config(self, seed: int, data_dir: str = "") -> ConfigDict:
        """The config of its run with a seed."""
        config = cifar10_recipe.get_config() if self.base == "recipe" else _small(self.base)
        config.update_from_flattened_dict(dict(self.changes))
        config.seed, config.data.data_dir = seed, data_dir
        config.log_every = config.eval_every = config.checkpoint_every = config.length
        return config


def _small(model: str) -> ConfigDict:
    config = cifar10.get_config()
    config.model = default_config(model).model
    config.model.update(image_size=32, dropout=0.0, drop_path=0.0, **_MODELS[model])
    # So short a run sees too little of each image to need them.
    config.data.randaugment = ""
    config.mixing.update(cutmix=0.0, probability=1.0)
    config.data.train_fraction = _SHARE
    config.length = f"{_STEPS} steps"
    config.batch_size = 64
    config.optimizer.update(peak_rate=4e-3, warmup=f"{_STEPS // 10} steps")
    # In a run that ends at a rate of 0, the moving average is no better than the weights.
    config.ema_decay = 0.0
    return config


def _changes(row: Row) -> dict[str, Any]:
    """The fields of a row, of as many stages as there are."""
    stages = len(_MODELS["posmlp_t"]["widths"])
    return {
        f"model.{name}": value[:stages] if isinstance(value, tuple) else value for name, value in row.overrides.items()
    }


def _of_paper(table: str) -> list[Variant]:
    """The rows of a table of the paper. They compare with its starred one, or its first; in Table 1 of their model."""
    rows = [row for row in ROWS if row.table == table]
    starred = [row for row in rows if row.label.endswith("*")]

    def compared(row: Row) -> list[Row]:
        return starred or [other for other in rows if table != "table 1" or other.model == row.model]

    return [
        Variant(
            label=row.label,
            base=row.model,
            reference=compared(row)[0].label,
            changes=_changes(row),
            printed=row.top1,
            below=row.below and row.below.removeprefix(table).strip(),
        )
        for row in rows
    ]


def _shares_of_images() -> list[Variant]:
    """Figure 1 (f), at equal width. Of its numbers the text has those of one half, which are Table 1's of gMLP."""
    rows = {
        name: next(row for row in ROWS if row.name == f"table 1: gMLP {name}") for name in ("SGU", "GLRPE", "GGQPE")
    }
    return [
        Variant(
            label=f"{100 * share:g} %, {name}",
            base=row.model,
            reference=f"{100 * share:g} %, SGU",
            changes=_changes(row) | ({} if share == _SHARE else {"data.train_fraction": share}),
            printed=row.top1 if share == 0.5 else None,
        )
        for share in _SHARES
        for name, row in rows.items()
    ]


def _parts_of_the_recipe() -> list[Variant]:
    """configs/cifar10_recipe.py, and one part of it off at a time."""
    off = {
        "no mixup, no CutMix": {"mixing.probability": 0.0},
        "no RandAugment": {"data.randaugment": ""},
        "no random erasing": {"data.erasing_probability": 0.0},
        "no drop path": {"model.drop_path": 0.0},
    }
    everything = {field: value for part in off.values() for field, value in part.items()}
    off = {"everything on": {}, **off, "crops and flips alone": everything | {"model.dropout": 0.0}}
    return [Variant(name, "recipe", "everything on", changes) for name, changes in off.items()]


TABLES = {
    **{
        name.replace(" ", ""): _of_paper(name)
        for name in ("table 1", "table 3", "table 4", "table 6", "table 7", "table 10", "figure 3")
    },
    "figure1f": _shares_of_images(),
    "recipe": _parts_of_the_recipe(),
}
# What is only trained where it is asked for.
OPTIONAL = ("recipe",)
