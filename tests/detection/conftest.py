import numpy as np
import pytest


@pytest.fixture(scope="session")
def random_boxes():
    """Makes boxes of every size, some of them partly outside of an image of a size; whole pixels where asked for."""

    def make(number: int, seed: int = 0, size: float = 100.0, whole: bool = False) -> np.ndarray:
        random = np.random.default_rng(seed)
        corners = np.sort(random.uniform(-0.1 * size, 1.1 * size, (number, 2, 2)), axis=1)
        if whole:
            corners = np.round(corners)
            corners[:, 1] += 1
        return corners.reshape(number, 4).astype(np.float32)

    return make
