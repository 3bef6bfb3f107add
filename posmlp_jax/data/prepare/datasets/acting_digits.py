"""Films of handwritten digits that do things at one time, each in a box: AVA's data set that every machine has.

It lies in folders and tables as AVA's does, and the time of its films begins at second 900, too. A film of 6 seconds
has two shots with other digits in each, whose key frames are seconds 902 and 904: at 7.5 frames a second, frames 15 and
30. Up to three things are done by a digit at a time, but not a thing and its opposite.

What tells a thing from its opposite is in the order of frames alone, if a clip has as many frames before its key frame
as after it, such as 9: the opposite is the same path followed backwards, all that depends on paths is the same for
both, and what one digit does says nothing about another. With an even number of frames their mean would lie beside the
box, on the side that a digit comes from.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path

import numpy as np

from posmlp_jax.data.prepare.builder import Builder, Recipe
from posmlp_jax.data.prepare.datasets import digits
from posmlp_jax.data.prepare.datasets.moving_digits import CLASSES, draw, encode
from posmlp_jax.data.sources.ava_tables import Boxes, boxes_csv

# Height and width: not square, which finds out who mixes them up.
SIZE = (64, 96)
NUM_FRAMES = 45
FPS = Fraction(15, 2)
BEGIN = 900
# Between the shots of a film is a cut, midway between their key frames.
KEY_FRAMES = {902: 15, 904: 30}
_CUT = 23
FILMS = {"train": 800, "val": 300}
# One change in a film or a table means one more here, so that older prepared ones are not mixed up with it.
_VERSION = "1.0.0"
# Things that are done, by their ids; each is followed by its opposite. That a digit stands still, or is a zero, is
# labelled, but not in the label map, so that it does not count.
ACTIONS = dict(zip((1, 2, 3, 4, 6, 7, 8, 9), CLASSES, strict=True))
STILL, ZERO = 5, 10
_LABELLED = dict(sorted((ACTIONS | {STILL: "still", ZERO: "is a zero"}).items()))
PAIRS = ((1, 2), (3, 4), (6, 7), (8, 9))
_COUNTS = (2, 4)
_IDLE, _MOST = 0.15, 3
# A digit's 8×8 pixels on its key frame, and what changes from frame to frame: as in `moving_digits`.
_SIDE = (14.0, 18.0)
_SPEED = {"shift": (0.9, 1.5), "turn": (7.0, 13.0), "growth": (0.04, 0.065)}
# Shifts and growth turn round so many frames before and after a key frame. A clip ends before that.
_REACH = 5
# The least distance of two digits on the key frame, in the sum of their radii.
_APART = 0.9
_EXCLUDED = 0.08
# What is left above this of a digit's ink, of 255, is in its box.
_INK = 127
_PLACES, _TRIES = 40, 200


@dataclasses.dataclass(frozen=True)
class Actor:
    """A digit and its path through a shot, whose time is in frames from the key frame.

    Attributes:
      digit: [8, 8] in 0..16.
      label: what it shows.
      center: x and y of its middle on the key frame, in pixels.
      side: of its 8×8 pixels on the key frame, in pixels.
      angle: on the key frame, in degrees, clockwise.
      shift: change of the centre per frame, x and y (y points down).
      turn: change of the angle per frame.
      growth: change of the logarithm of the side per frame.
    """

    digit: np.ndarray
    label: int
    center: tuple[float, float]
    side: float
    angle: float
    shift: tuple[float, float] = (0.0, 0.0)
    turn: float = 0.0
    growth: float = 0.0

    @property
    def actions(self) -> list[int]:
        """The ids of what it does, ascending."""
        changes = (self.shift[0], self.shift[1], -self.turn, -self.growth)
        done = [pair[change > 0] for pair, change in zip(PAIRS, changes, strict=True) if change]
        return sorted([*(done or [STILL]), *([ZERO] if self.label == 0 else [])])

    def backwards(self) -> "Actor":
        """The same path, followed from its end to its beginning."""
        x, y = self.shift
        return dataclasses.replace(self, shift=(-x, -y), turn=-self.turn, growth=-self.growth)

    def reach(self) -> tuple[float, float, float]:
        """How far its ink gets from its middle, at the most, and how far its middle does, in x and in y; in pixels."""
        y, x = np.nonzero(self.digit)
        radius = float(np.hypot(np.abs(x - 3.5) + 0.5, np.abs(y - 3.5) + 0.5).max()) * self.side / 8
        return radius * math.exp(abs(self.growth) * _REACH), *(abs(change) * _REACH for change in self.shift)

    def drawn(self, time: int) -> np.ndarray:
        """The digit alone, float32 of SIZE."""
        swing = _swing(time)
        center = np.array([place + change * swing for place, change in zip(self.center, self.shift, strict=True)])
        return draw(self.digit, center, self.side * math.exp(self.growth * swing), self.angle + self.turn * time, SIZE)

    def box(self) -> np.ndarray:
        """That of its ink on the key frame, as shares of the frame, float64 [4], with 3 decimals as AVA has them."""
        y, x = np.nonzero(self.drawn(0) > _INK)
        height, width = SIZE
        return np.round([x.min() / width, y.min() / height, (x.max() + 1) / width, (y.max() + 1) / height], 3)


def _swing(time: int) -> int:
    """To and fro between −_REACH and _REACH, at 0 at time 0, and backwards in time with the other sign."""
    place = abs(time) % (4 * _REACH)
    there = place if place <= _REACH else 2 * _REACH - place if place <= 3 * _REACH else place - 4 * _REACH
    return there if time >= 0 else -there


def draw_shot(rng: np.random.Generator, pixels: np.ndarray, labels: np.ndarray) -> list[Actor]:
    """The digits of a shot, which stay on the canvas and on the key frame apart from each other.

    Args:
      rng: draws how many, which, where and what they do.
      pixels: of the digits to choose from, [n, 8, 8] in 0..16.
      labels: what they show, [n].
    """
    count = int(rng.integers(_COUNTS[0], _COUNTS[1] + 1))
    for _ in range(_TRIES):
        actors: list[Actor] = []
        for _ in range(count):
            actor = _draw_actor(rng, pixels, labels)
            places = (_placed(rng, actor) for _ in range(_PLACES))
            free = next((each for each in places if all(_are_apart(each, other) for other in actors)), None)
            if free is None:
                break
            actors.append(free)
        if len(actors) == count:
            return actors
    raise AssertionError(f"no room for {count} digits")


def _draw_actor(rng: np.random.Generator, pixels: np.ndarray, labels: np.ndarray) -> Actor:
    """A digit that does something; which way it does it, nothing else depends on."""
    number = int(rng.integers(len(labels)))
    done = np.zeros(4, bool)
    done[rng.permutation(4)[: 0 if rng.random() < _IDLE else int(rng.integers(1, _MOST + 1))]] = True
    limits = np.array([_SPEED[kind] for kind in ("shift", "shift", "turn", "growth")])
    changes = rng.choice([-1, 1], 4) * rng.uniform(*limits.T) * done
    x, y, turn, growth = changes.tolist()
    side, angle = float(rng.uniform(*_SIDE)), float(rng.uniform(0, 360))
    return Actor(pixels[number], int(labels[number]), (0.0, 0.0), side, angle, (x, y), turn, growth)


def _placed(rng: np.random.Generator, actor: Actor) -> Actor:
    """The same digit at a place from where it does not leave the canvas."""
    radius, *ways = actor.reach()
    height, width = SIZE
    low = [radius + way for way in ways]
    x, y = rng.uniform(low, [width - low[0], height - low[1]]).tolist()
    return dataclasses.replace(actor, center=(x, y))


def _are_apart(first: Actor, second: Actor) -> bool:
    distance = math.dist(first.center, second.center)
    return distance >= _APART * sum(actor.reach()[0] for actor in (first, second))


def render(actors: list[Actor], times: range) -> np.ndarray:
    """Frames of a shot, uint8 [n, height, width], white on black; later digits hide nothing of earlier ones."""
    return np.stack([np.max([actor.drawn(time) for actor in actors], axis=0) for time in times]).astype(np.uint8)


def shots(split: str, number: int) -> dict[int, list[Actor]]:
    """The digits of each shot of a film, by the second of its key frame."""
    pixels, labels, indices = _digits()
    of_split = indices["train" if split == "train" else "test"]
    rng = np.random.default_rng([list(FILMS).index(split), number])
    return {second: draw_shot(rng, pixels[of_split], labels[of_split]) for second in KEY_FRAMES}


def film(split: str, number: int) -> bytes:
    """The film as an MP4 file."""
    (first, second), frames = KEY_FRAMES.values(), shots(split, number).values()
    times = range(-first, _CUT - first), range(_CUT - second, NUM_FRAMES - second)
    return encode(np.concatenate([render(each, span) for each, span in zip(frames, times, strict=True)]), FPS)


def build(source: Path | None, name: str) -> Recipe:
    """The validation films show the digits of the test split of `digits`; `source` is not used."""
    del source
    files: dict[str, Callable[[], bytes]] = {}
    for split, count in FILMS.items():
        tables = functools.cache(functools.partial(_tables, split, count))
        for table in ("ava_{}_v2.2", "ava_{}_excluded_timestamps_v2.2", "detections_{}"):
            files[f"annotations/{table.format(split)}.csv"] = lambda tables=tables, table=table: tables()[
                table
            ].encode()
        for number in range(count):
            files[f"videos/{_film_name(split, number)}.mp4"] = functools.partial(film, split, number)
    files["annotations/ava_action_list_v2.2_for_activitynet_2019.pbtxt"] = lambda: _label_map(ACTIONS, "item", "id")
    files["annotations/ava_action_list_v2.2.pbtxt"] = lambda: _label_map(_LABELLED, "label", "label_id")
    return Recipe(
        name=name,
        version=_VERSION,
        features=_no_features(),
        splits={},
        fingerprint={"films": FILMS},
        description="Films of digits of 8×8 pixels that move, turn, grow and shrink on a canvas of 96×64.",
        homepage="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
        noun="files",
        files=files,
    )


def _tables(split: str, count: int) -> dict[str, str]:
    """The CSV files of a split, by their names' patterns: ground truth, excluded key frames, detected boxes.

    What is labelled on excluded key frames is wrong. In mmaction2's dialect of the metric it counts as missed all the
    same: 94 % is the most that there is to reach in that.
    """
    rng = np.random.default_rng([len(FILMS) + list(FILMS).index(split), count])
    labelled, found, excluded = [], [], []
    for number in range(count):
        name, people = _film_name(split, number), 0
        for second, actors in shots(split, number).items():
            if left_out := rng.random() < _EXCLUDED:
                excluded.append(f"{name},{second:04d}\n")
            for actor in actors:
                actions = [int(rng.choice([*ACTIONS]))] if left_out else actor.actions
                labelled += [(name, second, actor.box(), action, math.nan, people) for action in actions]
                people += 1
            boxes = _detections(rng, [actor.box() for actor in actors])
            found += [(name, second, box, 0, score, -1) for box, score in boxes]
    tables = (_table(labelled), "".join(excluded), _table(found))
    return dict(zip(("ava_{}_v2.2", "ava_{}_excluded_timestamps_v2.2", "detections_{}"), tables, strict=True))


def _detections(rng: np.random.Generator, boxes: list[np.ndarray]) -> list[tuple[np.ndarray, float]]:
    """What a detector might find of a key frame's boxes, each with its score, the highest first.

    Nearly all with corners a little off, and some of them twice, the second time with less certainty; and boxes where
    nothing is, few of which it is certain of.
    """
    found = []
    for box in boxes:
        if rng.random() < 0.98:
            found.append((_moved(rng, box, 0.05), rng.uniform(0.82, 1)))
        if rng.random() < 0.15:
            found.append((_moved(rng, box, 0.15), rng.uniform(0.3, 0.85)))
    for _ in range(rng.integers(3)):
        corner, side = rng.uniform(0, [0.8, 0.7]), rng.uniform([0.08, 0.12], [0.2, 0.3])
        found.append((np.round([*corner, *(corner + side)], 3), 0.05 + 0.9 * rng.random() ** 3))
    return sorted(((box, round(float(score), 6)) for box, score in found), key=lambda each: -each[1])


def _moved(rng: np.random.Generator, box: np.ndarray, share: float) -> np.ndarray:
    """A box with each corner off by up to a share of its sides."""
    sides = np.tile(box[2:] - box[:2], 2)
    return np.round(np.clip(box + rng.uniform(-share, share, 4) * sides, 0, 1), 3)


def _table(rows: list[tuple]) -> str:
    videos, seconds, boxes, actions, scores, people = zip(*rows, strict=True)
    columns = np.array(seconds), np.array(boxes), np.array(actions), np.array(scores), np.array(people)
    return boxes_csv(Boxes(np.array(videos, object), *columns))


def _label_map(actions: Mapping[int, str], block: str, field: str) -> bytes:
    """As AVA publishes its lists, in two dialects."""
    return "".join(f'{block} {{\n  name: "{name}"\n  {field}: {id}\n}}\n' for id, name in actions.items()).encode()


def _film_name(split: str, number: int) -> str:
    return f"{split}_{number:04d}"


def _no_features() -> object:
    import tensorflow_datasets as tfds

    return tfds.features.FeaturesDict({})


@functools.cache
def _digits() -> tuple[np.ndarray, np.ndarray, Mapping[str, np.ndarray]]:
    return *digits.load(), digits.split_indices()


BUILDER = Builder(build, source="", official="the digits ship with this project")
