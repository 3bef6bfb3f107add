"""Classification: which of its classes an image or a clip shows."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
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
from posmlp_jax.tasks.classification.classifier import evaluation_logits
from posmlp_jax.tasks.classification.counts import describe_counts, is_unbalanced
from posmlp_jax.tasks.classification.losses import correct_top, cross_entropy, soft_targets
from posmlp_jax.tasks.classification.mixing import MixOptions, draw_mask, draw_masks, mix
from posmlp_jax.tasks.classification.outcomes import METRICS, Outcomes, class_names
from posmlp_jax.tasks.classification.pictures import caption
from posmlp_jax.tasks.classification.prediction import ClassPredictor, class_names_of
from posmlp_jax.tasks.classification.report import report_by_class
from posmlp_jax.tasks.classification.table import PredictionTable
from posmlp_jax.tasks.task import Batch, Evaluation, Rows, Scalars, Task, normalize_images


class Classification(Task):
    """Cross-entropy with label smoothing on labels that mixup and CutMix may have mixed; top-1 decides.

    Raises:
      ConfigError: for a model of too few classes, or a `keep_best` that so many classes have not.
    """

    metrics = METRICS
    output, outputs = "class", "classes"

    def __init__(self, config: ConfigDict, model: BackboneConfig, source: LabelledSource):
        super().__init__(config, model, source)
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
        self._ranks = tuple(int(metric.name[3:]) for metric in self.metrics if metric.name.startswith("top"))
        self._mean, self._std = tuple(config.data.mean), tuple(config.data.std)
        self._mixing = MixOptions(**config.mixing.to_dict())

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

    def draw(self, key: Key[Array, ""], batch: Batch) -> tuple[Batch, Float[Array, "groups height width"] | None]:
        """How much each image keeps of each of its pixels where the batch is mixed (`mixing.draw_masks`)."""
        if not self._mixing.active:
            return batch, None
        size, height_and_width = len(batch["image"]), batch["image"].shape[-3:-1]
        # In parts of a batch, a group's examples are in several.
        group = jnp.arange(size) // (self._mixing.group or size)
        return batch | {"group": group}, draw_masks(key, size, height_and_width, self._mixing)

    def loss(
        self, model: Backbone, batch: Batch, drawn: Float[Array, "groups height width"] | None, rngs: nnx.Rngs
    ) -> tuple[Float[Array, ""], Scalars]:
        """Cross-entropy, and the share of likeliest classes that were the right ones.

        Labels are classes, int `[B]`, or already soft, `[B, classes]`.
        """
        images = normalize_images(batch["image"], self._mean, self._std)
        targets = soft_targets(batch["label"], self.model.num_classes, self.config.label_smoothing)
        if drawn is not None:
            images, targets = mix(images, targets, drawn[0] if len(drawn) == 1 else drawn[batch["group"]])
        logits = model(images, train=True, rngs=rngs)
        top1 = correct_top(logits, targets, 1).astype(jnp.float32).mean()
        return cross_entropy(logits, targets).mean(), {"top1": top1}

    def evaluate(self, model: Backbone, batch: Batch) -> tuple[Scalars, Rows]:
        """Loss and correct answers; of each example the label, and the class with the highest logit.

        Where `image` has several views of each example, it is judged as `evaluation_logits` says, and the loss is that
        of these logits.
        """
        average = self.config.data.test_average
        logits = evaluation_logits(model, batch["image"], self._mean, self._std, average)
        labels, weight = batch["label"], batch["weight"]
        losses = cross_entropy(logits, soft_targets(labels, self.model.num_classes))
        sums = {f"top{rank}": jnp.sum(correct_top(logits, labels, rank) * weight) for rank in self._ranks}
        rows = {"label": labels, "prediction": jnp.argmax(logits, axis=-1)}
        return {"loss": jnp.sum(losses * weight), **sums}, rows

    def score(self, means: Mapping[str, float], rows: Mapping[str, np.ndarray]) -> tuple[dict[str, float], Outcomes]:
        """Accuracies, over examples and over classes, and the outcomes class by class."""
        names = class_names(self.source.class_names, self.model.num_classes)
        outcomes = Outcomes(rows["label"].astype(np.int64), rows["prediction"].astype(np.int64), names)
        values = {**means, "balanced_accuracy": outcomes.balanced_accuracy}
        return {metric.name: values[metric.name] for metric in self.metrics}, outcomes

    @classmethod
    def predictor(cls, pretrained: Pretrained, data: ConfigDict, top_k: int) -> ClassPredictor:
        """The most probable classes of files."""
        return ClassPredictor(pretrained, data, top_k)

    @classmethod
    def prediction_table(cls, pretrained: Pretrained, files: Sequence[str], width: int) -> PredictionTable:
        """A row for each class."""
        return PredictionTable(files, class_names_of(pretrained), width)

    def illustrate(self, key: Key[Array, ""], batch: Mapping[str, np.ndarray]) -> tuple[np.ndarray, list[str]]:
        """The images with their classes, all mixed as one group where they are mixed at all."""
        images, targets = batch["image"], np.asarray(soft_targets(batch["label"], self.model.num_classes))
        if self._mixing.active:
            mask = draw_mask(key, images.shape[-3:-1], self._mixing)
            images, targets = map(np.asarray, mix(images.astype(np.float32), targets, mask))
            images = np.rint(images).astype(np.uint8)
        return images, [caption(target, self.source.class_names) for target in targets]

    def report(
        self, workdir: epath.Path | None, step: int, evaluations: Mapping[str, Evaluation], protocol: str = ""
    ) -> None:
        """The results by class."""
        report_by_class(workdir, step, evaluations, self.source.kind, protocol)
