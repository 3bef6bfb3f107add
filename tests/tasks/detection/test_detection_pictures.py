"""Objects drawn into images: where the pixels are that change, and what is readable."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from posmlp_jax.tasks.detection import pictures
from posmlp_jax.tasks.detection.pictures import class_colour, draw_objects, label_text

GREY = np.full((120, 160, 3), 128, np.uint8)


def changed(drawn: np.ndarray, image: np.ndarray = GREY) -> np.ndarray:
    """Which pixels are no longer what they were."""
    return (drawn != image).any(axis=-1)


def draw(boxes, classes=None, labels=(), masks=(), image=GREY) -> np.ndarray:
    boxes = np.array(boxes, np.float64).reshape(-1, 4)
    return draw_objects(image, boxes, np.arange(len(boxes)) if classes is None else np.array(classes), labels, masks)


def test_nothing_changes_nothing():
    image = GREY.copy()
    assert not changed(draw([], image=image)).any()
    image.setflags(write=False)
    assert changed(draw([(10, 10, 50, 40)], image=image)).any()
    np.testing.assert_array_equal(image, GREY)


def test_a_box_is_drawn_on_its_own_pixels():
    """From the first column that the box covers to the last: x2 − 1, as a box is of pixels' edges."""
    drawn = changed(draw([(20, 30, 60, 70)]))
    rows, columns = np.nonzero(drawn)
    assert (columns.min(), rows.min(), columns.max(), rows.max()) == (20, 30, 59, 69)
    assert not drawn[32:68, 22:58].any()


@pytest.mark.parametrize("box", [(-50, -50, 300, 300), (10, 10, 10, 10), (159.9, 119.9, 160, 120), (0, 0, 0.2, 0.2)])
def test_boxes_that_lie_outside_or_are_almost_nothing(box):
    assert changed(draw([box], labels=["dog 0.50"])).any()


def test_a_mask_is_half_transparent_where_it_is():
    mask = np.zeros(GREY.shape[:2], bool)
    mask[40:60, 50:90] = True
    bright = GREY.copy()
    bright[:, 70:] = 200
    drawn = draw([(50, 40, 90, 60)], [3], masks=[mask], image=bright)
    inner = drawn[43:57, 53:87].astype(int)
    assert changed(drawn, bright)[mask].all()
    assert not changed(drawn, bright)[~mask].any()
    # What is below shows, and the colour, too.
    assert (inner[:, -1] > inner[:, 0]).any()
    expected = 0.55 * 128 + 0.45 * np.array(class_colour(3))
    np.testing.assert_allclose(inner[0, 0], expected, atol=1)


def test_classes_have_colours_of_their_own():
    colours = np.array([class_colour(number) for number in range(24)])
    apart = np.abs(colours[:, None] - colours).sum(axis=-1) + 1000 * np.eye(24, dtype=int)
    assert apart.min() > 30
    one, same, other = (draw([(20, 30, 60, 70)], [number])[30, 20] for number in (5, 5, 6))
    assert (one == same).all()
    assert (one != other).any()


def placed(monkeypatch, draw_them) -> list[tuple[float, ...]]:
    """The rectangles of the labels that `draw_them` writes, the last drawn first."""
    found = []
    rectangle = ImageDraw.ImageDraw.rectangle
    monkeypatch.setattr(
        ImageDraw.ImageDraw, "rectangle", lambda self, xy, **style: found.append(xy) or rectangle(self, xy, **style)
    )
    draw_them()
    return found[::-1]


def test_labels_stay_clear_of_each_other_and_within_the_image(monkeypatch):
    boxes = [(60, 50, 140, 110), (62, 52, 138, 108), (60, 50, 130, 100), (0, 0, 30, 30), (150, 110, 160, 120)]
    labels = placed(monkeypatch, lambda: draw(boxes, labels=["dog 0.90", "cat 0.80", "emu 0.70", "x 0.60", "y 0.50"]))
    # The most important has the first place, above its box.
    assert labels[0][0] == 60
    assert labels[0][3] == 49
    for number, (left, top, right, bottom) in enumerate(labels):
        assert 0 <= left < right < 160
        assert 0 <= top < bottom < 120
        for other in labels[:number]:
            assert left > other[2] or right < other[0] or top > other[3] or bottom < other[1]


@pytest.mark.parametrize("height", [200, 1000, 4000])
def test_letters_grow_with_the_image(monkeypatch, height):
    image = np.zeros((height, height, 3), np.uint8)
    (label,) = placed(monkeypatch, lambda: draw([(50, 100, 150, 180)], labels=["dog 0.90"], image=image))
    assert max(13, height / 45) < label[3] - label[1] < max(18, height / 25)


def test_long_names_keep_their_score(monkeypatch):
    written = []
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", lambda self, xy, text, **style: written.append(text))
    draw([(0, 0, 50, 50)], labels=["a_name_that_is_longer_than_the_whole_of_the_image 0.87"])
    assert written[0].startswith("a_name")
    assert written[0].endswith("… 0.87")


def test_names_that_the_font_lacks_are_numbers():
    assert label_text("Größe", 3, 0.876) == "Größe 0.88"
    assert label_text("Ёлка", 3) == "Ёлка"
    assert label_text("日本語", 3, 0.5) == "class 3 0.50"
    assert label_text("two\nlines", 0, 1.0) == "two\\nlines 1.00"


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (300, 2)])
def test_odd_sizes(size):
    drawn = draw([(0, 0, size[1], size[0])], labels=["dog 0.90"], image=np.zeros((*size, 3), np.uint8))
    assert drawn.shape == (*size, 3)


def test_masks_are_asked_for_one_by_one(monkeypatch):
    """Of a photo of 12 megapixels a hundred masks are a gigabyte."""
    waiting = []

    def masks():
        for number in range(3):
            waiting.append(number)
            yield np.zeros(GREY.shape[:2], bool)

    def shade(*given):
        assert len(waiting) == 1
        waiting.clear()

    monkeypatch.setattr(pictures, "_shade", shade)
    draw([(0, 0, 9, 9)] * 3, masks=masks())


def test_a_picture_of_it_can_be_saved(tmp_path):
    drawn = draw([(20, 30, 60, 70)], labels=["dog 0.90"])
    Image.fromarray(drawn).save(tmp_path / "drawn.png")
    np.testing.assert_array_equal(Image.open(tmp_path / "drawn.png"), drawn)
