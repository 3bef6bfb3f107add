"""What reports of all tasks have in common."""

import numpy as np
import pytest

from posmlp_jax.tasks.reporting import say_left_out


@pytest.mark.parametrize(
    ("counts", "lines"),
    [
        ([1, 4], []),
        (
            [1, 5, 3, 9],
            [
                "2 of 4 images have more than 4 objects, and the smallest of them are left out; --config.max_objects=9 "
                "would hold all"
            ],
        ),
    ],
)
def test_more_than_a_batch_holds_is_said(counts, lines):
    assert say_left_out(np.array(counts), "max_objects", 4, "objects", "images") == lines
