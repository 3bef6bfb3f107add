"""CASME II from its coding table and its frames: five classes, or the three of MEGC2019."""

from pathlib import Path

from posmlp_jax.data.prepare.clip_tables import Listed, Protocol, clips_builder
from posmlp_jax.data.prepare.coded_clips import list_coded
from posmlp_jax.data.prepare.micro_clips import THREE_CLASSES

EMOTIONS = ("disgust", "fear", "happiness", "others", "repression", "sadness", "surprise")
HOMEPAGE = "http://casme.psych.ac.cn/casme/e2"
_FIVE = ("disgust", "happiness", "others", "repression", "surprise")
FIVE = Protocol(
    "casme2",
    _FIVE,
    {name: name for name in _FIVE},
    EMOTIONS,
    {"disgust": 63, "happiness": 32, "others": 99, "repression": 27, "surprise": 25},
    26,
    200.0,
)
THREE = Protocol(
    "casme2",
    THREE_CLASSES,
    {"disgust": "negative", "repression": "negative", "happiness": "positive", "surprise": "surprise"},
    EMOTIONS,
    {"negative": 88, "positive": 32, "surprise": 25},
    24,
    200.0,
    # What MEGC2019's list of 145 clips lacks of the table's: the first has no apex.
    excluded=("sub04/EP12_01f", "sub24/EP02_07"),
)
OFFICIAL = (
    "the folder with CASME2-coding-20140508.xlsx (or a later one, or a CSV file) and, there or in a folder below, "
    "sub01/EP02_01f/ with the frames img46.jpg or reg_img46.jpg, and so on; from the Chinese Academy of Sciences"
)


def list_clips(source: Path) -> list[Listed]:
    """All rows of the table."""
    return list_coded(source, r"^casme2-coding", EMOTIONS, "sub", 2)


_DESCRIPTION = "CASME II: micro-expressions at 200 frames a second."
BUILDER = clips_builder(THREE, list_clips, _DESCRIPTION, HOMEPAGE, f"{OFFICIAL}; three classes, as MEGC2019")
BUILDER_FIVE = clips_builder(FIVE, list_clips, _DESCRIPTION, HOMEPAGE, f"{OFFICIAL}; five classes")
