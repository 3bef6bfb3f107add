"""What detectors see: normalised pixels, and zeros where an image's canvas has none of it."""

import numpy as np

from posmlp_jax.tasks.detection.objective import detector_input

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


def test_padding_is_zero_and_the_rest_is_normalised():
    """Whatever the canvas has there: black pixels would be far below the mean."""
    images = np.random.default_rng(0).integers(0, 256, (3, 6, 8, 3)).astype(np.uint8)
    sizes = np.array([[6, 8], [4, 8], [5, 3]], np.int32)
    found = np.asarray(detector_input(images, sizes, MEAN, STD))
    expected = np.zeros(images.shape)
    for image, row, column, channel in np.ndindex(images.shape):
        if row < sizes[image, 0] and column < sizes[image, 1]:
            value = images[image, row, column, channel] / 255
            expected[image, row, column, channel] = (value - MEAN[channel]) / STD[channel]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
