"""Draws what the model is trained on: `python -m posmlp_jax.preview --config=configs/digits.py --output=grid.png`.

The first images of the training stream after all augmentation, with what they are labelled as. Each row is mixed
(mixup, CutMix) by itself, as each step of training is. Of clips each row is one, and all are mixed as one step.
`--config.x.y=…` overrides any field of the config, as in `main.py`.
"""

from collections.abc import Sequence
from contextlib import closing

if __name__ == "__main__":
    from posmlp_jax.command_line import begin_program

    begin_program()

import jax
import numpy as np
from absl import app, flags
from matplotlib.figure import Figure
from ml_collections import ConfigDict, config_flags

from posmlp_jax.command_line import quieten_libraries, raise_at_ctrl_c
from posmlp_jax.data import train_batches, training_sizes
from posmlp_jax.errors import ConfigError, exit_on_mistake
from posmlp_jax.figures import check_figure_path, save_figure
from posmlp_jax.paths import as_path
from posmlp_jax.tasks import find_task
from posmlp_jax.training.config import resolve_model
from posmlp_jax.training.experiment import resolve_pretrained
from posmlp_jax.training.flags import parse_config_flags

ROWS, COLUMNS = 4, 8


def draw_grid(images: np.ndarray, captions: Sequence[Sequence[str]]) -> Figure:
    """A figure of images with their captions above them.

    Args:
      images: uint8 [rows, columns, height, width, 3].
      captions: one for each image or, where a row is one clip, one a row.
    """
    columns, height, width = images.shape[1:4]
    lines = 1 + max(text.count("\n") for row in captions for text in row)
    # Inches: a caption needs the width of a few words, and the whole should be no wider than a screen.
    side = max(1.25, min(2.0, width / 112))
    figure = Figure(
        figsize=(side * columns, (side * height / width + 0.12 + 0.14 * lines) * len(images)), layout="constrained"
    )
    axes = figure.subplots(len(images), columns, squeeze=False)
    for axis, image in zip(axes.flat, images.reshape(-1, height, width, 3), strict=True):
        axis.imshow(image, interpolation="nearest" if width < 112 else "antialiased")
        axis.set_axis_off()
    for row, of_row in zip(axes, captions, strict=True):
        # A clip's stands above its first frame.
        for axis, text in zip(row, of_row, strict=False):
            axis.set_title(text, fontsize=8, loc="center" if len(of_row) == columns else "left")
    return figure


def preview(config: ConfigDict) -> Figure:
    """What a whole config (`default_config()` or a file in `configs/`) trains on, as a figure of 4 × 8 images.

    Of clips it has 4 rows of 8 frames each, evenly spread, or all where there are fewer.

    Raises:
      PosMLPError: for a mistake in the config, or missing data.
    """
    config, base = resolve_pretrained(config)
    task = find_task(config.task)
    source = task.open_source(config.data, "train", resolve_model(config, {}, base).kind)
    model = resolve_model(config, task.model_fields(source), base)
    task = task(config, model, source)
    sizes, of_clips = training_sizes(config.data, model.input_size), model.kind == "video"
    batch_size = ROWS if of_clips else ROWS * COLUMNS
    targets = task.targets(source)
    with closing(
        train_batches(source, config.data, sizes, targets=targets, batch_size=batch_size, seed=config.seed)
    ) as batches:
        batch = next(batches)
    # What a step would have together: the images of a row, or all clips.
    together = ROWS if of_clips else COLUMNS
    keys = jax.random.split(jax.random.key(config.seed), ROWS)
    parts = [
        task.illustrate(keys[first // together], {name: x[first : first + together] for name, x in batch.items()})
        for first in range(0, batch_size, together)
    ]
    images, captions = np.stack([images for images, _ in parts]), [captions for _, captions in parts]
    if of_clips:
        frames = images.shape[2]
        shown = np.linspace(0, frames - 1, min(frames, COLUMNS)).round().astype(int)
        images, captions = images[0][:, shown], [[text] for text in captions[0]]
    return draw_grid(images, captions)


def _check_output(output: str, data_dir: str) -> None:
    """Refuses a picture that cannot be written, or that would be among the data, or in place of an example."""
    check_figure_path(output)
    if data_dir and as_path(data_dir).resolve() in as_path(output).resolve().parent.parents:
        raise ConfigError(f"cannot write {output} in a folder of the data in {data_dir}; choose another --output")


def run() -> None:
    """The program: writes the picture that the command line asks for."""
    # Not at the top: whoever imports this module may have flags of these names.
    config = config_flags.DEFINE_config_file("config", None, "A file in configs/.")
    output = flags.DEFINE_string("output", "grid.png", "Where the picture goes.")

    def main(argv: list[str]) -> None:
        del argv
        quieten_libraries()
        _check_output(output.value, config.value.data.data_dir)
        save_figure(preview(config.value), output.value)

    raise_at_ctrl_c()
    with exit_on_mistake():
        app.run(main, flags_parser=parse_config_flags)


if __name__ == "__main__":
    run()
