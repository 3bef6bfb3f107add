"""What a batch holds of an image's objects, by name."""

from collections.abc import Mapping
from typing import Any

import numpy as np

# Bits along a side of an object's mask. From crops of 112² the targets of a head, 28², are nearly those of whole masks.
SIDE = 112


def target_columns(max_objects: int, masks: bool) -> Mapping[str, tuple[tuple[int, ...], Any]]:
    """The shape and type of one image's values, as `Targets.columns`; `DetectionTargets` says what they are."""
    columns = {"size": ((2,), np.int32), "boxes": ((max_objects, 4), np.float32), "classes": ((max_objects,), np.int32)}
    return columns | ({"masks": ((max_objects, SIDE, SIDE // 8), np.uint8)} if masks else {})
