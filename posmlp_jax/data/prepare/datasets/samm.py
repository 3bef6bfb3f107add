"""SAMM from its table of codes and its frames: five classes, or the three of MEGC2019."""

from pathlib import Path

from posmlp_jax.data.prepare.clip_tables import Listed, Protocol, clips_builder
from posmlp_jax.data.prepare.coded_clips import list_coded
from posmlp_jax.data.prepare.micro_clips import THREE_CLASSES

EMOTIONS = ("anger", "contempt", "disgust", "fear", "happiness", "other", "sadness", "surprise")
HOMEPAGE = "http://www2.docm.mmu.ac.uk/STAFF/M.Yap/dataset.php"
_FIVE = ("anger", "contempt", "happiness", "other", "surprise")
FIVE = Protocol(
    "samm",
    _FIVE,
    {name: name for name in _FIVE},
    EMOTIONS,
    {"anger": 57, "contempt": 12, "happiness": 26, "other": 26, "surprise": 15},
    None,
    200.0,
)
THREE = Protocol(
    "samm",
    THREE_CLASSES,
    {
        **dict.fromkeys(("anger", "contempt", "disgust", "fear", "sadness"), "negative"),
        "happiness": "positive",
        "surprise": "surprise",
    },
    EMOTIONS,
    {"negative": 92, "positive": 26, "surprise": 15},
    28,
    200.0,
)
OFFICIAL = (
    "the folder with SAMM_Micro_FACS_Codes_v2.xlsx (or a CSV file) and, there or in a folder below, 006/006_1_2/ with "
    "the frames 006_05562.jpg and so on; from Manchester Metropolitan University"
)


def list_clips(source: Path) -> list[Listed]:
    """All rows of the table, which has text above its header."""
    return list_coded(source, r"^samm.*micro.*facs.*codes", EMOTIONS, "", 3)


_DESCRIPTION = "SAMM: micro-expressions at 200 frames a second, grey."
BUILDER = clips_builder(THREE, list_clips, _DESCRIPTION, HOMEPAGE, f"{OFFICIAL}; three classes, as MEGC2019")
BUILDER_FIVE = clips_builder(FIVE, list_clips, _DESCRIPTION, HOMEPAGE, f"{OFFICIAL}; five classes")
