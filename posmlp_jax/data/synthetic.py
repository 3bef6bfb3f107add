"""Generated images, for speed tests and for trying a config without data."""

import numpy as np

from posmlp_jax.data.source import Source


class SyntheticSource(Source):
    """Noise over one brightness per class and colour: cheap, the same for the same index, and learnable.

    Args:
      num_examples: how many images.
      num_classes: their labels are spread evenly over [0, num_classes).
      size: (height, width) of every image.
      offset: the number of the first image; other numbers are other images.
    """

    def __init__(self, num_examples: int, num_classes: int, size: tuple[int, int] = (256, 256), offset: int = 0):
        self._num_examples = num_examples
        self._size = size
        self._offset = offset
        self.num_classes = num_classes
        self.class_names = None
        self.description = f"{num_examples} generated images of {size[0]}×{size[1]}, {num_classes} classes"

    def __len__(self) -> int:
        """The number of images."""
        return self._num_examples

    def read(self, index: int) -> tuple[np.ndarray, int]:
        """A uint8 image [height, width, 3] and its label."""
        number = index + self._offset
        (label,) = self._read_labels(range(index, index + 1))
        # Each class has its own mean colour; the noise is half the range.
        colour = np.random.default_rng((1, label)).integers(0, 128, 3, dtype=np.uint8)
        noise = np.random.default_rng((0, number)).bytes(3 * self._size[0] * self._size[1])
        return (np.frombuffer(noise, np.uint8).reshape(*self._size, 3) >> 1) + colour, label

    def _read_labels(self, indices: range) -> list[int]:
        return [(index + self._offset) % self.num_classes for index in indices]

    def example_id(self, index: int) -> str:
        """`synthetic:number`."""
        return f"synthetic:{index + self._offset}"
