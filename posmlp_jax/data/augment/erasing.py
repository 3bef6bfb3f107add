"""Random erasing (Zhong et al., 2017) as timm does it, and of clips as SlowFast does, before normalisation."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from posmlp_jax.errors import ConfigError, nearest

_AREA = (0.02, 1 / 3)
_LOG_ASPECT = (math.log(0.3), math.log(1 / 0.3))
_TRIES, _CLIP_TRIES = 10, 100


@dataclass(frozen=True)
class RandomErasing:
    """Replaces random rectangles by the mean colour ('const') or by noise ('pixel').

    With `probability`, a number of rectangles uniform in 1..count is drawn. Each covers a share of the image
    uniform in [0.02, 1/3], divided by that number, with height/width log-uniform in [0.3, 1/0.3]; one that does not
    fit is drawn again, ten times at most, then left out. All frames of a clip lose the same rectangles, which are tried
    a hundred times, but noise is new in each.

    timm erases after normalisation, with 0 or N(0, 1). Here the image is still uint8, so 'const' is `mean` rounded to
    a level (0 within 0.5 / (255 · std) once normalised) and 'pixel' is mean + std · N(0, 1), rounded and clipped to
    0..255: with ImageNet's statistics 3 to 4 % of the noise is clipped, and its standard deviation becomes 0.97.

    Attributes:
      probability: of erasing anything at all.
      mean: a channel's mean that normalisation subtracts, in [0, 1].
      std: a channel's standard deviation that normalisation divides by, in the same unit.
      mode: 'const' or 'pixel'.
      count: the most rectangles.

    Raises:
      ConfigError: an unknown mode, a probability outside [0, 1], or a count below 1.
    """

    probability: float
    mean: Sequence[float]
    std: Sequence[float]
    mode: str = "const"
    count: int = 1

    def __post_init__(self):
        if self.mode not in ("const", "pixel"):
            raise ConfigError(f"random erasing has no mode '{self.mode}': {nearest(self.mode, ('const', 'pixel'))}")
        if not 0 <= self.probability <= 1:
            raise ConfigError(f"the probability of random erasing must lie in [0, 1], not {self.probability}")
        if self.count < 1:
            raise ConfigError(f"random erasing needs a count of 1 or more, not count={self.count}")

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Erases from a uint8 RGB image [height, width, 3] or clip [T, height, width, 3], which is not modified.

        Returns uint8 pixels of the same shape; `image` itself when nothing is erased.
        """
        if rng.random() >= self.probability:
            return image
        height, width = image.shape[-3:-1]
        tries = _TRIES if image.ndim == 3 else _CLIP_TRIES
        mean_level = 255 * np.asarray(self.mean, np.float32)
        std_level = 255 * np.asarray(self.std, np.float32)
        image = image.copy()
        number = int(rng.integers(1, self.count + 1))
        for _ in range(number):
            for _ in range(tries):
                area = rng.uniform(*_AREA) * height * width / number
                aspect = math.exp(rng.uniform(*_LOG_ASPECT))
                h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
                if h < height and w < width:
                    top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
                    box = image[..., top : top + h, left : left + w, :]
                    level = mean_level
                    if self.mode == "pixel":
                        level = mean_level + std_level * rng.standard_normal(box.shape, dtype=np.float32)
                    box[...] = np.clip(np.rint(level), 0, 255)
                    break
        return image
