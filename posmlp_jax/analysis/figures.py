"""Writing figures to files."""

from pathlib import Path

from matplotlib.figure import Figure

from posmlp_jax.errors import ConfigError


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a figure in the format that the file's ending names, and says so.

    Raises:
      ConfigError: for an ending that Matplotlib has no format for, or a file that cannot be written.
    """
    formats = figure.canvas.get_supported_filetypes()
    if path.suffix[1:].lower() not in formats:
        raise ConfigError(f"cannot draw '{path}'; the ending should be one of {', '.join(sorted(formats))}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=120)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from error
    print(f"wrote {path}")
