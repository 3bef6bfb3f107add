"""RandAugment (Cubuk et al., 2019) as timm defines it, on NumPy images.

The operations themselves are in `color.py` and `affine.py`; here is how they are drawn, and how strong they are.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from posmlp_jax.data.augment import affine, color
from posmlp_jax.data.augment.placement import Movement, stays
from posmlp_jax.errors import ConfigError, nearest

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_EXAMPLE = "rand-m6-n3-mstd1.0-inc1"
_INTERPOLATIONS = ("bilinear", "bicubic")

# What each key of the string sets, what its value looks like, and how that is read.
_WHOLE, _DECIMAL = r"\d+", r"\d+(\.\d+)?"
_NOTATION: dict[str, tuple[str, str, Callable]] = {
    "m": ("magnitude", _WHOLE, int),
    "n": ("count", _WHOLE, int),
    "mstd": ("magnitude_std", f"({_DECIMAL}|inf)", lambda std: float(std) if float(std) <= 100 else math.inf),
    "mmax": ("magnitude_max", _WHOLE, int),
    "inc": ("increasing", "[01]", lambda flag: flag == "1"),
    "p": ("probability", _DECIMAL, float),
}

# The magnitude at which an operation's argument reaches the end of its range; timm's LEVEL_DENOM.
_FULL_MAGNITUDE = 10

# timm's 15 operations.
_COLOR_OPERATIONS: dict[str, Callable] = {
    "AutoContrast": color.autocontrast,
    "Equalize": color.equalize,
    "Invert": color.invert,
    "Posterize": color.posterize,
    "Solarize": color.solarize,
    "SolarizeAdd": color.solarize_add,
    "Color": color.saturation,
    "Contrast": color.contrast,
    "Brightness": color.brightness,
    "Sharpness": color.sharpness,
}
_AFFINE_OPERATIONS: dict[str, Callable] = {
    "Rotate": affine.rotate,
    "ShearX": affine.shear_x,
    "ShearY": affine.shear_y,
    "TranslateXRel": affine.translate_x,
    "TranslateYRel": affine.translate_y,
}
OPERATIONS = (*_COLOR_OPERATIONS, *_AFFINE_OPERATIONS)

# The largest argument, reached at full magnitude, of the operations that go either way from 0.
_SIGNED_RANGE = {"Rotate": 30.0, "ShearX": 0.3, "ShearY": 0.3, "TranslateXRel": 0.45, "TranslateYRel": 0.45}


class Operation(NamedTuple):
    """One operation that was drawn, ready to apply."""

    name: str  # one of OPERATIONS
    argument: float | None  # what the operation's function takes; None where it takes nothing
    interpolation: str | None  # 'bilinear' or 'bicubic' where it moves pixels, else None


def operation_argument(name: str, magnitude: float, increasing: bool, rng: np.random.Generator) -> float | None:
    """The map from a magnitude to an operation's argument, timm's.

    Args:
      name: one of OPERATIONS.
      magnitude: at least 0; 10 is the end of every range.
      increasing: whether Posterize, Solarize and the four enhancements grow stronger with the magnitude. Otherwise
          they run through their range: 0 bits to 4, threshold 0 to 256, factor 0.1 to 1.9.
      rng: draws the sign, where the operation goes either way.

    Returns:
      Degrees (Rotate), a slope (Shear), a share of the side (Translate), bits, a threshold, an amount to add, a
      factor, or None where the operation takes none.
    """
    strength = magnitude / _FULL_MAGNITUDE
    if name in _SIGNED_RANGE:
        return _either_sign(strength * _SIGNED_RANGE[name], rng)
    if name == "Posterize":
        bits = int(strength * 4)
        return max(4 - bits, 0) if increasing else min(bits, 8)
    if name == "Solarize":
        threshold = min(int(strength * 256), 256)
        return 256 - threshold if increasing else threshold
    if name == "SolarizeAdd":
        return min(int(strength * 110), 128)
    if name in ("Color", "Contrast", "Brightness", "Sharpness"):
        return max(0.1, 1.0 + _either_sign(strength * 0.9, rng)) if increasing else 0.1 + strength * 1.8
    return None


def _either_sign(value: float, rng: np.random.Generator) -> float:
    return -value if rng.random() < 0.5 else value


@dataclass(frozen=True)
class RandAugment:
    """Applies `count` operations drawn at random, each with `probability`; timm's `RandAugment`.

    The operations are drawn with replacement from OPERATIONS. Each that is applied gets its own magnitude, and moved
    pixels leave behind the mean colour. Immutable, and can be pickled.

    Raises:
      ConfigError: a field outside its range.
    """

    magnitude: int = 10
    count: int = 2
    magnitude_std: float = 0.0  # of a normal distribution around `magnitude`; infinite: uniform in [0, magnitude]
    magnitude_max: int = 10  # every magnitude is clipped to [0, magnitude_max]
    increasing: bool = False  # see `operation_argument`
    probability: float = 0.5
    interpolation: str = "random"  # 'bilinear', 'bicubic', or 'random': one of the two for each operation
    mean: Sequence[float] = _IMAGENET_MEAN  # in [0, 1], one a channel

    def __post_init__(self):
        for name, valid, allowed in (
            ("magnitude", self.magnitude >= 0, "at least 0"),
            ("count", self.count >= 1, "at least 1"),
            ("magnitude_std", self.magnitude_std >= 0, "at least 0"),
            ("magnitude_max", self.magnitude_max >= 1, "at least 1"),
            ("probability", 0 <= self.probability <= 1, "in [0, 1]"),
        ):
            if not valid:
                raise ConfigError(f"RandAugment's {name} must be {allowed}, not {getattr(self, name)}")
        choices = ("random", *_INTERPOLATIONS)
        if self.interpolation not in choices:
            raise ConfigError(
                f"RandAugment's interpolation '{self.interpolation}': {nearest(self.interpolation, choices)}"
            )

    @classmethod
    def from_string(
        cls, text: str, interpolation: str = "random", mean: Sequence[float] = _IMAGENET_MEAN
    ) -> "RandAugment":
        """Reads timm's notation, for example 'rand-m6-n3-mstd1.0-inc1'.

        After 'rand', in any order: m, the magnitude (10); n, the number of operations (2); mstd, the standard deviation
        of the magnitude's noise (0; 'inf' or above 100 means uniform in [0, m]); mmax, the largest magnitude (10);
        inc1, operations that grow stronger with the magnitude; p, the probability of each operation (0.5). timm's
        choice weights (w) are not supported, and inc0 means what it says (timm reads it as inc1).

        Raises:
          ConfigError: a string that cannot be read; the message names the part.
        """
        hint = f"a right one is '{_EXAMPLE}', of m, n, mstd, mmax, inc (0 or 1) and p"
        kind, *parts = text.split("-")
        if kind != "rand":
            raise ConfigError(f"RandAugment string '{text}' must start with 'rand': {hint}")
        values = {}
        for part in parts:
            matches = [key for key, (_, pattern, _) in _NOTATION.items() if re.fullmatch(key + pattern, part)]
            if not matches:
                raise ConfigError(f"RandAugment string '{text}': cannot read '{part}': {hint}")
            field, _, convert = _NOTATION[matches[0]]
            if field in values:
                raise ConfigError(f"RandAugment string '{text}' gives '{matches[0]}' twice: {hint}")
            values[field] = convert(part[len(matches[0]) :])
        return cls(**values, interpolation=interpolation, mean=tuple(mean))

    def sample(self, rng: np.random.Generator) -> list[Operation]:
        """Draws the operations to apply, 0 to `count` of them. For a clip: drawn once, applied to every frame."""
        operations = []
        for index in rng.integers(len(OPERATIONS), size=self.count):
            if rng.random() >= self.probability:
                continue
            name = OPERATIONS[index]
            argument = operation_argument(name, self._sample_magnitude(rng), self.increasing, rng)
            interpolation = None
            if name in _AFFINE_OPERATIONS:
                random = self.interpolation == "random"
                interpolation = _INTERPOLATIONS[rng.integers(2)] if random else self.interpolation
            operations.append(Operation(name, argument, interpolation))
        return operations

    def apply(self, image: np.ndarray, operations: Sequence[Operation]) -> tuple[np.ndarray, Movement]:
        """Applies operations that `sample` drew, in order, to a uint8 RGB image (height, width, 3).

        Returns a uint8 image of the same shape, `image` itself when there are no operations, and where the pixels went.
        """
        movement = stays()
        for name, argument, interpolation in operations:
            if name in _AFFINE_OPERATIONS:
                fill = tuple(min(255, round(255 * value)) for value in self.mean)
                image, moved = _AFFINE_OPERATIONS[name](image, argument, interpolation, fill)
                movement = moved @ movement
            elif argument is None:
                image = _COLOR_OPERATIONS[name](image)
            else:
                image = _COLOR_OPERATIONS[name](image, argument)
        return image, movement

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, Movement]:
        """Draws and applies; see `sample` and `apply`."""
        return self.apply(image, self.sample(rng))

    def _sample_magnitude(self, rng: np.random.Generator) -> float:
        magnitude = float(self.magnitude)
        if math.isinf(self.magnitude_std):
            magnitude = rng.uniform(0.0, magnitude)
        elif self.magnitude_std > 0:
            magnitude = rng.normal(magnitude, self.magnitude_std)
        return min(max(magnitude, 0.0), float(self.magnitude_max))
