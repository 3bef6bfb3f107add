"""Pictures of several digits on texture, with boxes and masks: detection's data set that every machine has.

A canvas of 128² pixels has up to five of the digits that ship with this project (`digits`), enlarged to 14 to 48 pixels
and drawn one after the other, so that later ones may cover earlier ones; in some there is a crowd of small ones that
are annotated together. An object's mask is its ink above a half, after enlarging, as far as no later digit's mask
covers it, and its box is that of its mask. Every third object of the data set has its mask as RLE, the others have
polygons along the pixels' edges, which give exactly the same mask.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from posmlp_jax.data.prepare.annotated_images import AnnotatedImage, annotated_recipe
from posmlp_jax.data.prepare.builder import Builder, Recipe
from posmlp_jax.data.prepare.datasets import digits
from posmlp_jax.data.prepare.outlines import bounding_box, outlines, run_lengths
from posmlp_jax.data.sources.objects import Category

SIZE = 128
SCENES = {"train": 2000, "validation": 300}
# One change in a scene means one more here, so that older prepared ones are not mixed up with it.
_VERSION = "1.0.0"
# Gaps, as COCO's ids have them: what takes an id for the number of a class is found out.
CATEGORIES = tuple(Category(id, str(digit)) for digit, id in enumerate((1, 2, 3, 5, 8, 13, 21, 34, 55, 89)))
_MOST = 5
_SIDES = (14, 49)
# The share of a digit's ink that must stay visible.
_VISIBLE = 0.7
# The share of scenes without digits, and of those with a crowd, which has so many digits of such sides.
_EMPTY = 0.05
_CROWDED = 0.1
_CROWD = (4, 7)
_CROWD_SIDES = (10, 14)
# For a place where no earlier digit would be covered too much.
_ATTEMPTS = 20


@dataclasses.dataclass(frozen=True)
class Thing:
    """What is annotated as one: a digit, or a crowd of some that show the same.

    Attributes:
      digit: what it shows.
      ink: float32 [SIZE, SIZE] in [0, 1], how much of each pixel is ink.
      crowd: whether it is one.
    """

    digit: int
    ink: np.ndarray
    crowd: bool

    @property
    def mask(self) -> np.ndarray:
        """Bool [SIZE, SIZE], whatever is drawn over it later."""
        return self.ink > 0.5


def place_things(rng: np.random.Generator, pixels: np.ndarray, labels: np.ndarray) -> list[Thing]:
    """The things of a scene, in the order in which they are drawn.

    Args:
      rng: draws how many, which, how large and where.
      pixels: of the digits to choose from, [n, 8, 8] in 0..16.
      labels: what they show, [n].
    """
    count = 0 if rng.random() < _EMPTY else int(rng.integers(1, _MOST + 1))
    # The crowd comes first, so that digits may lie on it.
    crowds = [True] * bool(rng.random() < _CROWDED)
    things: list[Thing] = []
    for crowd in [*crowds, *[False] * count]:
        for _ in range(_ATTEMPTS):
            thing = _draw_crowd(rng, pixels, labels) if crowd else _draw_digit(rng, pixels, labels)
            whole = [one.mask.sum() for one in (*things, thing)]
            seen = [mask.sum() for mask in visible_masks([*things, thing])]
            if all(part >= _VISIBLE * all_of_it for part, all_of_it in zip(seen, whole, strict=True)):
                things.append(thing)
                break
    return things


def visible_masks(things: Sequence[Thing]) -> list[np.ndarray]:
    """What of each thing's mask no later one's covers, bool [SIZE, SIZE] each."""
    covered, masks = np.zeros((SIZE, SIZE), bool), []
    for thing in reversed(things):
        masks.append(thing.mask & ~covered)
        covered |= thing.mask
    return masks[::-1]


def render(rng: np.random.Generator, things: Sequence[Thing]) -> np.ndarray:
    """The picture of some things, uint8 [SIZE, SIZE, 3]: light ink of any colour on a texture that is darker."""
    ground = _clouds(rng, 5, 40.0) + _clouds(rng, 17, 25.0) + rng.uniform(30, 90, 3)
    for thing in things:
        colour = rng.uniform(110, 255, 3)
        # One of the three is bright, whatever the colour is, so that no digit is like its ground.
        colour[rng.integers(3)] = rng.uniform(220, 255)
        ground += thing.ink[..., None] * (colour + _clouds(rng, 9, 15.0) - ground)
    ground += rng.normal(0, 6, (SIZE, SIZE, 1))
    return np.rint(ground.clip(0, 255)).astype(np.uint8)


def _draw_digit(rng: np.random.Generator, pixels: np.ndarray, labels: np.ndarray) -> Thing:
    number, side = int(rng.integers(len(labels))), int(rng.integers(*_SIDES))
    x, y = rng.integers(SIZE - side + 1, size=2)
    return Thing(int(labels[number]), _ink(pixels[number], side, x, y), crowd=False)


def _draw_crowd(rng: np.random.Generator, pixels: np.ndarray, labels: np.ndarray) -> Thing:
    """Digits side by side, in a row that goes up and down."""
    digit, count = int(rng.choice(labels)), int(rng.integers(*_CROWD))
    sides = rng.integers(*_CROWD_SIDES, size=count)
    left, top = rng.integers(SIZE - sides.sum() + 1), rng.integers(SIZE - 2 * _CROWD_SIDES[1] + 1)
    ink = np.zeros((SIZE, SIZE), np.float32)
    for number, side in zip(rng.choice(np.flatnonzero(labels == digit), count), sides, strict=True):
        ink = np.maximum(ink, _ink(pixels[number], int(side), left, top + int(rng.integers(_CROWD_SIDES[1]))))
        left += side
    return Thing(digit, ink, crowd=True)


def _ink(digit: np.ndarray, side: int, x: int, y: int) -> np.ndarray:
    """A digit's 8×8 pixels, enlarged to `side`², at a place on the canvas."""
    canvas = np.zeros((SIZE, SIZE), np.float32)
    enlarged = cv2.resize(digit.astype(np.float32) / 16, (side, side), interpolation=cv2.INTER_CUBIC)
    canvas[y : y + side, x : x + side] = enlarged.clip(0, 1)
    return canvas


def _clouds(rng: np.random.Generator, coarse: int, strength: float) -> np.ndarray:
    """Smooth noise, [SIZE, SIZE, 3], from coarse² random colours up to `strength` from zero."""
    noise = rng.uniform(-strength, strength, (coarse, coarse, 3))
    return cv2.resize(noise, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)


def build(source: Path | None, name: str) -> Recipe:
    """The validation split's scenes show the digits of the test split of `digits`; `source` is not used."""
    del source
    scenes = {split: [_scene(split, number) for number in range(count)] for split, count in SCENES.items()}
    splits, objects = {}, 0
    for number, (split, listed) in enumerate(scenes.items()):
        splits[split] = []
        for place, things in enumerate(listed):
            annotations = [
                _annotation(objects + i + 1, thing, mask)
                for i, (thing, mask) in enumerate(zip(things, visible_masks(things), strict=True))
            ]
            objects += len(annotations)
            image_id = 10_000 * (number + 1) + place
            splits[split].append(AnnotatedImage(image_id, f"{split}_{place:04d}.png", (SIZE, SIZE), annotations))

    def read(split: str, image: AnnotatedImage) -> bytes:
        number = image.id % 10_000
        picture = render(np.random.default_rng([1, *_place(split, number)]), scenes[split][number])
        return cv2.imencode(".png", picture[..., ::-1])[1].tobytes()

    return annotated_recipe(
        name,
        CATEGORIES,
        splits,
        read,
        fingerprint={"scenes": SCENES},
        description="Up to five handwritten digits on textured canvases of 128×128 pixels, with boxes and masks.",
        homepage="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
        version=_VERSION,
    )


def _annotation(id: int, thing: Thing, mask: np.ndarray) -> Mapping[str, Any]:
    """COCO's object. Every third is RLE, and so are all crowds."""
    return {
        "id": id,
        "category_id": CATEGORIES[thing.digit].id,
        "bbox": bounding_box(mask),
        "area": int(mask.sum()),
        "iscrowd": int(thing.crowd),
        "segmentation": run_lengths(mask) if thing.crowd or id % 3 == 0 else outlines(mask),
    }


def _scene(split: str, number: int) -> list[Thing]:
    pixels, labels, indices = _digits()
    of_split = indices["train" if split == "train" else "test"]
    return place_things(np.random.default_rng([0, *_place(split, number)]), pixels[of_split], labels[of_split])


def _place(split: str, number: int) -> tuple[int, int]:
    return list(SCENES).index(split), number


@functools.cache
def _digits() -> tuple[np.ndarray, np.ndarray, Mapping[str, np.ndarray]]:
    return *digits.load(), digits.split_indices()


BUILDER = Builder(build, source="", official="the digits ship with this project")
