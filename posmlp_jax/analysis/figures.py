"""Writing figures to files."""

import io
import os

from matplotlib.figure import Figure

from posmlp_jax.errors import ConfigError
from posmlp_jax.paths import as_path, refusal, write_whole


def save_figure(figure: Figure, path: str | os.PathLike) -> None:
    """Writes a figure in the format that the file's ending names, and says so.

    Raises:
      ConfigError: for an ending that Matplotlib has no format for, or a file that cannot be written.
    """
    file = as_path(path)
    formats, ending = figure.canvas.get_supported_filetypes(), file.suffix[1:].lower()
    if ending not in formats:
        raise ConfigError(f"cannot draw '{path}'; the ending should be one of {', '.join(sorted(formats))}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(content := io.BytesIO(), format=ending, dpi=120)
        write_whole(file, content.getvalue())
    except Exception as error:
        if (reason := refusal(error)) is None:
            raise
        raise ConfigError(f"cannot write {path}: {reason}") from error
    print(f"wrote {path}")
