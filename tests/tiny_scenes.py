"""Annotated images of a few kilobytes, prepared as a data set, and a detector that trains on them in seconds."""

import io

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from posmlp_jax.data.prepare.annotated_images import AnnotatedImage, annotated_recipe
from posmlp_jax.data.prepare.shards import write_dataset
from posmlp_jax.data.sources.objects import Category
from posmlp_jax.paths import as_path
from posmlp_jax.training import default_config

NAME = "tiny_scenes"
CATEGORIES = (Category(3, "red"), Category(5, "green"), Category(11, "blue"))
# Wide images and high ones: of each canvas some.
CANVASES = ((48, 64), (64, 48))
_SIZES = ((44, 64), (64, 40), (48, 60))


def _image(random: np.random.Generator, number: int) -> tuple[AnnotatedImage, bytes]:
    """Rectangles in the colour of their class; every seventh image is empty, and every fifth has a crowd."""
    height, width = _SIZES[number % len(_SIZES)]
    pixels = random.integers(90, 130, (height, width, 3)).astype(np.uint8)
    annotations = []
    for _ in range(0 if number % 7 == 6 else random.integers(1, 4)):
        label, crowd = int(random.integers(3)), int(number % 5 == 4 and not annotations)
        side_y, side_x = random.integers(10, 28, 2)
        y, x = int(random.integers(height - side_y)), int(random.integers(width - side_x))
        pixels[y : y + side_y, x : x + side_x] = 40
        pixels[y : y + side_y, x : x + side_x, label] = 230
        box = [x, y, int(side_x), int(side_y)]
        corners = [float(side) for side in (x, y, x + box[2], y, x + box[2], y + box[3], x, y + box[3])]
        annotations.append(
            {
                "id": 10 * number + len(annotations),
                "category_id": CATEGORIES[label].id,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": crowd,
                "segmentation": None if crowd else [corners],
            }
        )
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "PNG")
    return AnnotatedImage(100 + number, f"{number}.png", (height, width), annotations), encoded.getvalue()


def write_scenes(folder, train: int = 40, validation: int = 10) -> None:
    """Prepares the data set in a data_dir."""
    random = np.random.default_rng(0)
    made = [_image(random, number) for number in range(train + validation)]
    encoded = {image.id: content for image, content in made}
    images = [image for image, _ in made]
    recipe = annotated_recipe(
        NAME,
        CATEGORIES,
        {"train": images[:train], "validation": images[train:]},
        lambda split, image: encoded[image.id],
        fingerprint={},
        description="Rectangles.",
    )
    write_dataset(recipe, as_path(folder), 0.0)


def scenes_config(folder, detector: str, **changes) -> ConfigDict:
    """A config that trains a detector of two stages on it, eight images of one canvas a step."""
    config = default_config(detector, "detection")
    config.model.update(
        image_size=64,
        widths=(8, 16),
        depths=(1, 1),
        expansions=(2, 2),
        windows=(4, 4),
        groups=(2, 4),
        dropout=0.1,
        drop_path=0.2,
        fpn_width=8,
        first_map=0,
        levels=2,
        anchor_scale=4.0,
        candidates=30,
        max_detections=10,
    )
    if detector.startswith("mask_rcnn"):
        config.model.update(box_width=16, box_side=3, mask_side=4, mask_depth=1, proposals=20)
    else:
        config.model.tower_depth = 1
    config.data.update(name=NAME, data_dir=str(folder), crop="fit", canvases=CANVASES, threads=1)
    config.mask_rcnn.update(anchors=16, candidates=30, proposals=20, regions=16)
    config.update(batch_size=8, max_objects=4, length="8 steps", keep_best="eval/box_ap", ema_decay=0.0, devices=1)
    config.optimizer.update(peak_rate=3e-3, warmup="2 steps", constant="0 steps")
    config.update(log_every="1 steps", eval_every="4 steps", checkpoint_every="4 steps")
    config.update_from_flattened_dict(changes)
    return config
