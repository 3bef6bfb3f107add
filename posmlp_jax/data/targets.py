"""Classes that mirroring makes into each other, as 'left' and 'right'."""

from collections.abc import Sequence

import numpy as np

from posmlp_jax.data.sources.source import Source
from posmlp_jax.errors import ConfigError, nearest


def flipped_labels(source: Source, pairs: Sequence[Sequence[str]]) -> np.ndarray:
    """Each class's label after mirroring, int64 [num_classes].

    Args:
      source: whose classes these are.
      pairs: of names of classes, `(('left', 'right'), …)`. All others stay what they are, and those of generated
        examples whatever the pairs are.

    Raises:
      ConfigError: for a name that no class has, or that is in two pairs, and for classes without names.
    """
    labels = np.arange(source.num_classes)
    if not pairs or source.generated:
        return labels
    if source.class_names is None:
        raise ConfigError(f"data.flip_label_pairs names classes, but those of {source.description} have no names")
    seen = set()
    for pair in pairs:
        if isinstance(pair, str) or len(pair) != 2:
            raise ConfigError(f"data.flip_label_pairs holds {pair!r}, and should hold pairs, as ('left', 'right')")
        for name in pair:
            if name not in source.class_names:
                raise ConfigError(
                    f"data.flip_label_pairs: no class of {source.description} is called '{name}'; "
                    f"{nearest(str(name), source.class_names)}"
                )
            if name in seen:
                raise ConfigError(f"data.flip_label_pairs has '{name}' twice")
            seen.add(name)
        first, second = map(source.class_names.index, pair)
        labels[first], labels[second] = second, first
    return labels
