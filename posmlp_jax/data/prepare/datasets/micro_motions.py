"""Made-up faces whose brows or mouth move by a pixel or two: micro-expressions that every machine has.

Ten subjects have a texture of their own, on which brows and mouth are dark strokes. In a clip the skin around one of
the two goes up or down, from half of the way below its place to half of the way above it or the other way round. From
the onset to the apex, a clip that goes down is one that goes up, played backwards: both are drawn from one distribution
of paths. So neither a frame nor all of them together tell the one from the other, but only their order. After the apex
the skin goes back to where it was: where a clip began can then be told from how often each place is seen, and so, for
what has to be told by the order of frames, `data.clip_end` is 'apex'.
"""

import functools
import math
from pathlib import Path

import cv2
import numpy as np

from posmlp_jax.data.prepare.builder import Builder, Recipe
from posmlp_jax.data.prepare.micro_clips import THREE_CLASSES, MicroClip, micro_recipe
from posmlp_jax.data.sources.clip_index import ClipInfo

SIZE = 64
SUBJECTS = 10
# Of each emotion, for each subject.
CLIPS = 10
FPS = 200.0
# Frames from the onset to the apex, both included, and after it until the offset. So many frames of a clip are taken
# by models of 8 and of 16 that both directions have the same ones.
RISE, FALL = 8, 5
# The parts of the face and the emotions of their going up and down, with their classes.
PARTS = {"mouth": ("happiness", "repression"), "brow": ("surprise", "disgust")}
EMOTIONS = {"happiness": "positive", "repression": "negative", "surprise": "surprise", "disgust": "negative"}
# One change in a clip means one more here, so that older prepared ones are not mixed up with it.
_VERSION = "1.0.0"
# How far the skin goes from onset to apex, in pixels.
_WAY = (1.5, 2.0)
# Rows of the parts' middles, and how far from there, down and to the side, the skin still moves by e^-½ of the way.
_ROWS = {"mouth": 46.0, "brow": 19.0}
_REACH = (8.0, 16.0)
_QUALITY = 95
# In CASME II's layout, the first frame's number: sorted as texts, later frames would come first.
_ONSET = 95


@functools.cache
def face(subject: int) -> np.ndarray:
    """The face of a subject, float32 [SIZE + 16, SIZE + 16] grey levels: 8 pixels more on each side than is seen."""
    rng = np.random.default_rng([0, subject])
    side = SIZE + 16
    y, x = np.mgrid[:side, :side] - (side - 1) / 2.0
    skin = rng.uniform(130, 180) + _clouds(rng, 5, 18.0, side) + _clouds(rng, 20, 7.0, side)
    skin -= 40 * np.clip(np.hypot(x / 30, y / 34) - 0.8, 0, 1)
    for row, (centers, width, bend) in (
        ("brow", ((-13, 13), rng.uniform(7, 10), rng.uniform(0.5, 3))),
        ("mouth", ((0,), rng.uniform(9, 14), rng.uniform(-2, 2))),
    ):
        thickness, dark = rng.uniform(1.6, 2.6), rng.uniform(80, 110)
        middle = _ROWS[row] - (SIZE - 1) / 2 + rng.uniform(-1.5, 1.5)
        for center in centers:
            across = (x - center) / width
            line = middle + bend * across**2
            skin -= dark * np.exp(-(((y - line) / thickness) ** 2) / 2) * np.exp(-(across**4))
    return skin.astype(np.float32)


def _clouds(rng: np.random.Generator, coarse: int, strength: float, side: int) -> np.ndarray:
    """Smooth noise, [side, side], from coarse² random levels up to `strength` from zero."""
    noise = rng.uniform(-strength, strength, (coarse, coarse))
    return cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)


def draw_path(rng: np.random.Generator) -> np.ndarray:
    """Where the skin of a clip is in each frame when it goes up, float64 [RISE + FALL], in pixels upwards.

    Up to the apex it is the same backwards with the other sign.
    """
    way, steepness = rng.uniform(*_WAY), rng.uniform(1.0, 2.5)
    rise = np.tanh(steepness * np.linspace(-1, 1, RISE)) / math.tanh(steepness)
    fall = np.cos(np.linspace(0, math.pi, FALL + 1))[1:]
    return way / 2 * np.concatenate([rise, fall])


def render(subject: int, part: str, path: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The clip of a subject.

    Args:
      subject: whose face.
      part: 'mouth' or 'brow', what moves.
      path: how far up it is in each frame, in pixels; below zero: down.
      rng: draws where the face is, and its light, which are the same in all frames.

    Returns:
      uint8 [frames, SIZE, SIZE], grey. Equal places in two paths give equal frames.
    """
    left, top = 8 + rng.uniform(-2, 2, size=2)
    light, contrast = rng.uniform(-12, 12), rng.uniform(0.85, 1.15)
    row = _ROWS[part] + rng.uniform(-1, 1)
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    down, aside = _REACH
    share = np.exp(-(((y - row) / down) ** 2 + ((x - (SIZE - 1) / 2) / aside) ** 2) / 2)
    frames = []
    for up in path:
        moved = cv2.remap(
            face(subject), (x + left).astype(np.float32), (y + top + up * share).astype(np.float32), cv2.INTER_CUBIC
        )
        frames.append(np.rint(((moved - 128) * contrast + 128 + light).clip(0, 255)).astype(np.uint8))
    return np.stack(frames)


def make_clip(subject: int, emotion: str, number: int) -> np.ndarray:
    """Clip `number` of a subject's emotion, uint8 [RISE + FALL, SIZE, SIZE].

    With the same number the clips of the two emotions of a part are, up to the apex, each other's reverse.
    """
    part = next(part for part, emotions in PARTS.items() if emotion in emotions)
    rng = np.random.default_rng([1, subject, list(PARTS).index(part), number])
    path = draw_path(rng)
    return render(subject, part, path if emotion == PARTS[part][0] else -path, rng)


def encode(frames: np.ndarray) -> list[bytes]:
    """Each frame as a JPEG."""
    return [cv2.imencode(".jpg", frame, (cv2.IMWRITE_JPEG_QUALITY, _QUALITY))[1].tobytes() for frame in frames]


def write_casme2(folder: Path, subjects: int = SUBJECTS, clips: int = CLIPS) -> None:
    """Writes faces as CASME II is given away: a coding table, and a folder of JPEGs for each clip of a subject.

    Args:
      folder: where to; it may be new.
      subjects: how many people.
      clips: of each emotion, for each of them.
    """
    columns = ("Subject", "Filename", "OnsetFrame", "ApexFrame", "OffsetFrame", "Action Units", "Estimated Emotion")
    lines = [",".join(columns)]
    for subject, emotion, number in _listed(subjects, clips):
        clip = folder / "Cropped" / f"sub{subject:02d}" / f"EP{number:02d}"
        clip.mkdir(parents=True)
        for place, image in enumerate(encode(make_clip(subject, emotion, number))):
            (clip / f"reg_img{_ONSET + place}.jpg").write_bytes(image)
        apex, offset = _ONSET + RISE - 1, _ONSET + RISE + FALL - 1
        lines.append(f"{subject},{clip.name},{_ONSET},{apex},{offset},,{emotion}")
    (folder / "CASME2-coding-made-up.csv").write_text("\n".join(lines) + "\n")


def build(source: Path | None, name: str) -> Recipe:
    """Three classes, as MEGC2019 has them; `source` is not used."""
    del source
    clips = [_clip(*each) for each in _listed(SUBJECTS, CLIPS)]
    return micro_recipe(
        name,
        THREE_CLASSES,
        clips,
        "Made-up faces whose brows or mouth go up or down by a pixel or two.",
        version=_VERSION,
        extra={"clips": [SUBJECTS, CLIPS]},
    )


def _listed(subjects: int, clips: int) -> list[tuple[int, str, int]]:
    """Subject, emotion and number of every clip; opposite emotions have different numbers, and so different clips."""
    return [
        (subject, emotion, len(EMOTIONS) * number + place)
        for subject in range(1, subjects + 1)
        for number in range(clips)
        for place, emotion in enumerate(EMOTIONS)
    ]


def _clip(subject: int, emotion: str, number: int) -> MicroClip:
    person = f"sub{subject:02d}"
    info = ClipInfo(
        id=f"micro_motions/{person}/EP{number:02d}",
        subject=f"micro_motions/{person}",
        emotion=emotion,
        label=THREE_CLASSES.index(EMOTIONS[emotion]),
        apex=RISE - 1,
        frames=RISE + FALL,
    )
    return MicroClip(info, FPS, lambda: encode(make_clip(subject, emotion, number)))


BUILDER = Builder(build, source="", official="the faces are made up")
