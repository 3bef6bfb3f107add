"""Opens the data set that a config names."""

import logging
from pathlib import Path
from typing import Any, Literal

from etils import epath

from posmlp_jax.data.prepare.datasets import BUILDERS
from posmlp_jax.data.sources.annotated import AnnotatedSource
from posmlp_jax.data.sources.clip_index import INDEX, SPLIT, ClipInfo, read_index
from posmlp_jax.data.sources.films import ActionSource
from posmlp_jax.data.sources.image_folder import ImageFolderSource
from posmlp_jax.data.sources.labelled import LabelledSource
from posmlp_jax.data.sources.subjects import SubjectSource, subjects_in_order
from posmlp_jax.data.sources.subset import stratified_subset
from posmlp_jax.data.sources.synthetic import SyntheticSource, SyntheticVideos
from posmlp_jax.data.sources.tfds_layout import PreparedSource, data_folder, find_prepared, find_version
from posmlp_jax.errors import ConfigError, DataError, nearest
from posmlp_jax.paths import as_path, in_bucket


def open_source(
    config: Any,
    split: Literal["train", "eval"],
    *,
    num_classes: int | None = None,
    kind: Literal["image", "video"] = "image",
) -> LabelledSource:
    """The images or videos to train on, or those to evaluate with.

    Args:
      config: the `data` section of a config.
      split: 'train' reads `config.train_split`, or the share `config.train_fraction` of each of its classes
        (`subset.stratified_subset`), 'eval' `config.eval_split`.
      num_classes: how many classes the model has; a data set with more is refused, or if its labels are plain integers
        the first label that is too high. Generated examples (`synthetic`) have as many classes as
        `config.num_classes`, but no more than this.
      kind: of generated examples; the other data sets are what they are.

    Raises:
      ConfigError: when the share is none, and for a `config.left_out`, which would be trained on.
      DataError: when the data set is not prepared, broken, empty, or has more classes than the model. The message says
        what was looked for and how to get it.
    """
    if config.left_out:
        raise ConfigError(
            f"data.left_out is '{config.left_out}', which micro-expressions alone read, and should be '': begin with a "
            "config of theirs, as those in configs/micro_expressions"
        )
    source = _open(config, split, num_classes, kind)
    _check_classes(source, num_classes)
    return stratified_subset(source, config.train_fraction) if split == "train" else source


def _check_classes(source: LabelledSource, num_classes: int | None) -> None:
    if num_classes is not None and source.num_classes > num_classes:
        raise DataError(
            f"the model has {num_classes} classes, but the data {source.num_classes} ({source.description}): "
            f"set --config.model.num_classes={source.num_classes}"
        )


def _open(config: Any, split: str, num_classes: int | None, kind: str) -> LabelledSource:
    if config.name == "synthetic":
        classes = config.num_classes if num_classes is None else min(config.num_classes, num_classes)
        offset = 0 if split == "train" else config.num_examples
        generated = SyntheticVideos if kind == "video" else SyntheticSource
        return generated(config.num_examples, classes, offset=offset)
    name = config.train_split if split == "train" else config.eval_split
    if config.name == "image_folder":
        if not config.data_dir:
            raise DataError("image_folder needs the folder: --config.data.data_dir=DIR")
        return ImageFolderSource(
            config.data_dir,
            split,
            train_folder=config.train_split,
            eval_folder=config.eval_split,
            holdout=config.holdout,
        )
    return PreparedSource(_prepared_folder(config), name, num_classes)


def open_annotated(config: Any, split: Literal["train", "eval"]) -> AnnotatedSource:
    """The images with annotated objects to train on, or those to evaluate with: detection's data.

    Args:
      config: the `data` section of a config.
      split: 'train' reads `config.train_split`, without the images that are no use in training (`AnnotatedSource`),
        'eval' `config.eval_split`, all of it.

    Raises:
      ConfigError: for a `config.train_fraction`, which is of each class, and images have objects of several.
      DataError: when the data set is not prepared, broken or empty, or its images have no annotated objects.
    """
    if split == "train" and config.train_fraction != 1:
        raise ConfigError(
            f"data.train_fraction is {config.train_fraction}, a share of each class, but these images have objects of "
            "several classes: take a part of all, as --config.data.train_split='train[:10%]'"
        )
    if config.name in ("image_folder", "synthetic"):
        raise DataError(
            f"detection needs annotated objects, which '{config.name}' has none of: take coco2017 or digit_scenes, or "
            "prepare your own with: python -m posmlp_jax.data.prepare coco_folder --source=DIR --name=NAME"
        )
    name = config.train_split if split == "train" else config.eval_split
    return AnnotatedSource(_prepared_folder(config), name, for_training=split == "train")


def open_subjects(config: Any, split: Literal["train", "eval"], *, num_classes: int | None = None) -> SubjectSource:
    """The clips of micro-expressions to train on, or those to evaluate with.

    Args:
      config: the `data` section of a config.
      split: 'train' is everybody but `config.left_out`, 'eval' that subject alone.
      num_classes: how many classes the model has; a data set with more is refused.

    Raises:
      ConfigError: when `config.left_out` names no subject of the data set, and for a `config.train_fraction`, which
        takes no account of persons.
      DataError: when the data set is not prepared, broken, has clips of no other subject, or has more classes than the
        model.
    """
    if config.train_fraction != 1:
        raise ConfigError(
            f"data.train_fraction is {config.train_fraction}, and should be 1 where subjects are left out one by one"
        )
    subjects = read_subjects(config)
    if not config.left_out:
        raise ConfigError(
            "data.left_out is '', and should be the subject that is evaluated and not trained on: all of them in turn "
            f"with --mode=leave_one_out, or one of {config.name}'s {len(subjects)} with "
            f"--config.data.left_out={subjects[0]}"
        )
    if config.left_out not in subjects:
        raise ConfigError(
            f"data.left_out is '{config.left_out}', no subject of {config.name}: {nearest(config.left_out, subjects)}"
        )
    chosen = {config.left_out} if split == "eval" else set(subjects) - {config.left_out}
    source = SubjectSource(_prepared_folder(config), chosen, config.clip_end)
    _check_classes(source, num_classes)
    return source


def read_subjects(config: Any) -> tuple[str, ...]:
    """All subjects of the data set of micro-expressions that a config names, in order, as 'casme2/sub01'.

    Args:
      config: the `data` section of a config.

    Raises:
      DataError: as `read_clips`.
    """
    return subjects_in_order(read_clips(config))


def read_clips(config: Any) -> tuple[ClipInfo, ...]:
    """What is known of every clip of the data set of micro-expressions that a config names.

    Args:
      config: the `data` section of a config.

    Raises:
      DataError: when the data set is not prepared, or does not say whose its clips are.
    """
    if config.name in ("image_folder", "synthetic"):
        raise DataError(
            f"micro-expressions need clips that say whose they are, which '{config.name}' has none of: take casme2, "
            "samm, smic_hs, megc2019 or micro_motions"
        )
    return read_index(config.name, _prepared_folder(config)).get(SPLIT, ())


def known_subjects(name: str, data_dir: str) -> tuple[str, ...]:
    """The subjects of a data set, where it lies in `data_dir` and says whose its clips are; else none."""
    folder = find_version(data_folder(data_dir) / name)
    if folder is None or not (folder / INDEX).exists():
        return ()
    return subjects_in_order(read_index(name, folder).get(SPLIT, ()))


def open_films(config: Any, split: Literal["train", "eval"]) -> ActionSource:
    """The key frames of films to train on, or those to evaluate with: action detection's data.

    Args:
      config: the `data` section of a config. With the name 'ava', `data_dir` is the folder with the films and their
        tables (`config.films`); any other is a prepared data set's.
      split: 'train' or 'eval'.

    Raises:
      ConfigError: for a `config.train_fraction`, and as `ActionSource`.
      DataError: for a folder in a bucket, and as `ActionSource`.
    """
    if split == "train" and config.train_fraction != 1:
        raise ConfigError(
            f"data.train_fraction is {config.train_fraction}, a share of each class, but in key frames people do "
            "several things: name other labels by --config.data.films.train_labels"
        )
    if config.name in ("image_folder", "synthetic"):
        raise DataError(
            f"action detection needs films with labelled boxes, which '{config.name}' has none of: take ava or "
            "acting_digits"
        )
    if config.name == "ava" and not config.data_dir:
        raise DataError("ava needs the folder with videos/ or frames/ and annotations/: --config.data.data_dir=DIR")
    folder = as_path(config.data_dir) if config.name == "ava" else _prepared_folder(config)
    if in_bucket(folder):
        raise DataError(f"films are entered here and there, so they have to lie on a disk: copy {folder} to one")
    return ActionSource(Path(folder), config, split)


def _prepared_folder(config: Any) -> epath.Path:
    """Where the prepared data set lies that a config names; one that ships with the project is prepared first."""
    builder = BUILDERS.get(config.name)
    if builder and not builder.source and not find_version(data_folder(config.data_dir) / config.name):
        # Not above: `python -m posmlp_jax.data.prepare` would then import that module twice.
        from posmlp_jax.data.prepare.prepare import prepare

        logging.info("preparing %s in %s", config.name, data_folder(config.data_dir))
        prepare(config.name, data_dir=config.data_dir)
    return find_prepared(config.name, config.data_dir)
