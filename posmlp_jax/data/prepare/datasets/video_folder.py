"""Anyone's own videos: one folder per class, as for images."""

from collections.abc import Sequence
from pathlib import Path

from posmlp_jax.data.prepare.builder import Builder, Recipe
from posmlp_jax.data.prepare.videos import Clip, clips_recipe
from posmlp_jax.data.sources.class_folders import (
    VIDEOS,
    enough_to_hold_out,
    find_eval_folder,
    find_train_folder,
    hold_out,
    list_classes,
    list_known_classes,
    warn_of_links,
)
from posmlp_jax.errors import DataError

# Of each class, when there is no folder for validation.
HOLDOUT = 0.1
OFFICIAL = (
    f"a folder with train/CLASS/*.mp4 and val/CLASS/*.mp4 ({', '.join(VIDEOS.suffixes)}), or with CLASS/*.mp4, of "
    "which a tenth is held out for validation"
)


def build(source: Path | None, name: str) -> Recipe:
    """The splits are 'train' and 'validation'.

    Raises:
      DataError: when `source` is no folder, has val/ but no train/ or too few clips to hold any out, or for what
        `list_classes` and `list_known_classes` refuse.
    """
    if not source.is_dir():
        raise DataError(f"--source={source} is no folder: give {OFFICIAL}")
    train, evaluation = find_train_folder(source, VIDEOS), find_eval_folder(source)
    if evaluation is not None and train == source:
        raise DataError(f"{source} has {evaluation.name}/ but no train/: give {OFFICIAL}")
    class_names, files = list_classes(train, VIDEOS)
    warn_of_links((train, evaluation), VIDEOS)
    if evaluation is None:
        files, held_out = hold_out(train, files, HOLDOUT)
        if not any(held_out):
            divide = "divide them into train/CLASS/ and val/CLASS/" if train == source else "add val/CLASS/"
            raise DataError(
                f"{source} has too few videos of each class to hold a tenth out, of the largest "
                f"{max(map(len, files))}: {enough_to_hold_out(HOLDOUT)} would do, or {divide}"
            )
    else:
        held_out = list_known_classes(evaluation, VIDEOS, class_names)
    return clips_recipe(
        name,
        class_names,
        {"train": _clips(source, files), "validation": _clips(source, held_out)},
        f"Videos of {len(class_names)} classes from a folder.",
    )


def _clips(source: Path, files: Sequence[Sequence[Path]]) -> list[Clip]:
    return [
        Clip(path, label, path.relative_to(source).as_posix()) for label, paths in enumerate(files) for path in paths
    ]


BUILDER = Builder(build, source="DIR", official=OFFICIAL)
