"""Clips side by side as one picture that moves."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from posmlp_jax.errors import ConfigError
from posmlp_jax.figures import FONT

# Inches, and pixels an inch.
_SIDE, _CAPTION, _DPI = 1.25, 0.26, 100
# Whoever looks is to see where a clip begins.
_LAST = 3


def animate_clips(
    clips: np.ndarray, captions: Sequence[str], *, columns: int = 8, frames_per_second: float = 6.0
) -> bytes:
    """An animated PNG of clips in rows, each below its caption, over and over: the bytes of a file.

    It is a PNG, and not a GIF or a script, because that moves wherever pictures are shown: in a notebook
    (`IPython.display.Image`), on GitHub and on a page. The last frame stays three times as long.

    Args:
      clips: uint8 [n, frames, height, width, 3].
      captions: n of them.
      columns: clips in a row, at most.
      frames_per_second: how fast it is.

    Raises:
      ConfigError: for something else than clips, another number of captions, or no columns or speed.
    """
    clips = np.asarray(clips)
    if clips.ndim != 5 or clips.shape[-1] != 3 or clips.dtype != np.uint8 or not clips.size:
        raise ConfigError(f"clips should be uint8 [n, frames, height, width, 3], not {clips.dtype} {clips.shape}")
    if len(captions) != len(clips):
        raise ConfigError(f"{len(clips)} clips need as many captions, not {len(captions)}")
    if min(columns, frames_per_second) <= 0:
        raise ConfigError(f"columns and frames_per_second should be above 0, not {columns} and {frames_per_second}")
    pictures = _draw_frames(clips, captions, min(columns, len(clips)))
    pause = round(1000 / frames_per_second)
    durations = [pause] * (len(pictures) - 1) + [_LAST * pause]
    first, *rest = map(Image.fromarray, pictures)
    first.save(content := io.BytesIO(), "PNG", save_all=True, append_images=rest, duration=durations, loop=0)
    return content.getvalue()


def _draw_frames(clips: np.ndarray, captions: Sequence[str], columns: int) -> list[np.ndarray]:
    """A picture of all clips for each frame, uint8 [height, width, 3]."""
    rows = -(-len(clips) // columns)
    height = _SIDE * clips.shape[2] / clips.shape[3]
    figure = Figure(figsize=(_SIDE * columns, (height + _CAPTION) * rows), dpi=_DPI, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    shown = []
    for axis, clip, text in zip(axes.flat, clips, captions, strict=False):
        # A name such as '$5' is no mathematics.
        axis.set_title(text, fontsize=FONT, parse_math=False)
        shown.append(axis.imshow(clip[0], interpolation="nearest"))
    canvas, pictures = FigureCanvasAgg(figure), []
    for number in range(clips.shape[1]):
        for image, clip in zip(shown, clips, strict=True):
            image.set_data(clip[number])
        canvas.draw()
        pictures.append(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    return pictures
