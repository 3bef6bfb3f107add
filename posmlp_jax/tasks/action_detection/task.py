"""Action detection: what people in films do, at one time and each in a box of their own, as on AVA."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath
from flax import nnx
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from posmlp_jax.checkpoints.pretrained import Pretrained
from posmlp_jax.data.augment.augmentation import WHOLE
from posmlp_jax.data.sources.films import ActionSource
from posmlp_jax.data.sources.opening import open_films
from posmlp_jax.errors import ConfigError, DataError, nearest
from posmlp_jax.models.backbone import BackboneConfig
from posmlp_jax.models.detectors.action_detector import ActionDetector
from posmlp_jax.models.detectors.config import ActionDetectorConfig
from posmlp_jax.tasks.action_detection.frame_map import PROTOCOLS
from posmlp_jax.tasks.action_detection.illustration import illustrate_actions
from posmlp_jax.tasks.action_detection.objective import ActionObjective
from posmlp_jax.tasks.action_detection.report import counted_truth, report_actions
from posmlp_jax.tasks.action_detection.scoring import METRICS, ActionScores, class_ids, score
from posmlp_jax.tasks.action_detection.targets import ActionTargets
from posmlp_jax.tasks.predictor import Predictor
from posmlp_jax.tasks.reporting import say_left_out
from posmlp_jax.tasks.task import Batch, Evaluation, Rows, Scalars, Task


class ActionDetection(Task):
    """Binary cross-entropy of every action in every box; the frame mAP decides.

    Raises:
      ConfigError: for a model that takes no boxes, or of too few classes.
      DataError: when no ground truth is of an action that the label map has.
    """

    metrics = METRICS
    output, outputs = "action", "actions"
    evaluation_fields = ("protocol",)
    predicts_files = False

    def __init__(self, config: ConfigDict, model: BackboneConfig, source: ActionSource):
        super().__init__(config, model, source)
        if not isinstance(model, ActionDetectorConfig):
            raise ConfigError(
                f"model '{config.model.name}' takes no boxes, and action_detection takes an action detector, as "
                "action_posmlp_video_s"
            )
        if model.num_classes < source.num_classes:
            raise ConfigError(
                f"model.num_classes is {model.num_classes}, but the actions' ids go up to {source.num_classes} "
                f"({source.description})"
            )
        if not np.isin(counted_truth(source).actions, class_ids(source)).any():
            raise DataError(
                f"no box of the ground truth that is evaluated has an action of the label map: {source.description}"
            )
        self._objective = ActionObjective(mean=tuple(config.data.mean), std=tuple(config.data.std))

    @classmethod
    def fields(cls) -> dict[str, Any]:
        """How many boxes a training batch holds of each clip, and how evaluations are scored."""
        return {
            # A training batch holds so many boxes of each clip. An evaluation has them all.
            "max_boxes": 32,
            # Whose dialect of the frame mAP: 'official', ActivityNet's since 2020, 'slowfast' or 'mmaction2'
            # (tasks/action_detection/frame_map.py).
            "protocol": "official",
        }

    @classmethod
    def check_config(cls, config: ConfigDict) -> None:
        """Checks these, and that boxes can go along with the pixels.

        Raises:
          ConfigError: for the first value that cannot be.
        """
        # After others, boxes of an evaluation would be outside of the picture.
        if config.data.crop not in WHOLE:
            raise ConfigError(
                f"data.crop is '{config.data.crop}', and action_detection takes 'scaled' or 'fit', which show an "
                "evaluation whole frames: --config.data.crop=scaled"
            )
        if config.data.randaugment:
            raise ConfigError(
                f"data.randaugment is '{config.data.randaugment}', which turns and shears frames, and a box would not "
                "be that of its person any more: --config.data.randaugment=''"
            )
        if config.max_boxes < 1:
            raise ConfigError(f"max_boxes is {config.max_boxes}, and should be 1 or more")
        if config.protocol not in PROTOCOLS:
            raise ConfigError(f"protocol is '{config.protocol}'; {nearest(str(config.protocol), PROTOCOLS)}")

    @classmethod
    def open_source(
        cls, config: ConfigDict, split: str, kind: str, model: BackboneConfig | None = None
    ) -> ActionSource:
        """Key frames of films with boxes (`data.open_films`)."""
        del model
        if kind != "video":
            raise ConfigError(
                "action_detection takes clips, and the model takes images: take an action detector, as "
                "--config.model.name=action_posmlp_video_s"
            )
        return open_films(config, split)

    @classmethod
    def model_fields(cls, source: ActionSource) -> dict[str, Any]:
        """Its actions, by their highest id: AVA's 80, of which 60 are evaluated."""
        return {"num_classes": source.num_classes}

    def targets(self, source: ActionSource) -> ActionTargets:
        """Boxes, of an evaluation all of them, and actions, of mirrored clips as `data.flip_label_pairs` has them."""
        data, evaluated = self.config.data, source is self.source
        pairs = data.flip_label_pairs if data.flip else ()
        return ActionTargets(source, source.most_boxes if evaluated else self.config.max_boxes, pairs)

    def names(self, source: ActionSource) -> tuple[str, ...]:
        """What the actions are called, by id."""
        return tuple(source.class_names)

    def ids(self, source: ActionSource) -> tuple[int, ...]:
        """From 1 on."""
        return tuple(range(1, source.num_classes + 1))

    def describe(self, source: ActionSource, *, training: bool) -> list[str]:
        """How many boxes there are, what of the data is left out, and what may be wrong with them."""
        lines = [f"{source.counts.sum()} boxes, at most {source.most_boxes} at a time", *source.remarks]
        if training:
            lines += say_left_out(source.counts, "max_boxes", self.config.max_boxes, "boxes", "key frames")
        return [f"  {line}" for line in lines]

    def loss(self, model: ActionDetector, batch: Batch, drawn: Any, rngs: nnx.Rngs) -> tuple[Float[Array, ""], Scalars]:
        """`ActionObjective.loss`."""
        return self._objective.loss(model, batch, drawn, rngs)

    def evaluate(self, model: ActionDetector, batch: Batch) -> tuple[Scalars, Rows]:
        """`ActionObjective.evaluate`."""
        return self._objective.evaluate(model, batch)

    def score(
        self, means: Mapping[str, float], rows: Mapping[str, np.ndarray]
    ) -> tuple[dict[str, float], ActionScores]:
        """The frame mAP, and the scores of all boxes."""
        del means
        scores = score(self.source, rows["scores"], self.config.protocol)
        return {"map": scores.result.map}, scores

    def report(
        self, workdir: epath.Path | None, step: int, evaluations: Mapping[str, Evaluation], protocol: str = ""
    ) -> None:
        """The frame mAP action by action, and the tables that it comes from."""
        report_actions(workdir, step, evaluations, self.source, protocol)

    @classmethod
    def predictor(
        cls, pretrained: Pretrained, data: ConfigDict, top_k: int | None = None, threshold: float | None = None
    ) -> Predictor:
        """None: a video has no boxes.

        Raises:
          ConfigError: always; says what there is instead.
        """
        del data, top_k, threshold
        raise ConfigError(
            "a detector of actions needs boxes beside a video: write AVA's tables of your films, evaluate them with "
            f"main.py --mode=eval, and its detections.csv has the scores ({pretrained.description})"
        )

    def illustrate(self, key: Any, batch: Mapping[str, np.ndarray]) -> tuple[np.ndarray, list[str]]:
        """The clips, small, with their boxes and what is done in them."""
        del key
        return illustrate_actions(batch, self.source.class_names)
