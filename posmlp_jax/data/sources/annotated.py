"""Prepared images with annotated objects."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from etils import epath

from posmlp_jax.data.sources.objects import INDEX, Category, Objects, parse_objects
from posmlp_jax.data.sources.tfds_layout import PLAN, PreparedExamples
from posmlp_jax.errors import DataError

# Images with a shorter side are no use in training, says mmdetection's filter (`filter_cfg`, min_size).
MIN_SIDE = 32


class AnnotatedSource(PreparedExamples):
    """A split of a prepared data set whose images have annotated objects.

    Args:
      folder: what `find_prepared` returns.
      split: a split or sub-split, as tfds has them.
      for_training: leave out images in which nothing but crowds is, or whose shorter side is below MIN_SIDE.

    Attributes:
      categories: by ascending id; class k is the k-th.
      has_masks: whether all objects that are no crowd have a segmentation.
      sizes: int64 [n, 2], (height, width) of each image.
      counts: int64 [n], how many objects that are no crowd each image has.
      image_ids: int64 [n], the JSON's.
      left_out: how many images `for_training` has left out.

    Raises:
      DataError: as `PreparedExamples`, when nothing is annotated, and when no image is left.
    """

    def __init__(self, folder: epath.Path, split: str, *, for_training: bool = False):
        import tensorflow_datasets as tfds

        super().__init__(folder, split)
        index = _read_index(self._info.name, folder)
        self.categories = tuple(Category(one["id"], one["name"]) for one in index["categories"])
        self.has_masks = index["has_masks"]
        self._folder = folder
        self._class_of = {category.id: number for number, category in enumerate(self.categories)}
        stored = self._in_order(index["splits"])
        sizes, counts, image_ids = (stored[name] for name in ("sizes", "counts", "image_ids"))
        keep = (counts > 0) & (sizes.min(1) >= MIN_SIDE) if for_training else np.ones(len(counts), bool)
        self._kept = np.flatnonzero(keep)
        if not len(self._kept):
            raise DataError(
                f"no image of {self.description} can be trained on: each has no object, or a side below {MIN_SIDE} "
                "pixels"
            )
        self.left_out = len(keep) - len(self._kept)
        self.sizes, self.counts, self.image_ids = sizes[keep], counts[keep], image_ids[keep]
        self._whole, self._annotations = self._only(["image", "objects"]), self._only(["objects"])
        self._decoders = {"image": tfds.decode.SkipDecoding()}

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the categories, in the order of the classes."""
        return tuple(category.name for category in self.categories)

    @property
    def num_classes(self) -> int:
        """How many categories there are, those without objects included."""
        return len(self.categories)

    def __len__(self) -> int:
        """The number of images."""
        return len(self._kept)

    def read(self, index: int) -> tuple[bytes, Objects]:
        """The image's encoded bytes, and its objects."""
        example = self._whole.deserialize_example_np(self._records[self._kept[index]], decoders=self._decoders)
        return example["image"], self._objects(index, example["objects"])

    def objects(self, index: int) -> Objects:
        """The image's objects alone."""
        example = self._annotations.deserialize_example_np(self._records[self._kept[index]])
        return self._objects(index, example["objects"])

    def example_id(self, index: int) -> str:
        """`split:index (file)`, the index that of the split with all its images."""
        return super().example_id(int(self._kept[index]))

    def identity(self) -> Iterator[str]:
        """As any prepared data set's, and from what it was prepared: other boxes need not change the size of a file."""
        yield from super().identity()
        yield (self._folder / PLAN).read_text()

    def _objects(self, index: int, annotations: bytes) -> Objects:
        size = int(self.sizes[index, 0]), int(self.sizes[index, 1])
        return parse_objects(json.loads(annotations), self._class_of, size, int(self.image_ids[index]))

    def _in_order(self, splits: dict[str, dict[str, list]]) -> dict[str, np.ndarray]:
        """What is stored of each image, by name, in the order of the records of the split that is read."""
        places = {}
        for split, info in self._info.splits.items():
            starts = np.cumsum([0, *info.shard_lengths])
            places |= {name: (split, int(start)) for name, start in zip(info.filenames, starts[:-1], strict=True)}
        parts = {"sizes": [], "counts": [], "image_ids": []}
        for one in self._info.splits[self._split].file_instructions:
            split, start = places[epath.Path(one.filename).name]
            for name, arrays in parts.items():
                arrays.append(splits[split][name][start + one.skip : start + one.skip + one.take])
        return {name: np.concatenate(arrays).astype(np.int64) for name, arrays in parts.items()}


def _read_index(name: str, folder: epath.Path) -> dict[str, Any]:
    file = folder / INDEX
    if not file.exists():
        raise DataError(
            f"{name} in {folder} has no annotated objects, which detection needs (no {INDEX}): take coco2017 or "
            "digit_scenes, or prepare your own with: python -m posmlp_jax.data.prepare coco_folder --source=DIR "
            "--name=NAME"
        )
    try:
        return json.loads(file.read_text())
    except ValueError as error:
        raise DataError(f"{file} is damaged ({error}): delete {folder} and prepare it again") from error
