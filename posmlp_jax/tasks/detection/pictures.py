"""Draws objects into an image: half-transparent masks, boxes, and labels that stay clear of each other.

Sizes of lines and letters go with the image's, so that a picture looks alike at 200 and at 4000 pixels.
"""

import colorsys
import functools
import math
from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image, ImageDraw, ImageFont

from posmlp_jax.terminal import printable

# Shares of √(height · width).
_LINE, _LETTERS = 1 / 350, 1 / 42
# Pixels: smaller letters cannot be read.
_LEAST_LETTERS = 11
# How much of a pixel's own colour a mask leaves.
_TRANSPARENCY = 0.55
# Hues this far apart, in turns, are never near each other for classes that follow each other.
_GOLDEN = (math.sqrt(5) - 1) / 2

Colour = tuple[int, int, int]


def draw_objects(
    image: UInt8[np.ndarray, "height width 3"],
    boxes: Float[np.ndarray, "n 4"],
    classes: Int[np.ndarray, "n"],
    labels: Sequence[str] = (),
    masks: Iterable[Bool[np.ndarray, "height width"]] = (),
) -> UInt8[np.ndarray, "height width 3"]:
    """A copy of an image with objects drawn into it, each in the colour of its class.

    Args:
      image: of any size; RGB.
      boxes: of the objects, the most important first: its label has the first choice of a place, and lies on top.
      classes: their numbers.
      labels: one for each object on one line, in letters that `figures.can_draw`; none: no object has one.
      masks: of each object in the order of the boxes, or none at all. They are asked for one by one, as those of a
        large image fill the memory.
    """
    drawn = np.array(image)
    colours = [class_colour(number) for number in classes.tolist()]
    scale = math.sqrt(drawn.shape[0] * drawn.shape[1])
    line = max(round(scale * _LINE), 1)
    for mask, colour in zip(masks, colours, strict=False):
        _shade(drawn, mask, colour, line)
    for box, colour in zip(boxes[::-1], colours[::-1], strict=True):
        (left, top), (right, bottom) = _pixels(box[:2], drawn), _pixels(box[2:] - 1, drawn)
        cv2.rectangle(drawn, (left, top), (max(left, right), max(top, bottom)), colour, line)
    if not labels:
        return drawn
    picture = Image.fromarray(drawn)
    _write_labels(picture, boxes, colours, labels, max(round(scale * _LETTERS), _LEAST_LETTERS))
    return np.asarray(picture)


def class_colour(number: int) -> Colour:
    """RGB: a bright one for each class, those of the first dozens all told apart."""
    hue = (0.57 + number * _GOLDEN) % 1
    # Of every four neighbours one is paler and one darker: hues come near each other again after 21 classes.
    saturation, value = ((0.9, 1.0), (0.5, 1.0), (0.95, 0.7), (0.65, 0.9))[number % 4]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def _shade(image: np.ndarray, mask: np.ndarray, colour: Colour, line: int) -> None:
    """Lays a colour over a mask, in place, with a line around it."""
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    if not width:
        return
    inside = np.s_[top : top + height, left : left + width]
    part, covered = image[inside], mask[inside]
    part[covered] = np.rint(_TRANSPARENCY * part[covered] + (1 - _TRANSPARENCY) * np.array(colour)).astype(np.uint8)
    outlines, _ = cv2.findContours(covered.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(image, outlines, -1, colour, max(line // 2, 1), offset=(left, top))


def _pixels(point: np.ndarray, image: np.ndarray) -> tuple[int, int]:
    """A point as the number of a column and a row of the image."""
    height, width = image.shape[:2]
    x, y = np.rint(point).astype(int).tolist()
    return min(max(x, 0), width - 1), min(max(y, 0), height - 1)


def _write_labels(
    picture: Image.Image, boxes: np.ndarray, colours: Sequence[Colour], labels: Sequence[str], letters: int
) -> None:
    font = _font(letters)
    margin = max(letters // 6, 1)
    ascent, descent = font.getmetrics()
    height = ascent + descent + margin
    placed = np.zeros((0, 4))
    texts = []
    for box, label in zip(boxes, labels, strict=True):
        # A long name would hide others' objects; of small images it takes more.
        most = min(max(picture.width // 2, 12 * letters), picture.width - 2 * margin)
        text = _shortened(label, font, most)
        size = math.ceil(font.getlength(text)) + 2 * margin, height
        placed = np.vstack([placed, _place(box, size, picture.size, placed)])
        texts.append(text)
    draw = ImageDraw.Draw(picture)
    for (left, top, right, bottom), text, colour in reversed(list(zip(placed.tolist(), texts, colours, strict=True))):
        draw.rectangle((left, top, right - 1, bottom - 1), fill=colour)
        draw.text((left + margin, top + margin / 2), text, fill=_readable_on(colour), font=font)


def _place(box: np.ndarray, size: tuple[int, int], whole: tuple[int, int], taken: np.ndarray) -> np.ndarray:
    """Where a label goes, x1, y1, x2, y2: beside or in its box, and on others only where all places are taken."""
    (width, height), (x1, y1, x2, y2) = size, np.rint(box)
    corners = np.array(
        [
            (x1, y1 - height),
            (x1, y1),
            (x1, y2),
            (x1, y2 - height),
            (x2 - width, y1 - height),
            (x2 - width, y1),
            (x2 - width, y2),
            (x2 - width, y2 - height),
        ]
    )
    corners = np.clip(corners, 0, np.maximum(np.array(whole) - size, 0))
    places = np.concatenate([corners, corners + size], axis=1)
    overlap = np.minimum(places[:, None, 2:], taken[:, 2:]) - np.maximum(places[:, None, :2], taken[:, :2])
    return places[np.argmin(overlap.clip(0).prod(axis=-1).sum(axis=-1))]


def _shortened(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """The text or, of one of more than a width in pixels, its beginning and the score at its end."""
    if font.getlength(text) <= width:
        return text
    name, space, score = text.rpartition(" ")
    while name and font.getlength(f"{name}…{space}{score}") > width:
        name = name[:-1]
    return f"{name}…{space}{score}"


def _readable_on(colour: Colour) -> str:
    red, green, blue = colour
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 120 else "white"


def label_text(name: str, index: int, score: float | None = None) -> str:
    """'dog 0.93', with the class's number where the font lacks a letter of its name; without a score the name alone."""
    # Not above: Matplotlib takes a third of a second, which a run should not wait for.
    from posmlp_jax.figures import can_draw

    name = printable(name)
    name = name if can_draw(name) else f"class {index}"
    return name if score is None else f"{name} {score:.2f}"


@functools.cache
def _font(letters: int) -> ImageFont.FreeTypeFont:
    from matplotlib.font_manager import findfont

    return ImageFont.truetype(findfont("DejaVu Sans"), letters)
