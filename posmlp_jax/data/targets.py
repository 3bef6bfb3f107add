"""What a batch holds of an example besides its pixels: a task's targets, carried along by augmentation."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from posmlp_jax.data.augment.placement import Placement
from posmlp_jax.data.sources.annotated import AnnotatedSource
from posmlp_jax.data.sources.films import ActionSource
from posmlp_jax.data.sources.labelled import LabelledSource
from posmlp_jax.data.sources.source import Source
from posmlp_jax.errors import ConfigError, DataError, nearest


@runtime_checkable
class Targets(Protocol):
    """Makes the columns of a batch that a task needs of what a source gives as target. Can be pickled, for processes.

    Attributes:
      columns: the shape of one example's value and its type, by name: `{'label': ((), np.int32)}`. What is of any
        number, as boxes are, is filled up to a most.
    """

    columns: Mapping[str, tuple[tuple[int, ...], Any]]

    def __call__(self, target: Any, placement: Placement) -> Mapping[str, Any]:
        """One example's values, by column.

        Args:
          target: as the source gives it, which is not modified.
          placement: where what was in the image, or in each frame of the clip, is in the batch, in pixels. How many
            there are may change from step to step (`data.train_sizes`, `data.canvases`), so shares of the whole are for
            `Task.loss`, to whom the batch says it. Where evaluation has several views of an example, it is that of the
            centre crop, which it would see as its only view.
        """


class Labels:
    """The label of each example, int32, and that of its mirror image where classes have a side: classification's.

    Args:
      source: the examples.
      config: the `data` section; with `flip`, its `flip_label_pairs` are exchanged (`flipped_labels`).

    Raises:
      ConfigError: as `flipped_labels`.
      DataError: when the examples have no labels.
    """

    columns: ClassVar = {"label": ((), np.int32)}

    def __init__(self, source: Source, config: Any):
        if not isinstance(source, LabelledSource):
            raise DataError(f"the {source.kind}s have no labels, which classification needs: {source.description}")
        self._mirrored = flipped_labels(source, config.flip_label_pairs if config.flip else ())

    def __call__(self, target: int, placement: Placement) -> Mapping[str, int]:
        """The label, as the result shows it."""
        return {"label": self._mirrored[target] if placement.mirrored else target}


def flipped_labels(
    source: LabelledSource | AnnotatedSource | ActionSource, pairs: Sequence[Sequence[str]]
) -> np.ndarray:
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


class NoTargets:
    """Nothing besides pixels."""

    columns: ClassVar = {}

    def __call__(self, target: Any, placement: Placement) -> Mapping[str, Any]:
        """No values."""
        del target, placement
        return {}
