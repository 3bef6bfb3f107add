"""What is known of each clip of a micro-expression: who shows it, which emotion it is, and where its apex lies.

A prepared data set of such clips is one that tfds can read, of videos that are folders of frames. Beside it lies a file
INDEX, which has a `ClipInfo` of each record, in the order of the records: without it all frames would have to be read
to know which clips are one person's.
"""

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from etils import epath

from posmlp_jax.errors import DataError

INDEX = "clips.json"
# The one split of such a data set: what is trained on and what is evaluated, the subjects say.
SPLIT = "clips"
# What `data.clip_end` may be.
CLIP_ENDS = ("apex", "offset")


class ClipInfo(NamedTuple):
    """A clip of a micro-expression.

    Attributes:
      id: 'casme2/sub01/EP02_01f': data set, subject and clip.
      subject: 'casme2/sub01': data sets number their subjects alike, so the person's number alone says nothing.
      emotion: as the data set's table has it, in lower case.
      label: the number of its class.
      apex: the frame of the strongest expression, counted from the clip's first; None where that is not known.
      frames: how many there are, from the onset to the offset.
    """

    id: str
    subject: str
    emotion: str
    label: int
    apex: int | None
    frames: int

    @property
    def dataset(self) -> str:
        """The data set that the subject is of."""
        return self.subject.partition("/")[0]

    @property
    def middle(self) -> int:
        """The apex or, where that is not known, the frame in the middle, as is usual for SMIC."""
        return self.frames // 2 if self.apex is None else self.apex


def index_file(clips: Mapping[str, Sequence[ClipInfo]]) -> bytes:
    """The content of the file INDEX, from the clips of every split in the order of the records."""
    return json.dumps({split: [clip._asdict() for clip in listed] for split, listed in clips.items()}).encode()


def read_index(name: str, folder: epath.Path) -> dict[str, tuple[ClipInfo, ...]]:
    """The clips of every split of a prepared data set.

    Raises:
      DataError: when it has none, or the file is damaged.
    """
    file = folder / INDEX
    if not file.exists():
        raise DataError(
            f"{name} in {folder} does not say whose its clips are (no {INDEX}), which micro-expressions need: take "
            "casme2, samm, smic_hs, megc2019 or micro_motions"
        )
    try:
        return {
            split: tuple(ClipInfo(**clip) for clip in clips) for split, clips in json.loads(file.read_text()).items()
        }
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{file} is damaged ({error}): delete {folder} and prepare it again") from error
