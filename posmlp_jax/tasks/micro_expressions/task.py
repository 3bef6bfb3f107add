"""Micro-expressions: which emotion a clip of a face shows, of a person whom the model was not trained on.

The person, `data.left_out`, is evaluated and not trained on; `--mode=leave_one_out` does so with all of them in turn,
and what counts are the predictions of all these folds together. Nothing is chosen by what is evaluated: not the epoch,
and neither the moving average nor the weights. It is the last step's average, if a run has one.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
from etils import epath
from ml_collections import ConfigDict

from posmlp_jax.checkpoints.evaluations import WHOSE
from posmlp_jax.checkpoints.transfer import Transferred
from posmlp_jax.data import SubjectSource, known_subjects, open_subjects, read_clips, read_subjects
from posmlp_jax.errors import CheckpointError, ConfigError, DataError
from posmlp_jax.models.backbone import BackboneConfig
from posmlp_jax.tasks.classification.outcomes import class_names
from posmlp_jax.tasks.classification.task import Classification
from posmlp_jax.tasks.micro_expressions.predictions import Predictions, check_clips, joined, read_table
from posmlp_jax.tasks.micro_expressions.report import counted, report_fold, report_folds
from posmlp_jax.tasks.micro_expressions.scoring import METRICS
from posmlp_jax.tasks.task import Evaluation


class MicroExpressions(Classification):
    """Classification of the clips of one person, by a model that was trained on those of all others.

    Raises:
      ConfigError: as `Classification`.
    """

    metrics = METRICS
    chooses_weights = False

    def __init__(self, config: ConfigDict, model: BackboneConfig, source: SubjectSource):
        super().__init__(config, model, source)
        self._objective = dataclasses.replace(self._objective, with_scores=True)

    @classmethod
    def check_config(cls, config: ConfigDict) -> None:
        """As `Classification`, and that no checkpoint is kept for what the left-out person shows.

        Raises:
          ConfigError: for the first value that cannot be.
        """
        super().check_config(config)
        if config.keep_best:
            raise ConfigError(
                f"keep_best is {config.keep_best}, and should be '' for micro-expressions: it would choose an epoch by "
                "the person who is left out"
            )

    @classmethod
    def open_source(
        cls, config: ConfigDict, split: str, kind: str, model: BackboneConfig | None = None
    ) -> SubjectSource:
        """The clips of all but one person, or of that one (`data.open_subjects`)."""
        return open_subjects(config, split, num_classes=None if model is None else model.num_classes)

    def epoch(self, source: SubjectSource) -> int:
        """All clips of the data set: whoever is left out, and however many of them are, a run has as many steps."""
        return len(source) + len(self.source)

    def check_training(self, source: SubjectSource) -> None:
        """Raises a DataError if a clip of the left-out person is to be trained on."""
        left_out = set(self.source.subjects) | {self.config.data.left_out}
        ids = {clip.id for clip in self.source.clips}
        for clip in source.clips:
            if clip.subject in left_out or clip.id in ids or clip.id.startswith(tuple(f"{each}/" for each in left_out)):
                raise DataError(
                    f"{clip.id} is a clip of the left-out {self.config.data.left_out}, and is among those to train on: "
                    f"{source.description}"
                )

    def check_start(self, first: Transferred) -> None:
        """Raises a ConfigError if the weights were trained on the left-out person, as far as that can be told.

        That is by the name of the data that they were trained on, where such data lie beside those of today.
        """
        left_out, name = self.config.data.left_out, first.data.get("name", "")
        known = known_subjects(name, self.config.data.data_dir)
        if left_out in known and first.data.get("left_out", "") != left_out:
            raise ConfigError(
                f"init_from's {first.source} were trained on {name}, and so on {left_out}, who is left out here: start "
                "from weights that were trained on other people"
            )

    def score(self, means: Mapping[str, float], rows: Mapping[str, np.ndarray]) -> tuple[dict[str, float], Predictions]:
        """UF1, UAR and accuracy of the person's clips, and what each was taken for."""
        found = Predictions(
            subjects=self.source.subjects,
            clips=tuple(clip.id for clip in self.source.clips),
            labels=rows["label"].astype(np.int64),
            predictions=rows["prediction"].astype(np.int64),
            scores=rows["scores"],
            class_names=class_names(self.source.class_names, self.model.num_classes),
        )
        judged = found.judged()
        return {"uf1": judged.uf1, "uar": judged.uar, "top1": judged.accuracy}, found

    def report(
        self, workdir: epath.Path | None, step: int, evaluations: Mapping[str, Evaluation], protocol: str = ""
    ) -> None:
        """What the left-out person's clips were taken for."""
        report_fold(workdir, step, evaluations, protocol)

    @classmethod
    def left_out(cls, config: ConfigDict) -> tuple[str, ...]:
        """The subjects of the data set, as 'casme2/sub01'."""
        return read_subjects(config)

    def fold_table(self, evaluations: Mapping[str, Evaluation]) -> str:
        """What each of the left-out person's clips was taken for (`predictions`)."""
        split = counted(evaluations)
        if (found := evaluations[split].details) is None:
            raise CheckpointError(
                f"the loss of the {WHOSE[split]} on {self.config.data.left_out} is not a number: the fold's training "
                "has diverged, and a lower optimizer.peak_rate in another --workdir may help"
            )
        return found.table()

    @classmethod
    def report_folds(cls, config: ConfigDict, folder: epath.Path, tables: Mapping[str, str]) -> dict[str, float]:
        """UF1, UAR and accuracy over all clips and those of each data set, and which classes were taken for which.

        Raises:
          CheckpointError: if the tables are damaged, or not of the data's clips, each once.
        """
        found = {name: read_table(text, name) for name, text in tables.items()}
        check_clips(found, read_clips(config))
        judged = report_folds(folder, joined([*found.values()]))
        return {"uf1": judged.uf1, "uar": judged.uar, "top1": judged.accuracy}
