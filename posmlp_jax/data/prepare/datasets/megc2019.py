"""The composite of MEGC2019: CASME II, SAMM and SMIC-HS together, in three classes.

See et al., "MEGC 2019 – The Second Facial Micro-Expressions Grand Challenge". Its organisers give a list of its clips,
`combined_3class_gt.csv`, with lines as `casme2,sub01,EP02_01f,1`. Where that lies in the folder, the clips are those
that it has; else those of the three tables that have one of the emotions, without what the list leaves out.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from posmlp_jax.data.prepare.builder import Builder, Recipe
from posmlp_jax.data.prepare.clip_tables import Listed, clip_key, make_clips
from posmlp_jax.data.prepare.datasets import casme2, samm, smic_hs
from posmlp_jax.data.prepare.lists import read_text
from posmlp_jax.data.prepare.micro_clips import THREE_CLASSES, micro_recipe
from posmlp_jax.errors import DataError, nearest

HOMEPAGE = "https://facial-micro-expressiongc.github.io/MEGC2019"
PARTS = {"casme2": casme2, "samm": samm, "smic_hs": smic_hs}
OFFICIAL = (
    "a folder with casme2/, samm/ and smic_hs/, each as for these data sets, and where you have it "
    "combined_3class_gt.csv, the challenge's list of clips"
)
_LIST = "combined_3class*.csv"
# As the list calls the data sets.
_LISTED_AS = {"casme2": "casme2", "samm": "samm", "smic": "smic_hs"}


def build(source: Path | None, name: str) -> Recipe:
    """The three parts, one after the other.

    Raises:
      DataError: for what the parts' tables and folders, and the list, have wrong.
    """
    missing = [part for part in PARTS if not (source / part).is_dir()]
    if missing:
        raise DataError(f"{source} has no folder {' and no '.join(f'{part}/' for part in missing)}: give {OFFICIAL}")
    listed = {part: module.list_clips(source / part) for part, module in PARTS.items()}
    chosen = _read_list(source, listed)
    clips, notes = [], []
    for part, module in PARTS.items():
        found, said = make_clips(module.THREE, listed[part], source / part, chosen and chosen[part])
        clips += found
        notes += said
    good = [clip.info for clip in clips if not clip.broken]
    total = sum(sum(module.THREE.counts.values()) for module in PARTS.values())
    notes.append(
        f"{name}: {len(good)} clips of {len({info.subject for info in good})} subjects"
        + (f"; the whole composite has {total} of 68" if len(good) != total else "")
    )
    return micro_recipe(
        name,
        THREE_CLASSES,
        clips,
        "The composite of MEGC2019: micro-expressions of CASME II, SAMM and SMIC-HS in three classes.",
        homepage=HOMEPAGE,
        notes=notes,
    )


def _read_list(source: Path, listed: Mapping[str, list[Listed]]) -> dict[str, set[str]] | None:
    """The clips that the challenge's list has, by part and key; None where there is no list.

    Raises:
      DataError: for a line that cannot be understood, or has a clip that its part has not, or has in another class.
    """
    files = sorted(source.glob(_LIST))
    if not files:
        return None
    if len(files) > 1:
        raise DataError(f"{source} has {len(files)} lists of clips, {files[0].name} and {files[1].name}: keep one")
    known = {part: {_short(one.name): one for one in of_part} for part, of_part in listed.items()}
    chosen: dict[str, set[str]] = {part: set() for part in PARTS}
    for number, line in enumerate(read_text(files[0]).splitlines(), 1):
        fields = [field.strip() for field in line.split(",")]
        if not any(fields):
            continue
        where = f"{files[0]}, line {number}"
        if len(fields) != 4 or fields[0] not in _LISTED_AS or fields[3] not in ("0", "1", "2"):
            raise DataError(
                f"{where}: expected 'data set,subject,clip,class' with one of {', '.join(_LISTED_AS)} and a class from "
                f"0 to 2, not '{line[:60]}'"
            )
        part, name = _LISTED_AS[fields[0]], f"{fields[1]}/{fields[2]}"
        one = known[part].get(_short(name))
        if one is None:
            near = nearest(_short(name), known[part])
            raise DataError(f"{where}: {source / part} has no clip {name} in its table or folders; {near}")
        its_class = PARTS[part].THREE.class_of.get(one.emotion)
        if its_class != (wanted := THREE_CLASSES[int(fields[3])]):
            raise DataError(f"{where}: {name} is {wanted} there, and {one.emotion} ({its_class}) in {one.where}")
        chosen[part].add(clip_key(one.name))
    return chosen


def _short(name: str) -> str:
    """A clip's key, in which 's01_ne_01' of the list is 's1_ne_01' of SMIC's folders."""
    return re.sub(r"/s0*(\d+)_", r"/s\1_", clip_key(name))


BUILDER = Builder(build, source="DIR", official=OFFICIAL)
