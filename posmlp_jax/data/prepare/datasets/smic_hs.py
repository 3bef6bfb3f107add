"""SMIC-HS, the high-speed camera's part of SMIC, which has no table: its folders say who shows what."""

from collections.abc import Mapping
from pathlib import Path

from posmlp_jax.data.prepare.clip_frames import folders_below, numbered_folders
from posmlp_jax.data.prepare.clip_tables import Listed, Protocol, clips_builder
from posmlp_jax.data.prepare.micro_clips import THREE_CLASSES
from posmlp_jax.errors import DataError, nearest

HOMEPAGE = "https://www.oulu.fi/cmvs/node/41319"
THREE = Protocol(
    "smic_hs",
    THREE_CLASSES,
    {name: name for name in THREE_CLASSES},
    THREE_CLASSES,
    {"negative": 70, "positive": 51, "surprise": 43},
    16,
    100.0,
)
OFFICIAL = (
    "the folder HS with s1/micro/negative/s1_ne_01/ and so on, of the frames from onset to offset, or a folder above "
    "it; from the University of Oulu"
)
_DEPTH = 3
_MICRO = "micro"


def list_clips(source: Path) -> list[Listed]:
    """All clips in the folders of micro-expressions. Their frames go from onset to offset; an apex is not known.

    Raises:
      DataError: when the folders are missing or there twice, or one of an emotion has an unknown name.
    """
    if not source.is_dir():
        raise DataError(f"{source} is no folder: give {OFFICIAL}")
    listed = []
    for number, subject in sorted(_find_subjects(source).items()):
        for emotion in sorted(path for path in (subject / _MICRO).iterdir() if path.is_dir()):
            if emotion.name.lower() not in THREE.emotions:
                raise DataError(f"{emotion}: unknown emotion; {nearest(emotion.name.lower(), THREE.emotions)}")
            for clip in sorted(path for path in emotion.iterdir() if path.is_dir()):
                listed.append(Listed(f"s{number:02d}", clip.name, emotion.name.lower(), clip, str(clip)))
    if not listed:
        raise DataError(f"{source} has no clip in its folders s1/{_MICRO}/negative, …: give {OFFICIAL}")
    return listed


def _find_subjects(source: Path) -> Mapping[int, Path]:
    """The subjects' folders, by their numbers."""
    found = []
    for folder in folders_below(source, _DEPTH):
        subjects = {
            number: path for number, path in numbered_folders(folder, ("s",)).items() if (path / _MICRO).is_dir()
        }
        if subjects:
            found.append((folder, subjects))
    if len(found) > 1:
        raise DataError(
            f"{' and '.join(str(folder) for folder, _ in found[:2])} both have micro-expressions: give the one of the "
            "high-speed camera, HS"
        )
    if not found:
        raise DataError(f"{source} has no folders s1/{_MICRO}, s2/{_MICRO}, …: give {OFFICIAL}")
    return found[0][1]


BUILDER = clips_builder(
    THREE, list_clips, "SMIC-HS: micro-expressions at 100 frames a second.", HOMEPAGE, f"{OFFICIAL}; three classes"
)
