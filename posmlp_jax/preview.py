"""Draws what the model is trained on: `python -m posmlp_jax.preview --config=configs/digits.py --output=grid.png`.

The first images of the training stream after all augmentation, with their labels. Each row is mixed (mixup, CutMix) by
itself, as each step of training is. Of clips each row is one, and all are mixed as one step. `--config.x.y=…` overrides
any field of the config, as in `main.py`.
"""

from collections.abc import Sequence

if __name__ == "__main__":
    from posmlp_jax.command_line import end_at_ctrl_c

    end_at_ctrl_c()

import jax
import numpy as np
from absl import app, flags
from matplotlib.figure import Figure
from ml_collections import ConfigDict, config_flags

from posmlp_jax.command_line import quieten_libraries, raise_at_ctrl_c
from posmlp_jax.data import open_source, train_batches
from posmlp_jax.errors import exit_on_mistake
from posmlp_jax.figures import save_figure
from posmlp_jax.tasks.classification.losses import soft_targets
from posmlp_jax.tasks.classification.mixing import MixOptions, draw_mask, mix
from posmlp_jax.training.config import resolve_model
from posmlp_jax.training.experiment import resolve_pretrained
from posmlp_jax.training.flags import parse_config_flags

ROWS, COLUMNS = 4, 8
# A label's parts below this are not worth a place in a title.
_LEAST_SHARE = 0.005


def draw_grid(images: np.ndarray, targets: np.ndarray, class_names: Sequence[str] | None) -> Figure:
    """A figure of images with their labels above them.

    Args:
      images: uint8 [rows, columns, height, width, 3].
      targets: the share of each class, [rows, columns, num_classes]; where a row is one clip, [rows, 1, num_classes].
      class_names: in the order of the classes; None: numbers.
    """
    columns, height, width = images.shape[1:4]
    titles = [[_title(target, class_names) for target in row] for row in targets]
    lines = 1 + max(title.count("\n") for row in titles for title in row)
    # Inches: a title needs the width of a few words, and the whole should be no wider than a screen.
    side = max(1.25, min(2.0, width / 112))
    figure = Figure(
        figsize=(side * columns, (side * height / width + 0.12 + 0.14 * lines) * len(images)), layout="constrained"
    )
    axes = figure.subplots(len(images), columns, squeeze=False)
    for axis, image in zip(axes.flat, images.reshape(-1, height, width, 3), strict=True):
        axis.imshow(image, interpolation="nearest" if width < 112 else "antialiased")
        axis.set_axis_off()
    for row, of_row in zip(axes, titles, strict=True):
        # A clip's stands above its first frame.
        for axis, title in zip(row, of_row, strict=False):
            axis.set_title(title, fontsize=8, loc="center" if len(of_row) == columns else "left")
    return figure


def _title(target: np.ndarray, class_names: Sequence[str] | None) -> str:
    """'cat', or for a mixed image 'cat 70 %' and 'dog 30 %' on two lines, the larger share first."""
    names = class_names or [f"class {number}" for number in range(len(target))]
    present = [number for number in np.argsort(-target, kind="stable") if target[number] >= _LEAST_SHARE]
    if len(present) == 1:
        return _shortened(names[present[0]])
    return "\n".join(f"{_shortened(names[number], 14)} {100 * target[number]:.0f} %" for number in present)


def _shortened(name: str, length: int = 19) -> str:
    return name if len(name) <= length else f"{name[: length - 1]}…"


def preview(config: ConfigDict) -> Figure:
    """What a whole config (`default_config()` or a file in `configs/`) trains on, as a figure of 4 × 8 images.

    Of clips it has 4 rows of 8 frames each, evenly spread, or all where there are fewer.

    Raises:
      PosMLPError: for a mistake in the config, or missing data.
    """
    config, base = resolve_pretrained(config)
    source = open_source(config.data, "train", kind=resolve_model(config, {}, base).kind)
    model = resolve_model(config, {"num_classes": source.num_classes}, base)
    size, of_clips = model.input_size, model.kind == "video"
    batch_size = ROWS if of_clips else ROWS * COLUMNS
    batches = train_batches(source, config.data, size, batch_size=batch_size, seed=config.seed)
    batch = next(batches)
    batches.close()
    # What is mixed together: the images of a row, or all clips.
    together = ROWS if of_clips else COLUMNS
    images = batch["image"].reshape(-1, together, *batch["image"].shape[1:])
    targets = np.asarray(soft_targets(batch["label"], source.num_classes)).reshape(len(images), together, -1)
    options = MixOptions(**config.mixing)
    if options.active:
        keys = jax.random.split(jax.random.key(config.seed), ROWS)
        masks = [draw_mask(key, size[-2:], options) for key in keys[: len(images)]]
        mixed = [mix(*row) for row in zip(images.astype(np.float32), targets, masks, strict=True)]
        images = np.stack([np.rint(np.asarray(row)).astype(np.uint8) for row, _ in mixed])
        targets = np.stack([np.asarray(row) for _, row in mixed])
    if of_clips:
        shown = np.linspace(0, size[0] - 1, min(size[0], COLUMNS)).round().astype(int)
        images, targets = images[0][:, shown], targets[0][:, None]
    return draw_grid(images, targets, source.class_names)


def run() -> None:
    """The program: writes the picture that the command line asks for."""
    # Not at the top: whoever imports this module may have flags of these names.
    config = config_flags.DEFINE_config_file("config", None, "A file in configs/.")
    output = flags.DEFINE_string("output", "grid.png", "Where the picture goes.")

    def main(argv: list[str]) -> None:
        del argv
        quieten_libraries()
        save_figure(preview(config.value), output.value)

    raise_at_ctrl_c()
    with exit_on_mistake():
        app.run(main, flags_parser=parse_config_flags)


if __name__ == "__main__":
    run()
