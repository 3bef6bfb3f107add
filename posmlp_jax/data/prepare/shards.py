"""Writes a data set as array_record shards, in the layout of tfds, so that a stopped run goes on where it was.

`download_and_prepare` of tfds starts from the beginning after a stop, which for ImageNet costs hours. Here the shards
go one by one into a folder `VERSION.incomplete`, each under a temporary name until it lies safely on the disk; the
next run skips those that are there. The folder gets its name when everything is in it. Examples that cannot be read
are left out (`left_out`). Files that belong to it, or that it consists of, are written in the same way.

In a bucket, where folders have no names to change, the shards go to where they stay, and `dataset_info.json`, without
which nothing is taken for a data set, comes last. Nothing can be locked there: one program at a time may prepare it.
"""

import contextlib
import fcntl
import json
import logging
import os
import tempfile
from collections.abc import Iterable, Iterator

from etils import epath
from tqdm import tqdm

from posmlp_jax.data.prepare.builder import Example, Recipe
from posmlp_jax.data.prepare.left_out import LeftOut, remove_lists
from posmlp_jax.data.sources.tfds_layout import PLAN, find_version
from posmlp_jax.errors import DataError, refusal
from posmlp_jax.paths import file_size, in_bucket, list_folder
from posmlp_jax.writing import PARTIAL, atomic_file, atomic_write


def write_dataset(recipe: Recipe, data_dir: epath.Path, max_broken: float) -> epath.Path:
    """Writes what is missing of the data set.

    Args:
      recipe: the data set.
      data_dir: where prepared data sets lie.
      max_broken: the share of its examples, in [0, 1], that may be left out because they cannot be read.

    Returns:
      The folder of the prepared data set, `data_dir/name/version`.

    Raises:
      DataError: when the folder cannot be written, the disk is full, the stopped run had another source, or too many
        examples cannot be read.
    """
    folder = data_dir / recipe.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / f".{recipe.version}.lock"):
            # Another process may have prepared it while this one waited for the lock.
            if done := find_version(folder, recipe.version):
                check_source(recipe, done)
                return done
            return _write(recipe, folder, max_broken)
    except Exception as error:
        if (reason := refusal(error)) is None:
            raise
        where = getattr(error, "filename", None) or folder
        raise DataError(f"cannot prepare {recipe.name}: {reason} ({where})") from error


def _write(recipe: Recipe, folder: epath.Path, max_broken: float) -> epath.Path:
    target = folder / recipe.version
    staging = target if in_bucket(target) else folder / f"{recipe.version}.incomplete"
    staging.mkdir(exist_ok=True)
    _check_plan(recipe, staging)
    _, names = list_folder(staging)
    for name in names:
        if name.endswith(PARTIAL):
            (staging / name).unlink()
    made = {name: content for name, content in recipe.files.items() if callable(content)}
    total = sum(split.num_examples for split in recipe.splits.values()) + len(made)
    # Shards get their names when they are complete, so those that are there need no second look.
    shards = [name for name in names if name.startswith(f"{recipe.name}-") and not name.endswith(PARTIAL)]
    done = {name: _count(staging / name) for name in shards}
    left_out = LeftOut(recipe, staging, max_broken)
    begun = sum(count + left_out.resume(name) for name, count in done.items())
    lengths: dict[str, list[int]] = {}
    with tqdm(total=total, initial=begun, unit=f" {recipe.noun}", desc=recipe.name) as bar:
        for split, contents in recipe.splits.items():
            names = [_shard_name(recipe.name, split, i, len(contents.shards)) for i in range(len(contents.shards))]
            for name, shard in zip(names, contents.shards, strict=True):
                if name not in done:
                    done[name] = _write_shard(recipe, left_out.leave_out(name, shard, bar), staging / name, bar)
            lengths[split] = [done[name] for name in names]
            if (found := sum(done[name] + left_out.number_in(name) for name in names)) != contents.num_examples:
                raise DataError(
                    f"the source of {recipe.name} has {found} {split} {recipe.noun} instead of "
                    f"{contents.num_examples}: get it anew, delete {staging} and start again"
                )
        for name, make in made.items():
            # A file has its name when it is complete, as a shard.
            if not (staging / name).exists():
                (staging / name).parent.mkdir(parents=True, exist_ok=True)
                atomic_write(staging / name, make())
            bar.update()
    left_out.write_list()
    for name in recipe.files.keys() - made.keys():
        atomic_write(staging / name, recipe.files[name])
    _write_metadata(recipe, staging, lengths)
    if staging != target:
        staging.rename(target)
        _sync(folder)
    remove_lists(target)
    return target


def _write_shard(recipe: Recipe, examples: Iterable[Example], file: epath.Path, bar: tqdm) -> int:
    """Writes one shard; returns the number of its examples."""
    with atomic_file(file) as partial:
        count = _write_records(recipe, examples, partial, bar)
        _sync(partial)
    if not in_bucket(file):
        _sync(file.parent)
    return count


def _write_records(recipe: Recipe, examples: Iterable[Example], file: epath.Path, bar: tqdm) -> int:
    from array_record.python.array_record_module import ArrayRecordWriter
    from tensorflow_datasets.core.example_serializer import ExampleSerializer

    serializer = ExampleSerializer(recipe.features.get_serialized_info())
    count = 0
    try:
        # group_size:1, as in tfds: every record can be read by itself.
        with contextlib.closing(ArrayRecordWriter(str(file), "group_size:1")) as writer:
            for example in examples:
                proto = serializer.get_tf_example(recipe.features.encode_example(example))
                # Otherwise the order of the features, and so the file, differs from process to process.
                writer.write(proto.SerializeToString(deterministic=True))
                count += 1
                bar.update()
    except RuntimeError as error:
        # A full disk. array_record reports it when it closes the file at the latest.
        reason = str(error).split(";")[0]
        raise DataError(f"cannot write {file}: {reason}; make room and give the same command again") from error
    if (written := _count(file)) != count:
        raise DataError(f"{file} holds {written} of {count} {recipe.noun} after writing: is the disk full?")
    return count


def _write_metadata(recipe: Recipe, staging: epath.Path, lengths: dict[str, list[int]]) -> None:
    """features.json and dataset_info.json, from which `tfds.builder_from_directory` knows the data set."""
    import tensorflow_datasets as tfds

    identity = tfds.core.dataset_info.DatasetIdentity(
        name=recipe.name,
        version=tfds.core.Version(recipe.version),
        data_dir=str(staging),
        module_name="posmlp_jax.data.prepare",
    )
    info = tfds.core.DatasetInfo(
        builder=identity,
        description=recipe.description,
        features=recipe.features,
        homepage=recipe.homepage,
        supervised_keys=("video" if "video" in recipe.features else "image", "label")
        if "label" in recipe.features
        else None,
        disable_shuffling=True,
    )
    info.set_file_format("array_record")
    splits = []
    for split, shard_lengths in lengths.items():
        template = tfds.core.ShardedFileTemplate(
            dataset_name=recipe.name, data_dir=staging, split=split, filetype_suffix="array_record"
        )
        names = [_shard_name(recipe.name, split, i, len(shard_lengths)) for i in range(len(shard_lengths))]
        size = sum(file_size(staging / name) for name in names)
        splits.append(tfds.core.SplitInfo(split, shard_lengths, size, template))
    info.set_splits(tfds.core.splits.SplitDict(splits))
    with tempfile.TemporaryDirectory() as folder:
        info.write_to_directory(folder)
        for file in sorted(epath.Path(folder).iterdir(), key=lambda file: file.name == "dataset_info.json"):
            atomic_write(staging / file.name, file.read_bytes())


def says_its_source(folder: epath.Path) -> bool:
    """Whether a prepared data set says from what: those of tfds do not."""
    return (folder / PLAN).exists()


def check_source(recipe: Recipe, folder: epath.Path) -> None:
    """Makes sure that a prepared data set is what this recipe would give, as far as it says from what it is.

    Raises:
      DataError: when it was prepared from another source; the message says what has changed.
    """
    if says_its_source(folder) and (change := _change(recipe, folder)):
        raise DataError(
            f"{folder} was prepared from another source: {change}; delete that folder to prepare it anew, or give "
            "this source another --name"
        )


def _plan(recipe: Recipe) -> dict:
    """Source and sharding, as JSON gives them back."""
    shards = {split: len(contents.shards) for split, contents in recipe.splits.items()}
    return json.loads(json.dumps({"source": recipe.fingerprint, "shards": shards}))


def _check_plan(recipe: Recipe, staging: epath.Path) -> None:
    """Writes down source and sharding, or makes sure that the run which is continued had the same ones."""
    file = staging / PLAN
    if not file.exists():
        atomic_write(file, json.dumps(_plan(recipe), indent=2, sort_keys=True))
    elif change := _change(recipe, staging):
        raise DataError(
            f"{staging} was begun from another source: {change}; give the same --source as then, or delete that folder"
        )


def _change(recipe: Recipe, folder: epath.Path) -> str:
    """In words, what is different now from what a folder's plan says; '' where nothing is."""
    plan = _plan(recipe)
    try:
        before = json.loads((folder / PLAN).read_text())
        counts, counts_before = plan["source"].pop("counts", {}), before["source"].pop("counts", {})
        sizes, sizes_before = plan["source"].pop("sizes", None), before["source"].pop("sizes", None)
    except (ValueError, TypeError, KeyError, AttributeError) as error:  # No JSON, or another.
        raise DataError(f"{folder / PLAN} is damaged: delete {folder} to prepare it anew") from error
    # Older versions have stored neither sizes nor counts, and the counts only say what has changed.
    if plan == before:
        other = sizes and sizes_before and sizes != sizes_before
        return f"{recipe.noun} of the same names, but other sizes" if other else ""
    if not counts or not counts_before:
        return f"it has other {recipe.noun}"
    changes = []
    for split in sorted({*counts, *counts_before}):
        now, then = counts.get(split, {}), counts_before.get(split, {})
        for name in sorted({*now, *then}):
            if now.get(name, 0) != then.get(name, 0):
                had, has = then.get(name, "no"), now.get(name, "none")
                changes.append(f"{split} had {had} {recipe.noun} of '{name}' and has {has}")
    more = f" and {len(changes) - 5} changes more" if len(changes) > 5 else ""
    return ", ".join(changes[:5]) + more if changes else f"as many {recipe.noun} of each class, but others"


def _shard_name(name: str, split: str, number: int, shards: int) -> str:
    return f"{name}-{split}.array_record-{number:05d}-of-{shards:05d}"


def _count(file: epath.Path) -> int:
    from array_record.python.array_record_module import ArrayRecordReader

    reader = ArrayRecordReader(str(file), "readahead_buffer_size:0")
    count = reader.num_records()
    reader.close()
    return count


def _sync(path: epath.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _locked(file: epath.Path) -> Iterator[None]:
    """Lets one process at a time prepare a data set; the others wait. In a bucket it does nothing."""
    if in_bucket(file):
        yield
        return
    with file.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logging.info("another process prepares %s; waiting for it", file.parent)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
