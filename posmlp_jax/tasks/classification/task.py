"""Classification: which of its classes an image or a clip shows."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath
from flax import nnx
from jaxtyping import Array, Float, Key
from ml_collections import ConfigDict

from posmlp_jax.checkpoints.pretrained import Pretrained
from posmlp_jax.data import LabelledSource, open_source
from posmlp_jax.data.targets import Labels
from posmlp_jax.errors import ConfigError
from posmlp_jax.models.backbone import Backbone, BackboneConfig
from posmlp_jax.tasks.classification.counts import describe_counts, is_unbalanced
from posmlp_jax.tasks.classification.losses import soft_targets
from posmlp_jax.tasks.classification.mixing import MixOptions, draw_mask, mix
from posmlp_jax.tasks.classification.objective import ClassificationObjective
from posmlp_jax.tasks.classification.outcomes import METRICS, Outcomes, class_names
from posmlp_jax.tasks.classification.pictures import caption
from posmlp_jax.tasks.classification.prediction import ClassPredictor, class_names_of
from posmlp_jax.tasks.classification.report import report_by_class
from posmlp_jax.tasks.classification.table import PredictionTable
from posmlp_jax.tasks.task import Batch, Evaluation, Rows, Scalars, Task


class Classification(Task):
    """Cross-entropy with label smoothing on labels that mixup and CutMix may have mixed; top-1 decides.

    Raises:
      ConfigError: for a model of too few classes, or a `keep_best` that so many classes have not.
    """

    metrics = METRICS
    output, outputs = "class", "classes"

    def __init__(self, config: ConfigDict, model: BackboneConfig, source: LabelledSource):
        super().__init__(config, model, source)
        if model.is_detector:
            raise ConfigError(
                f"model '{config.model.name}' is a detector, and classification takes one of list_models()"
            )
        classes = model.num_classes
        if classes < source.num_classes:
            raise ConfigError(
                f"model.num_classes is {classes}, but {config.data.name} has {source.num_classes} classes"
            )
        if classes <= 5:  # Everything is among the first five.
            self.metrics = tuple(metric for metric in self.metrics if metric.name != "top5")
            if config.keep_best.endswith("top5"):
                raise ConfigError(
                    f"keep_best is {config.keep_best}, but of {classes} classes there is no top-5; try eval/top1"
                )
        self._objective = ClassificationObjective(
            num_classes=classes,
            mean=tuple(config.data.mean),
            std=tuple(config.data.std),
            label_smoothing=config.label_smoothing,
            mixing=MixOptions(**config.mixing.to_dict()),
            ranks=tuple(int(metric.name[3:]) for metric in self.metrics if metric.name.startswith("top")),
            average=config.data.test_average,
        )

    @classmethod
    def fields(cls) -> dict[str, Any]:
        """Label smoothing and mixing."""
        return {
            "label_smoothing": 0.1,
            # Mixup and CutMix: each one's α (0: off), and how often a batch is mixed, and then by CutMix. Each group of
            # so many examples has a λ and box of its own, as in timm each GPU's images have; 0: the batch has one.
            "mixing": {"mixup": 0.0, "cutmix": 0.0, "probability": 1.0, "switch_probability": 0.5, "group": 0},
        }

    @classmethod
    def check_config(cls, config: ConfigDict) -> None:
        """Checks label smoothing and mixing.

        Raises:
          ConfigError: for the first value that cannot be.
        """
        if not 0 <= config.label_smoothing < 1:
            raise ConfigError(f"label_smoothing is {config.label_smoothing}, and should be at least 0 and less than 1")
        mixing = config.mixing
        if min(mixing.mixup, mixing.cutmix) < 0 or not all(
            0 <= value <= 1 for value in (mixing.probability, mixing.switch_probability)
        ):
            raise ConfigError("mixing takes α of 0 (off) or more and probabilities from 0 to 1")
        if mixing.group < 0 or mixing.group % 2:
            raise ConfigError(f"mixing.group is {mixing.group}, and should be 0 (the whole batch) or an even number")
        if (mixing.mixup or mixing.cutmix) and config.batch_size // config.accumulate % 2:
            raise ConfigError(f"mixing pairs examples, so batch_size {config.batch_size} / accumulate should be even")

    @classmethod
    def open_source(
        cls, config: ConfigDict, split: str, kind: str, model: BackboneConfig | None = None
    ) -> LabelledSource:
        """Labelled images or videos, of no more classes than the model tells apart (`data.open_source`)."""
        return open_source(config, split, num_classes=None if model is None else model.num_classes, kind=kind)

    @classmethod
    def model_fields(cls, source: LabelledSource) -> dict[str, Any]:
        """A logit for each class."""
        return {"num_classes": source.num_classes}

    def targets(self, source: LabelledSource) -> Labels:
        """Labels, those of mirrored images as `data.flip_label_pairs` has them."""
        return Labels(source, self.config.data)

    def names(self, source: LabelledSource) -> tuple[str, ...] | None:
        """The classes' names."""
        return source.class_names

    def describe(self, source: LabelledSource, *, training: bool) -> list[str]:
        """How many examples each class has, and whether that is unequal."""
        counts = source.class_counts()
        if counts is None:
            return []
        lines = [f"  {describe_counts(counts, class_names(source.class_names, source.num_classes))}"]
        if training and self.config.data.balance == "none" and is_unbalanced(counts):
            lines.append("  classes are unequal: --config.data.balance=classes would draw them equally often")
        return lines

    def draw(self, key: Key[Array, ""], batch: Batch) -> tuple[Batch, Any]:
        """`ClassificationObjective.draw`."""
        return self._objective.draw(key, batch)

    def loss(self, model: Backbone, batch: Batch, drawn: Any, rngs: nnx.Rngs) -> tuple[Float[Array, ""], Scalars]:
        """`ClassificationObjective.loss`."""
        return self._objective.loss(model, batch, drawn, rngs)

    def evaluate(self, model: Backbone, batch: Batch) -> tuple[Scalars, Rows]:
        """`ClassificationObjective.evaluate`."""
        return self._objective.evaluate(model, batch)

    def score(self, means: Mapping[str, float], rows: Mapping[str, np.ndarray]) -> tuple[dict[str, float], Outcomes]:
        """Accuracies, over examples and over classes, and the outcomes class by class."""
        names = class_names(self.source.class_names, self.model.num_classes)
        outcomes = Outcomes(rows["label"].astype(np.int64), rows["prediction"].astype(np.int64), names)
        values = {**means, "balanced_accuracy": outcomes.balanced_accuracy}
        return {metric.name: values[metric.name] for metric in self.metrics}, outcomes

    @classmethod
    def predictor(
        cls, pretrained: Pretrained, data: ConfigDict, top_k: int | None = None, threshold: float | None = None
    ) -> ClassPredictor:
        """The most probable classes of files, five of them unless another number is asked for."""
        if threshold is not None:
            raise ConfigError(f"threshold is of detectors; of classes top_k says how many: {pretrained.description}")
        return ClassPredictor(pretrained, data, 5 if top_k is None else top_k)

    @classmethod
    def prediction_table(cls, pretrained: Pretrained, files: Sequence[str], width: int) -> PredictionTable:
        """A row for each class."""
        return PredictionTable(files, class_names_of(pretrained), width)

    def illustrate(self, key: Key[Array, ""], batch: Mapping[str, np.ndarray]) -> tuple[np.ndarray, list[str]]:
        """The images with their classes, all mixed as one group where they are mixed at all."""
        images, targets = batch["image"], np.asarray(soft_targets(batch["label"], self.model.num_classes))
        mixing = self._objective.mixing
        if mixing.active:
            mask = draw_mask(key, images.shape[-3:-1], mixing)
            images, targets = map(np.asarray, mix(images.astype(np.float32), targets, mask))
            images = np.rint(images).astype(np.uint8)
        return images, [caption(target, self.source.class_names) for target in targets]

    def report(
        self, workdir: epath.Path | None, step: int, evaluations: Mapping[str, Evaluation], protocol: str = ""
    ) -> None:
        """The results by class."""
        report_by_class(workdir, step, evaluations, self.source.kind, protocol)
