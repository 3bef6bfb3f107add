"""What a real published checkpoint stores beside what it learned, which `reference_outputs` leaves out.

Index tables by naive loops over pairs of tokens, a query and a key at (row, column), from the published definition:

- GQPE's `rel_indices` are float32: dx = column_k − column_q, dy = row_q − row_k, dx², dy², dx·dy; isotropic: dx, dy,
  dx² + dy².
- LRPE's `window_relative_position_index` are int64: the row of the table, (row_q − row_k + w − 1)(2w − 1) +
  (column_q − column_k + w − 1); over time t_q − t_k + T − 1, with an axis of size 1 after the two of times.

BatchNorm's counters are int64 scalars.
"""

import functools
import itertools
import math

import numpy as np

ENDS = (".rel_indices", ".window_relative_position_index", ".num_batches_tracked")


def with_buffers(state_dict: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The parameters and every buffer of the published model that they belong to."""
    buffers = {}
    for name, value in state_dict.items():
        layer, _, parameter = name.rpartition(".")
        if parameter == "running_mean":
            buffers[f"{layer}.num_batches_tracked"] = np.zeros((), np.int64)
        if parameter in ("attention_spreads", "window_relative_position_bias_table"):
            tokens = state_dict[f"{layer}.token_proj_n_bias"].size
        if parameter == "attention_spreads":
            buffers[f"{layer}.rel_indices"] = rel_indices(math.isqrt(tokens), isotropic=value.ndim == 1)
        if parameter == "window_relative_position_bias_table":
            in_time = ".t_fc." in name
            index = time_index(tokens) if in_time else window_index(math.isqrt(tokens))
            buffers[f"{layer}.window_relative_position_index"] = index
    return state_dict | buffers


def _pairs(side: int):
    """The numbers and places of every query and key in a window."""
    places = list(enumerate(itertools.product(range(side), repeat=2)))
    return itertools.product(places, places)


@functools.cache
def rel_indices(side: int, isotropic: bool) -> np.ndarray:
    features = np.zeros((side * side, side * side, 3 if isotropic else 5), np.float32)
    for (query, (row_q, column_q)), (key, (row_k, column_k)) in _pairs(side):
        dx, dy = column_k - column_q, row_q - row_k
        features[query, key] = (dx, dy, dx**2 + dy**2) if isotropic else (dx, dy, dx**2, dy**2, dx * dy)
    return features


@functools.cache
def window_index(side: int) -> np.ndarray:
    index = np.zeros((side * side, side * side), np.int64)
    for (query, (row_q, column_q)), (key, (row_k, column_k)) in _pairs(side):
        index[query, key] = (row_q - row_k + side - 1) * (2 * side - 1) + column_q - column_k + side - 1
    return index


@functools.cache
def time_index(frames: int) -> np.ndarray:
    index = np.zeros((frames, frames, 1), np.int64)
    for query, key in itertools.product(range(frames), repeat=2):
        index[query, key, 0] = query - key + frames - 1
    return index
