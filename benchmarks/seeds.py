"""What several seeds of several variants say: means, differences, and whether these are more than the seeds' noise."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from posmlp_jax.errors import ConfigError

# The accuracy of each seed's run.
Scores = Mapping[int, float]
_SURE = 0.95


def read_seeds(text: str) -> list[int]:
    """The numbers of a command line's `--seeds=0,1,2`, each once, in order.

    Raises:
      ConfigError: for anything else.
    """
    try:
        return sorted({int(seed) for seed in text.split(",")})
    except ValueError as error:
        raise ConfigError(f"seeds are '{text}', and should be numbers, as 0,1,2") from error


@dataclass(frozen=True)
class Noise:
    """What one run differs by from another of the same variant, beyond what its seed does to all variants alike.

    Attributes:
      deviation: its standard deviation, in the scores' unit.
      freedom: the degrees of freedom that this is estimated with.
    """

    deviation: float
    freedom: int


def estimate_noise(variants: Sequence[Scores]) -> Noise | None:
    """The noise of runs that are alike but for variant and seed, or None while there are too few of them.

    A score is taken for the sum of its variant's, its seed's and noise of one deviation for all: a randomized block
    design, in which any cell may be missing. What is left of the best such sums (least squares) is the noise.
    """
    cells = [(variant, seed, score) for variant, scores in enumerate(variants) for seed, score in scores.items()]
    seeds = sorted({seed for _, seed, _ in cells})
    if not cells:
        return None
    design = np.zeros((len(cells), len(variants) + len(seeds)))
    for row, (variant, seed, _) in enumerate(cells):
        design[row, variant] = design[row, len(variants) + seeds.index(seed)] = 1
    values = np.array([score for _, _, score in cells])
    fitted, _, rank, _ = np.linalg.lstsq(design, values)
    freedom = len(cells) - int(rank)
    if freedom < 1:
        return None
    return Noise(float(np.sqrt(np.sum((values - design @ fitted) ** 2) / freedom)), freedom)


@dataclass(frozen=True)
class Difference:
    """By how much one variant is better than another.

    Attributes:
      mean: over the seeds that both have.
      margin: half of the 95 % interval around it; infinite where nothing is known of the noise.
    """

    mean: float
    margin: float

    @property
    def decided(self) -> bool:
        """Whether it is more than the noise."""
        return abs(self.mean) > self.margin

    def __str__(self) -> str:
        margin = f" ± {self.margin:.2f}" if math.isfinite(self.margin) else ""
        return f"{self.mean:+.2f}{margin}"


def difference(one: Scores, other: Scores, noise: Noise | None) -> Difference | None:
    """`one` less `other`, seed by seed, or None where no seed has both."""
    both = sorted(one.keys() & other.keys())
    if not both:
        return None
    margin = math.inf
    if noise is not None:
        quantile = stats.t.ppf((1 + _SURE) / 2, noise.freedom)
        margin = float(quantile * noise.deviation * math.sqrt(2 / len(both)))
    return Difference(float(np.mean([one[seed] - other[seed] for seed in both])), margin)


def mean_and_deviation(scores: Scores) -> tuple[float, float]:
    """Over the seeds; the deviation of fewer than two is not a number."""
    values = list(scores.values())
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
