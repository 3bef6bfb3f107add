"""Data sets in tfds' own layout on disk, array_record or TFRecord, read without TensorFlow.

They lie in `data_dir/name[/config]/version`; `posmlp_jax.data.prepare` writes them, and so does tfds.
"""

import contextlib
import difflib
import io
import os
import re
import resource
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

import numpy as np
from etils import epath

from posmlp_jax.data.decoding.encoded_video import EncodedVideo
from posmlp_jax.data.prepare.datasets import BUILDERS
from posmlp_jax.data.sources.labelled import LabelledSource
from posmlp_jax.data.sources.source import Source
from posmlp_jax.data.sources.tfrecord import TFRecordReader
from posmlp_jax.errors import DataError
from posmlp_jax.paths import as_path, in_bucket, list_folder
from posmlp_jax.writing import atomic_write

# name, name/config, name:1.2.3 or name/config:1.2.3, as tfds has it.
_NAME = re.compile(r"(?P<name>\w+)(/(?P<config>[\w.\-]+))?(:(?P<version>\d+\.\d+\.\d+))?")
# Text features that name an example, in the order of preference.
_ID_FEATURES = ("file_name", "filename", "id")
_VIDEO_FEATURES = ("video", "num_frames", "fps", "id")
_VERSION = re.compile(r"\d+\.\d+\.\d+")
# From what, and in which shards, `prepare` has made a data set.
PLAN = "plan.json"


def data_folder(data_dir: str) -> epath.Path:
    """The folder of all prepared data sets: `data_dir`, or where tfds keeps them when that is ''."""
    return as_path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")


def find_version(folder: epath.Path, version: str | None = None) -> epath.Path | None:
    """The sub-folder of `folder` with the highest version (or `version`) that was prepared to the end, or None."""
    if not folder.is_dir():
        return None
    names = [version] if version else [name for name in list_folder(folder)[0] if _VERSION.fullmatch(name)]
    prepared = [name for name in names if (folder / name / "dataset_info.json").exists()]
    if not prepared:
        return None
    return folder / max(prepared, key=lambda name: tuple(map(int, name.split("."))))


def find_prepared(name: str, data_dir: str) -> epath.Path:
    """The folder of a prepared data set.

    Args:
      name: `name[/config][:version]`; without a version, the highest one.
      data_dir: where prepared data sets lie; '' is tfds' own folder.

    Raises:
      DataError: when it is not there; the message has the command that prepares it.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise DataError(f"'{name}' is no data set's name; tfds names are like cifar10, name/config or name:1.2.3")
    folder = data_folder(data_dir) / match["name"]
    if match["config"]:
        folder /= match["config"]
    if found := find_version(folder, match["version"]):
        return found
    configs = [name for name in list_folder(folder)[0] if find_version(folder / name)] if folder.is_dir() else []
    if len(configs) == 1 and not match["config"] and not match["version"]:
        return find_version(folder / configs[0])
    if configs:
        raise DataError(f"'{name}' is prepared in the configs {', '.join(configs)}: say {match['name']}/{configs[0]}")
    looked_for = f"{folder}/{match['version'] or 'VERSION'}/dataset_info.json"
    raise DataError(f"data set '{name}' is not prepared: no {looked_for}; {_how_to_prepare(match['name'], data_dir)}")


def _how_to_prepare(name: str, data_dir: str) -> str:
    where = f" --data_dir={data_dir}" if data_dir else ""
    if name in BUILDERS:
        source = f" --source={BUILDERS[name].source}" if BUILDERS[name].source else ""
        return f"prepare it with: python -m posmlp_jax.data.prepare {name}{source}{where}"
    import tensorflow_datasets as tfds

    if name in tfds.list_builders(with_community_datasets=False):
        return f"prepare it where TensorFlow is installed with: tfds build {name} --file_format=array_record{where}"
    folder = data_folder(data_dir)
    prepared = [path.name for path in folder.iterdir() if find_version(path)] if folder.is_dir() else []
    known = [*prepared, *BUILDERS, *tfds.list_builders(with_community_datasets=False), "synthetic"]
    # Of 300 names of all kinds one is always a bit like it.
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
    hint = (
        f"did you mean '{near[0]}'?"
        if near
        else "images of your own need no preparing: --config.data.name=image_folder --config.data.data_dir=DIR; videos "
        f"do: python -m posmlp_jax.data.prepare video_folder --source=DIR --name={name}{where}; images with annotated "
        "objects, too: coco_folder instead of video_folder"
    )
    return f"and neither we nor tfds know how to prepare it ({hint})"


class PreparedExamples(Source):
    """A split of a data set that `prepare`, or tfds, has written; what its examples are, the classes below this know.

    Args:
      folder: what `find_prepared` returns.
      split: a split or sub-split, as tfds has them: 'train', 'train[:90%]', 'train+test'.

    Raises:
      DataError: when the split does not exist or is empty, or when files are missing or in a format that cannot be read
        here.
    """

    def __init__(self, folder: epath.Path, split: str):
        import tensorflow_datasets as tfds

        if not (folder / "features.json").exists():
            raise DataError(
                f"{folder} has no features.json: films with AVA's tables, as acting_digits, are for action detection "
                "(configs/ava), and what tfds wrote before 3.2.1 is to be prepared anew"
            )
        self._info = tfds.builder_from_directory(folder).info
        self._split = split
        self.description = f"{self._info.name} {split} in {folder}"
        named = [name for name in _ID_FEATURES if name in self._info.features]
        self._id_features = self._only(named[:1]) if named else None
        self._records = _open_records(self._info, folder, split)

    def __len__(self) -> int:
        """The number of examples."""
        return len(self._records)

    def identity(self) -> Iterator[str]:
        """The data set's version and bytes, and the files of the split with how many examples of each are read."""
        yield f"{self._info.full_name} {self._split} {self._info.dataset_size}"
        for one in self._info.splits[self._split].file_instructions:
            yield f"{epath.Path(one.filename).name} {one.skip} {one.take}"

    def example_id(self, index: int) -> str:
        """`split:index`, with the file's name or the example's id where the data set has one."""
        if self._id_features is None:
            return f"{self._split}:{index}"
        (name,) = self._id_features.deserialize_example_np(self._records[index]).values()
        return f"{self._split}:{index} ({name.decode(errors='replace')})"

    def _only(self, names: Sequence[str]) -> Any:
        """Some of the features: parsing others costs time, and some cannot be decoded without TensorFlow."""
        import tensorflow_datasets as tfds

        return tfds.features.FeaturesDict({name: self._info.features[name] for name in names})


class PreparedSource(PreparedExamples, LabelledSource):
    """Prepared images or videos with labels.

    Args:
      folder: what `find_prepared` returns.
      split: a split or sub-split.
      num_classes: for data sets whose labels are plain integers; the others say it themselves. None: one more than the
        highest label of all their splits, for which all labels are read.

    Raises:
      DataError: as `PreparedExamples`, and when the examples have neither image nor video, or no label, or one that is
        no whole number.
    """

    def __init__(self, folder: epath.Path, split: str, num_classes: int | None = None):
        import tensorflow_datasets as tfds

        super().__init__(folder, split)
        info = self._info
        self.kind = "video" if set(_VIDEO_FEATURES) <= set(info.features) else "image"
        missing = [name for name in (self.kind, "label") if name not in info.features]
        if missing:
            raise DataError(
                f"{info.name} in {folder} has no feature {' and no '.join(map(repr, missing))}: it has "
                f"{', '.join(sorted(info.features))}; classification needs image and label, or video, num_frames, fps, "
                "id and label"
            )
        label = info.features["label"]
        if label.shape or np.dtype(label.np_dtype).kind not in "iub":
            raise DataError(
                f"{info.name} in {folder} has labels of type {np.dtype(label.np_dtype)} {list(label.shape)}; "
                "classification needs one whole number for each example"
            )
        self.num_classes = getattr(label, "num_classes", None) or num_classes
        if self.num_classes is None:
            everything = PreparedSource(folder, "+".join(info.splits), np.iinfo(np.int64).max)
            self.num_classes = int(everything.read_labels().max()) + 1
        names = getattr(label, "names", None)
        self.class_names = tuple(names) if names and len(names) == self.num_classes else None
        self._features = self._only((*_VIDEO_FEATURES, "label") if self.kind == "video" else ("image", "label"))
        # Videos are kept as plain bytes, of which tfds knows nothing.
        self._decoders = {"image": tfds.decode.SkipDecoding()} if self.kind == "image" else None
        self._label_feature = self._only(["label"])
        self._labels_file = folder / f"labels-{quote(split, safe='')}.npy"

    def read(self, index: int) -> tuple[bytes | EncodedVideo, int]:
        """The image's encoded bytes, or the video, and its label."""
        example = self._features.deserialize_example_np(self._records[index], decoders=self._decoders)
        label = int(example["label"])
        if self.kind == "image":
            return example["image"], label
        data = example["video"] if isinstance(example["video"], bytes) else tuple(example["video"])
        name = example["id"].decode(errors="replace")
        return EncodedVideo(data, int(example["num_frames"]), float(example["fps"]), name), label

    def read_labels(self) -> np.ndarray:
        """As `LabelledSource.read_labels`; kept in a file beside the data where that can be written.

        The labels lie in the same records as the images or videos: the first time, all of these are read from the disk.
        """
        file = self._labels_file
        if file.exists():
            labels = np.load(io.BytesIO(file.read_bytes()))
            # Where one is too high, reading them again names it.
            if len(labels) == len(self) and labels.max() < self.num_classes:
                return labels
        labels = super().read_labels()
        np.save(content := io.BytesIO(), labels)
        with contextlib.suppress(OSError):
            atomic_write(file, content.getvalue())
        return labels

    def _read_labels(self, indices: range) -> list[int]:
        records = self._records.__getitems__(indices)
        return [int(self._label_feature.deserialize_example_np(record)["label"]) for record in records]


def _open_records(info: Any, folder: epath.Path, split: str) -> Sequence[bytes]:
    """The serialized examples of a split, by index."""
    if not info.splits:
        raise DataError(f"{folder} holds no split: it was not prepared to the end; delete it and prepare it again")
    formats = {format.value for format in info.available_file_formats()}
    readable = next((format for format in ("array_record", "tfrecord") if format in formats), None)
    if readable is None:
        raise DataError(
            f"{folder} is prepared as {', '.join(sorted(formats))}, which cannot be read here: prepare it again with "
            f"tfds build {info.name} --file_format=array_record"
        )
    if readable == "tfrecord" and in_bucket(folder):
        raise DataError(
            f"{folder} is prepared as TFRecord, which has no index and so would be read from start to end: copy it to "
            f"a disk, or prepare it as array_record: tfds build {info.name} --file_format=array_record"
        )
    if info.file_format.value != readable:
        info.set_file_format(readable, override=True, override_if_initialized=True)
    try:
        instructions = info.splits[split].file_instructions
    except (KeyError, ValueError, AssertionError) as error:
        raise DataError(
            f"split '{split}' of {info.name} in {folder} cannot be read: the splits are {', '.join(info.splits)}, "
            "and parts of them are written train[:90%], train[1000:]"
        ) from error
    if not instructions:
        raise DataError(f"split '{split}' of {info.name} in {folder} is empty")
    present = set(list_folder(folder)[1])
    absent = [name for one in instructions if (name := epath.Path(one.filename).name) not in present]
    if absent:
        raise DataError(
            f"{len(absent)} of {len(instructions)} files of {info.name} {split} are missing in {folder}, "
            f"{absent[0]} for one; prepare it again"
        )
    if readable == "tfrecord":
        return TFRecordReader(instructions)
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    _allow_open_files(len(instructions))
    return ArrayRecordDataSource(instructions)


def _allow_open_files(files: int) -> None:
    """array_record keeps every file open, and ImageNet as tfds prepares it has as many as the usual limit, 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= files + 512:
        return
    wanted = files + 512 if hard == resource.RLIM_INFINITY else min(files + 512, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
