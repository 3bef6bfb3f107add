"""Finds the video files that lists name, however they are spread over folders."""

import os
from pathlib import Path

from posmlp_jax.data.sources.class_folders import VIDEOS


class VideoFiles:
    """The video files in a folder and in all folders below it.

    Args:
      root: the folder.
    """

    def __init__(self, root: Path):
        self._root = root
        self._paths: set[Path] = set()
        self._named: dict[str, list[Path]] = {}
        for folder, folders, files in os.walk(root, followlinks=True):
            folders.sort()
            for file in sorted(files):
                if file.lower().endswith(VIDEOS.suffixes):
                    path = Path(folder) / file
                    self._paths.add(path)
                    for name in {file, path.stem}:
                        self._named.setdefault(name, []).append(path)

    def find(self, text: str) -> Path:
        """The file that a list calls `text`.

        `text` is a path below the root, an absolute path, or the name of a file anywhere below the root, with or
        without its suffix. Of several files of the same name the first is taken, but none when `text` says a folder
        that they are not in. A file that is not there has a path all the same: reading it says so.
        """
        path = self._root / text
        if path in self._paths or os.path.isabs(text):
            return path
        found = self._named.get(text)
        return found[0] if found else path
