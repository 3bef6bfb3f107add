"""What is measured of micro-expressions: UF1, UAR and accuracy, as the challenges MEGC2018 and MEGC2019 have them.

All are of the predictions of all folds put together. To take one of each fold, or of each data set, and then the mean
gives other numbers, from the same predictions.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from posmlp_jax.checkpoints.evaluations import Metric

# One person's clips seldom have all classes, which these two are the means of: a fold's lines show its accuracy alone.
METRICS = (Metric("uf1", "UF1", brief=False), Metric("uar", "UAR", brief=False), Metric("top1", "accuracy"))


class PooledScores(NamedTuple):
    """How good some predictions are.

    Attributes:
      uf1: unweighted F1, the mean of the classes' 2·TP / (2·TP + FP + FN).
      uar: unweighted average recall, the mean of the classes' TP / N, where N is how many clips a class has.
      accuracy: the share of clips whose class was found.
    """

    uf1: float
    uar: float
    accuracy: float


def score_predictions(
    labels: Int[np.ndarray, " clips"], predictions: Int[np.ndarray, " clips"], num_classes: int
) -> PooledScores:
    """The scores of one or more clips.

    As scikit-learn's macro averages have it, a class that no clip has and none was taken for leaves the means, and one
    that no clip has but some were taken for counts as 0.

    Args:
      labels: the clips' classes.
      predictions: what they were taken for.
      num_classes: how many there are.
    """
    of_class = [
        np.bincount(each, minlength=num_classes) for each in (labels, predictions, labels[labels == predictions])
    ]
    clips, taken, right = of_class
    there = clips + taken > 0
    f1 = 2 * right[there] / (clips + taken)[there]
    recall = right[there] / np.maximum(clips[there], 1)
    return PooledScores(float(f1.mean()), float(recall.mean()), float(right.sum() / len(labels)))
