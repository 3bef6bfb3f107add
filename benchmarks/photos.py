"""Photograph-like images that cost what photographs do: to read, to decode, and with objects in them to train on."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from posmlp_jax.data.sources.class_folders import IMAGES
from posmlp_jax.data.sources.files import FileSource
from posmlp_jax.data.sources.labelled import LabelledSource
from posmlp_jax.data.sources.objects import Category, Objects
from posmlp_jax.data.sources.source import Source

# (height, width) of most images. COCO's training images hold 7.3 objects each.
IMAGENET_SIZE, COCO_SIZE, OBJECTS = (375, 500), (480, 640), 7
# An object's polygons have about so many corners there.
_CORNERS = 24


def photo(seed: int, size: tuple[int, int]) -> Image.Image:
    """Noise whose spectrum falls as that of photographs, 1 / frequency, with edges and little colour."""
    rng, (height, width) = np.random.default_rng(seed), size
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    spectrum = 1 / np.maximum(frequency, 1 / width)
    planes = []
    for _ in range(3):
        phase = np.exp(2j * np.pi * rng.random(spectrum.shape))
        plane = np.fft.irfft2(spectrum * phase, (height, width))
        planes.append(plane / plane.std())
    grey = planes[0] + 0.8 * np.sign(planes[1])
    image = np.stack([grey, grey + 0.3 * planes[1], grey + 0.3 * planes[2]], axis=-1)
    return Image.fromarray(np.clip(118 + 42 * image, 0, 255).astype(np.uint8))


def write_photos(folder: Path, count: int, size: tuple[int, int] = IMAGENET_SIZE) -> list[str]:
    """`count` photographs of ten classes, as JPEGs; and one to evaluate with.

    Those of ImageNet's size have about 110 KB, its mean.

    Returns:
      The names of the first files.
    """
    files = [folder / "train" / f"class{number % 10}" / f"{number}.jpg" for number in range(count)]
    for number, path in enumerate([*files, folder / "val" / "class0" / "0.jpg"]):
        path.parent.mkdir(parents=True, exist_ok=True)
        photo(number, size).save(path, quality=87)
    return list(map(str, files))


class Repeated(LabelledSource):
    """As many images as ImageNet-1k has: those of a source again and again, none of them kept in memory."""

    def __init__(self, source: LabelledSource):
        self._source = source
        self.num_classes, self.class_names, self.description = source.num_classes, None, source.description

    def __len__(self) -> int:
        """The number of images."""
        return 1_281_167

    def read(self, index: int) -> tuple[bytes, int]:
        """The file's bytes, and its label."""
        return self._source.read(index % len(self._source))

    def example_id(self, index: int) -> str:
        """The file's path."""
        return self._source.example_id(index % len(self._source))


class AnnotatedPhotos(Source):
    """As many images as COCO has to train on: those of some files again and again.

    Args:
      files: images of `COCO_SIZE`.
    """

    num_classes, has_masks, left_out = 80, True, 0

    def __init__(self, files: Sequence[str]):
        self.files, self._source = files, FileSource(files, IMAGES)
        self.description = f"{len(files)} photographs with {OBJECTS} objects each"
        self.categories = tuple(Category(number + 1, f"class {number}") for number in range(self.num_classes))
        self.class_names = tuple(category.name for category in self.categories)
        self.sizes = np.tile(COCO_SIZE, (len(self), 1))
        self.counts, self.image_ids = np.full(len(self), OBJECTS), np.arange(len(self))

    def __len__(self) -> int:
        """The number of images."""
        return 117_266

    def read(self, index: int) -> tuple[bytes, Objects]:
        """The file's bytes, and stars of which the sides are between 16 and 320 pixels."""
        number = index % len(self._source)
        random, angles = np.random.default_rng(number), np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)
        extents = np.exp(random.uniform(np.log(8), np.log(160), (OBJECTS, 1, 2)))
        centres = random.uniform(extents, COCO_SIZE[::-1] - extents)
        stars = random.uniform(0.5, 1, (OBJECTS, _CORNERS, 1)) * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
        points = centres + extents * stars
        boxes = np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1)
        objects = Objects(
            boxes=boxes,
            classes=random.integers(0, self.num_classes, OBJECTS),
            crowd=np.zeros(OBJECTS, bool),
            areas=(boxes[:, 2:] - boxes[:, :2]).prod(axis=1),
            ids=np.arange(OBJECTS),
            segmentations=tuple([star.ravel().tolist()] for star in points),
            size=COCO_SIZE,
            image_id=number,
        )
        return self._source.read(number)[0], objects

    def example_id(self, index: int) -> str:
        """The file's path."""
        return self._source.example_id(index % len(self._source))
