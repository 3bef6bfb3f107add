"""What a model is trained for, as the training engine sees it: all that it has to be told, and nothing else.

The engine takes batches to gradients, checkpoints and evaluations. What is in a batch, what a model should make of it,
how good that is and how it is shown is the task's. docs/adding_a_task.md says how to add one.
"""

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from etils import epath
from flax import nnx
from jaxtyping import Array, Float, Key
from ml_collections import ConfigDict

from posmlp_jax.checkpoints.evaluations import Metric
from posmlp_jax.checkpoints.pretrained import Pretrained
from posmlp_jax.checkpoints.transfer import Transferred
from posmlp_jax.data import Source, open_source
from posmlp_jax.data.targets import NoTargets, Targets
from posmlp_jax.errors import CheckpointError, ConfigError
from posmlp_jax.models.backbone import Backbone, BackboneConfig
from posmlp_jax.tasks.objective import Batch, Rows, Scalars, normalize_images
from posmlp_jax.tasks.predictor import Annotations, FilePrediction, Predictor

# What the file of a task takes.
__all__ = ["Batch", "Evaluation", "Rows", "Scalars", "Task", "normalize_images"]


class Evaluation(NamedTuple):
    """What some weights make of the whole evaluation split.

    Attributes:
      metrics: the mean `loss`, the task's metrics and the `count` of examples. All but the count are NaN where the loss
        is not a number.
      details: what else the task found, for its report; None where there is nothing, and on other hosts than the first.
    """

    metrics: dict[str, float]
    details: Any


class Task(abc.ABC):
    """What an experiment's model is trained for.

    Args:
      config: the whole config.
      model: what the model is.
      source: the examples that it is evaluated on.

    Attributes:
      metrics: what an evaluation measures besides the loss; the first decides which weights are the better ones.
      chooses_weights: whether evaluations say which of a run's steps and weights are the best: not where what they are
        of should have no say in that.
      output, outputs: what people call one that `names` names, and several.
      evaluation_fields: those of `fields` in which an evaluation may differ from its run.
      predicts_files: whether there is a `predictor`.
    """

    metrics: ClassVar[tuple[Metric, ...]]
    chooses_weights: ClassVar[bool] = True
    output, outputs = "output", "outputs"
    evaluation_fields: ClassVar[tuple[str, ...]] = ()
    predicts_files: ClassVar[bool] = True

    def __init__(self, config: ConfigDict, model: BackboneConfig, source: Source):
        self.config, self.model, self.source = config, model, source

    # Before there are data and a model.

    @classmethod
    def fields(cls) -> dict[str, Any]:
        """The config's fields that only this task has, with their defaults."""
        return {}

    @classmethod
    def check_config(cls, config: ConfigDict) -> None:
        """Checks the values of `fields`.

        Raises:
          ConfigError: for the first one that cannot be.
        """
        del config

    @classmethod
    def open_source(cls, config: ConfigDict, split: str, kind: str, model: BackboneConfig | None = None) -> Source:
        """The examples to train on, split 'train', or to evaluate with, 'eval'.

        Args:
          config: the `data` section of a config.
          split: which of them.
          kind: what the model takes, 'image' or 'video'.
          model: what it is, where that is known already: a run knows it for 'train', the preview does not.

        Raises:
          PosMLPError: where they are missing, or nothing for the model.
        """
        del model
        return open_source(config, split, kind=kind)

    @classmethod
    @abc.abstractmethod
    def model_fields(cls, source: Source) -> dict[str, Any]:
        """The fields of the model's config that its examples decide where the config leaves them open.

        As `{'num_classes': 10}`, the width of the backbone's linear head. A model with a head of another kind is a
        family of its own (`models.registry.register`), whose head has fields in its config; the task's folder may have
        it, and registers it.
        """

    # Data.

    def targets(self, source: Source) -> Targets:
        """What a batch holds of an example besides its pixels, moved as augmentation moves these."""
        del source
        return NoTargets()

    def epoch(self, source: Source) -> int:
        """How many examples an epoch has, by which lengths of time are counted: those to train on."""
        return len(source)

    def check_training(self, source: Source) -> None:
        """Raises a DataError if examples are not to be trained on, as those of a person that the evaluation is of."""
        del source

    def check_start(self, first: Transferred) -> None:
        """Raises a ConfigError if trained weights are nothing to start from, as those that know what is evaluated."""
        del first

    def names(self, source: Source) -> tuple[str, ...] | None:
        """What the model's outputs are called, in their order; None where they have no names."""
        del source
        return None

    def ids(self, source: Source) -> tuple[int, ...] | None:
        """The data set's own numbers of what `names` names, for what is written in its format; None: it has none."""
        del source
        return None

    def check_names(self, saved: Sequence[str] | None, source: Source) -> None:
        """Raises a CheckpointError if a checkpoint's model was trained on other names than the examples have now."""
        current = self.names(source)
        if saved is None or current is None or tuple(saved) == tuple(current):
            return
        first = next((i for i, pair in enumerate(zip(saved, current, strict=False)) if pair[0] != pair[1]), None)
        which = (
            f"{self.output} {first} is '{saved[first]}' there and '{current[first]}' here"
            if first is not None
            else f"{len(saved)} {self.outputs} there and {len(current)} here"
        )
        raise CheckpointError(
            f"the checkpoint was trained on other {self.outputs} than {source.description} has: {which}"
        )

    def describe(self, source: Source, *, training: bool) -> list[str]:
        """Lines about the examples, for the beginning of a run's log, below the one that says what they are."""
        del source, training
        return []

    # A step.

    def draw(self, key: Key[Array, ""], batch: Batch) -> tuple[Batch, Any]:
        """What is random in a step and not a matter of one example or layer, as which examples are mixed, and how.

        Args:
          key: the step's.
          batch: all of the step's.

        Returns:
          The batch, with more arrays if need be, and a tree of arrays for `loss`. The step may be worked through in
          parts: these then have their part of the batch, and all of the tree.
        """
        del key
        return batch, None

    @abc.abstractmethod
    def loss(self, model: Backbone, batch: Batch, drawn: Any, rngs: nnx.Rngs) -> tuple[Float[Array, ""], Scalars]:
        """What a step's gradient is of: the mean over the batch's examples, and metrics beside it.

        Args:
          model: to be called with `train=True` and `rngs`, once: its batch statistics are updated in place.
          batch: the step's, or a part of it.
          drawn: by `draw`.
          rngs: a stream `dropout`.
        """

    # An evaluation.

    @abc.abstractmethod
    def evaluate(self, model: Backbone, batch: Batch) -> tuple[Scalars, Rows]:
        """What the model, in evaluation mode, makes of one batch.

        Returns:
          Sums over the examples of weight 1, `loss` among them, and what `score` needs of each example.
        """

    def score(self, means: Mapping[str, float], rows: Mapping[str, np.ndarray]) -> tuple[dict[str, float], Any]:
        """What all batches come to. The first host alone calls it, with the examples of all hosts.

        Args:
          means: of what `evaluate` summed.
          rows: of every example, in the order of the source, whatever the batches and hosts were.

        Returns:
          `metrics`, by name and without the loss, but for those that there is nothing to measure of; and details for
          `report`.
        """
        del rows
        return {metric.name: means[metric.name] for metric in self.metrics}, None

    def report(
        self, workdir: epath.Path | None, step: int, evaluations: Mapping[str, Evaluation], protocol: str = ""
    ) -> None:
        """Prints and writes what an evaluation says beyond its metrics; the engine calls it at the end, on every host.

        Args:
          workdir: the working directory, or another folder to write to; None: nothing is to be written.
          step: whose weights these are.
          evaluations: of the weights, 'eval', and of their moving average, 'ema'. One of them has metrics.
          protocol: what sets them apart from the run's own, as '4x3_views', for the names of files; '' where nothing
            does.
        """
        del workdir, step, evaluations, protocol

    # Folds, in each of which a part of the examples is left out and evaluated: `--mode=leave_one_out`.

    @classmethod
    def left_out(cls, config: ConfigDict) -> tuple[str, ...]:
        """What is left out, one part in each fold, as `data.left_out` names it.

        Args:
          config: the `data` section of a config, without a `left_out`.

        Raises:
          ConfigError: for a task whose examples have no such parts.
        """
        del config
        raise ConfigError(
            "--mode=leave_one_out is for data of several people, as a config of configs/micro_expressions has: leave "
            "the mode out, or take one of these"
        )

    def fold_table(self, evaluations: Mapping[str, Evaluation]) -> str:
        """What is kept of a fold, whose model is trained to the end: a CSV table of what it says of each example.

        Args:
          evaluations: as in `report`; the first host alone calls it. Which of the weights count must not be a matter
            of what they make of the examples that were left out.

        Raises:
          CheckpointError: where the weights that count give no finite numbers.
        """
        raise NotImplementedError

    @classmethod
    def report_folds(cls, config: ConfigDict, folder: epath.Path, tables: Mapping[str, str]) -> dict[str, float]:
        """Prints and writes what all folds come to, their examples put together; the first host alone calls it.

        Args:
          config: as of `left_out`.
          folder: for what is written.
          tables: `fold_table` of each of `left_out`, by the file that keeps it.

        Returns:
          `metrics`, by name.

        Raises:
          PosMLPError: where the tables are not of the data, each example once.
        """
        raise NotImplementedError

    # What is shown.

    @classmethod
    def predictor(
        cls, pretrained: Pretrained, data: ConfigDict, top_k: int | None = None, threshold: float | None = None
    ) -> Predictor:
        """What a trained model says of files.

        Args:
          pretrained: the model, whose weights are read now.
          data: the `data` section of the config that it was trained with.
          top_k: how many answers it gives of each file at most; None: as many as the task thinks useful.
          threshold: the least score of an answer; None: likewise.

        Raises:
          ConfigError: where it can say nothing of a file, or has no use for one of these.
        """
        del data, top_k, threshold
        raise ConfigError(f"{cls.__name__} has no predictions for files: {pretrained.description}")

    @classmethod
    def prediction_table(
        cls, pretrained: Pretrained, files: Sequence[str], width: int
    ) -> Callable[[FilePrediction], str]:
        """What gives the rows of a table for the terminal, prediction by prediction; the first with the table's head.

        Args:
          pretrained: the model.
          files: the names of all files that there will be.
          width: of the terminal, in columns.
        """
        del pretrained, files, width
        return lambda prediction: prediction.file

    @classmethod
    def annotations(cls, pretrained: Pretrained) -> Annotations:
        """What collects predictions as the annotations of a data set.

        Args:
          pretrained: the model.

        Raises:
          ConfigError: where predictions are not of places in an image, so that they cannot be drawn into it either.
        """
        raise ConfigError(
            f"--drawn and --coco are of detectors, which this is not: {pretrained.description}; --picture draws what "
            "it says"
        )

    def illustrate(self, key: Key[Array, ""], batch: Mapping[str, np.ndarray]) -> tuple[np.ndarray, list[str]]:
        """Training examples as a step sees them, for the preview: uint8 `[B, *input_size, 3]`, or as large as they
        are best drawn, and a caption each.

        Args:
          key: of what a step would draw.
          batch: as the pipeline makes it, all of a step's.
        """
        del key
        return batch["image"], [""] * len(batch["image"])

    @classmethod
    def format_metrics(cls, values: Mapping[str, float], *, digits: int = 2) -> list[str]:
        """Those of the task's metrics that there are values of and a line has room for, as 'top-1 76.10 %'."""
        return [
            f"{metric.label} {metric.format(values[metric.name], digits)}"
            for metric in cls.metrics
            if metric.brief and metric.name in values
        ]
