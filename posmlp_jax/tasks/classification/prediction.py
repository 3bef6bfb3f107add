"""What a trained classifier says of a file: its most probable classes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from posmlp_jax.checkpoints.pretrained import Pretrained
from posmlp_jax.errors import CheckpointError, ConfigError
from posmlp_jax.tasks.classification.classifier import classifier
from posmlp_jax.tasks.classification.pictures import BAR_HEIGHT, BARS_WIDTH, draw_bar
from posmlp_jax.tasks.predictor import FilePrediction, Predictor

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Of the most probable classes a picture has no more.
MOST_CLASSES = 10


@dataclass(frozen=True)
class ClassProbability:
    """One class of a prediction: its index among the logits, its name ('class 17' where there are none), its share."""

    name: str
    index: int
    probability: float


@dataclass(frozen=True)
class Prediction(FilePrediction):
    """What a model says of one image or video file.

    Attributes:
      classes: the most probable ones, the most probable first; none for a file that cannot be read.
    """

    classes: tuple[ClassProbability, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The classes."""
        classes = [{"class": each.name, "index": each.index, "probability": each.probability} for each in self.classes]
        return {"predictions": classes}

    def drawn_size(self) -> tuple[float, float]:
        """Of a bar for each class."""
        return BARS_WIDTH, BAR_HEIGHT * min(len(self.classes), MOST_CLASSES)

    def draw(self, axes: "Axes", left: float, top: float) -> None:
        """A bar for each class."""
        for row, each in enumerate(self.classes[:MOST_CLASSES]):
            draw_bar(axes, each.name, each.index, each.probability, left, top + row * BAR_HEIGHT)


class ClassPredictor(Predictor):
    """Names the most probable classes.

    Args:
      pretrained: the trained model, whose weights are read now.
      data: the `data` section of the config that it was trained with.
      top_k: how many classes a prediction has; at most all.

    Raises:
      ConfigError: when the model has no head.
      CheckpointError: when the weights cannot be loaded.
    """

    def __init__(self, pretrained: Pretrained, data: ConfigDict, top_k: int):
        count = min(top_k, pretrained.config.num_classes)
        if not pretrained.config.num_classes:
            raise ConfigError(f"the model has no head (num_classes is 0) and cannot classify: {pretrained.description}")
        self._names = class_names_of(pretrained)
        self._classify = classifier(pretrained.model(), data.mean, data.std, data.test_average)

        @jax.jit
        def likeliest(logits):
            # Of the logits: probabilities are rounded to equal ones earlier.
            _, indices = jax.lax.top_k(logits, count)
            return jnp.take_along_axis(jax.nn.softmax(logits), indices, axis=-1), indices

        self._likeliest = likeliest

    def __call__(self, pixels: np.ndarray, sizes: np.ndarray) -> tuple[jax.Array, jax.Array]:
        """Probabilities and indices of the likeliest classes, [batch, top_k] each; padding is looked at, too."""
        del sizes
        return self._likeliest(self._classify(pixels))

    def read(self, file: FilePrediction, row: tuple[np.ndarray, np.ndarray] | None) -> Prediction:
        """The classes with their names."""
        if row is None:
            return Prediction(**vars(file))
        probabilities, indices = row
        if not np.isfinite(probabilities).all():
            raise CheckpointError(
                f"the checkpoint's weights give no finite numbers for {file.file}: its training diverged"
            )
        classes = (
            ClassProbability(self._names[index], index, probability)
            for index, probability in zip(indices.tolist(), probabilities.tolist(), strict=True)
        )
        return Prediction(**vars(file), classes=tuple(classes))


def class_names_of(pretrained: Pretrained) -> list[str]:
    """A name for every logit: 'class 17' for those that the data set had no name for."""
    names = list(pretrained.class_names or ())
    return names + [f"class {index}" for index in range(len(names), pretrained.config.num_classes)]
