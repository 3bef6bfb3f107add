"""What classification computes on the devices: of a batch the mixing, the loss, and what an evaluation sums."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from posmlp_jax.models.backbone import Backbone
from posmlp_jax.tasks.classification.classifier import evaluation_logits
from posmlp_jax.tasks.classification.losses import correct_top, cross_entropy, soft_targets
from posmlp_jax.tasks.classification.mixing import MixOptions, draw_masks, mix
from posmlp_jax.tasks.objective import Batch, Rows, Scalars, normalize_images


@dataclass(frozen=True)
class ClassificationObjective:
    """Cross-entropy with label smoothing on labels that mixup and CutMix may have mixed.

    Attributes:
      num_classes: of the model.
      mean, std: the data's.
      label_smoothing: of training (`losses.soft_targets`).
      mixing: of training.
      ranks: an evaluation counts how often the label is among so many highest logits, for each of these numbers.
      average: of several views of an example, as in `classifier.evaluation_logits`.
      with_scores: whether an evaluation gives each example's softmax scores, too.
    """

    num_classes: int
    mean: Sequence[float]
    std: Sequence[float]
    label_smoothing: float
    mixing: MixOptions
    ranks: Sequence[int] = (1, 5)
    average: str = "softmax"
    with_scores: bool = False

    def draw(self, key: Key[Array, ""], batch: Batch) -> tuple[Batch, Float[Array, "groups height width"] | None]:
        """How much each image keeps of each of its pixels where the batch is mixed (`mixing.draw_masks`)."""
        if not self.mixing.active:
            return batch, None
        size, height_and_width = len(batch["image"]), batch["image"].shape[-3:-1]
        # In parts of a batch, a group's examples are in several.
        group = jnp.arange(size) // (self.mixing.group or size)
        return batch | {"group": group}, draw_masks(key, size, height_and_width, self.mixing)

    def loss(
        self, model: Backbone, batch: Batch, drawn: Float[Array, "groups height width"] | None, rngs: nnx.Rngs
    ) -> tuple[Float[Array, ""], Scalars]:
        """Cross-entropy, and the share of likeliest classes that were the right ones.

        Labels are classes, int `[B]`, or already soft, `[B, classes]`.
        """
        images = normalize_images(batch["image"], self.mean, self.std)
        targets = soft_targets(batch["label"], self.num_classes, self.label_smoothing)
        if drawn is not None:
            images, targets = mix(images, targets, drawn[0] if len(drawn) == 1 else drawn[batch["group"]])
        logits = model(images, train=True, rngs=rngs)
        top1 = correct_top(logits, targets, 1).astype(jnp.float32).mean()
        return cross_entropy(logits, targets).mean(), {"top1": top1}

    def evaluate(self, model: Backbone, batch: Batch) -> tuple[Scalars, Rows]:
        """Loss and correct answers; of each example `label` and `prediction`, the class with the highest logit.

        Where `image` has several views of each example, it is judged as `evaluation_logits` says, and the loss is that
        of these logits.
        """
        logits = evaluation_logits(model, batch["image"], self.mean, self.std, self.average)
        labels, weight = batch["label"], batch["weight"]
        losses = cross_entropy(logits, soft_targets(labels, self.num_classes))
        sums = {f"top{rank}": jnp.sum(correct_top(logits, labels, rank) * weight) for rank in self.ranks}
        rows = {"label": labels, "prediction": jnp.argmax(logits, axis=-1)}
        if self.with_scores:
            rows["scores"] = jax.nn.softmax(logits.astype(jnp.float32))
        return {"loss": jnp.sum(losses * weight), **sums}, rows
