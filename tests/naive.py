"""The papers' equations as float64 NumPy loops: slow, and written without a look at the code they are to check.

Shapes are the library's: relations `[groups, N, N]`, tokens `[..., N, C]`, maps `[*map, C]`.
"""

import itertools
import math
from collections.abc import Callable

import numpy as np


def positions(grid) -> list[tuple[int, ...]]:
    """The tokens of a grid in row-major order."""
    return list(itertools.product(*(range(n) for n in grid)))


def offset(query, key) -> np.ndarray:
    return np.array([k - q for q, k in zip(query, key, strict=True)], np.float64)


def inverse_covariance(spread: np.ndarray, covariance: str, axes: int) -> np.ndarray:
    """One group's Σ⁻¹ (Table 6)."""
    if covariance == "isotropic":
        return float(spread) ** 2 * np.identity(axes)
    return spread @ spread.T if covariance == "psd" else spread


def quadratic_logit(delta, center, precision) -> float:
    """Eq. 5 where Σ⁻¹ is symmetric, Eq. 7's linear terms and the quadratic form where it is not."""
    if np.abs(precision - precision.T).max() < 1e-6:
        difference = delta - center
        return -0.5 * sum(
            difference[i] * precision[i, j] * difference[j] for i in range(len(delta)) for j in range(len(delta))
        )
    linear = sum(precision[i, j] * center[j] * delta[i] for i in range(len(delta)) for j in range(len(delta)))
    square = sum(delta[i] * precision[i, j] * delta[j] for i in range(len(delta)) for j in range(len(delta)))
    return linear - 0.5 * square


def softmax(logits: list[float]) -> list[float]:
    exponentials = [math.exp(value - max(logits)) for value in logits]
    return [value / sum(exponentials) for value in exponentials]


def row(
    relation: dict, kind: str, query: int, keys: list[int], grid, group: int, covariance: str = "psd"
) -> list[float]:
    """What one query gives each of the keys it may see.

    Args:
      relation: the parameters by name: `spread` and, if learned, `center`; `table`; `weight`; or both of the latter.
      kind: as in a config.
      query, keys: tokens' numbers in the grid.
    """
    place = positions(grid)
    if kind == "gqpe":
        precision = inverse_covariance(relation["spread"][group], covariance, len(grid))
        center = relation["center"][group] if "center" in relation else np.zeros(len(grid))
        return softmax([quadratic_logit(offset(place[query], place[key]), center, precision) for key in keys])
    entries = []
    for key in keys:
        entry = 0.0
        if kind in ("lrpe", "lrpe_m"):
            index = 0
            for q, k, n in zip(place[query], place[key], grid, strict=True):
                index = index * (2 * n - 1) + (q - k + n - 1)
            entry += relation["table"][index, group]
        if kind in ("dense", "lrpe_m"):  # LRPE-M has one dense matrix for all groups.
            entry += relation["weight"][group if kind == "dense" else 0, query, key]
        entries.append(entry)
    return entries


def relation_matrix(relation: dict, kind: str, grid, groups: int, covariance: str = "psd", mask=None) -> np.ndarray:
    """`[groups, N, N]`, zero where `mask` `[N, N]` is False."""
    tokens = math.prod(grid)
    matrix = np.zeros((groups, tokens, tokens))
    for group in range(groups):
        for query in range(tokens):
            keys = [key for key in range(tokens) if mask is None or mask[query, key]]
            matrix[group, query, keys] = row(relation, kind, query, keys, grid, group, covariance)
    return matrix


def layer_norm(x: np.ndarray, scale: np.ndarray, bias: np.ndarray, epsilon: float = 1e-6) -> np.ndarray:
    result = np.empty(x.shape)
    for place in itertools.product(*(range(n) for n in x.shape[:-1])):
        values = x[place]
        mean = sum(values) / len(values)
        variance = sum((value - mean) ** 2 for value in values) / len(values)
        result[place] = (values - mean) / math.sqrt(variance + epsilon) * scale + bias
    return result


def gelu(x: np.ndarray) -> np.ndarray:
    return np.array([0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in x.ravel()]).reshape(x.shape)


def gating_unit(x: np.ndarray, matrix: np.ndarray, gate: str, split: bool, norm=None, bias=None) -> np.ndarray:
    """Eq. 15 and Figure 3 for the `[N, C]` tokens of one window.

    Args:
      matrix: W, `[groups, N, N]`.
      norm: LayerNorm's (scale, bias), or None.
      bias: b, `[N]`, or None.
    """
    half = x.shape[1] // 2
    first, second = (x[:, :half], x[:, half:]) if split else (x, x)
    if norm is not None:
        first = layer_norm(first, *norm)
    tokens, channels = first.shape
    mixed = np.zeros((tokens, channels))
    for query in range(tokens):
        for channel in range(channels):
            group = channel // (channels // len(matrix))
            for key in range(tokens):
                mixed[query, channel] += matrix[group, query, key] * first[key, channel]
            if bias is not None:
                mixed[query, channel] += bias[query]
    if gate == "concat":
        return np.concatenate([mixed, second], axis=1)
    return mixed + second if gate == "add" else mixed * second


def window_of(place, window, shift) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Which window a token of the map is in, and where in it; windows begin at `shift` minus or plus whole windows."""
    number = tuple((p - s) // side for p, s, side in zip(place, shift, window, strict=True))
    inside = tuple((p - s) % side for p, s, side in zip(place, shift, window, strict=True))
    return number, inside


def window_shift(map_size, window, shifted: bool) -> tuple[int, ...]:
    """Half a window along the axes that have more than one."""
    return tuple(side // 2 if shifted and size > side else 0 for size, side in zip(map_size, window, strict=True))


def mix_map(x: np.ndarray, relation: dict, kind: str, window, groups: int, *, shifted: bool, covariance="psd"):
    """Mixes a map `[*map, C]` in windows: a token sees those tokens of the map that are in its window, and no others.

    Nothing is padded or rolled here: a window that leaves the map has fewer tokens.
    """
    size, channels = x.shape[:-1], x.shape[-1]
    shift = window_shift(size, window, shifted)
    number_in_window = {place: index for index, place in enumerate(positions(window))}
    cut = {place: window_of(place, window, shift) for place in positions(size)}
    rows = {}  # Windows of one kind have the same.
    mixed = np.zeros(x.shape)
    for place, (own_window, inside) in cut.items():
        seen = [other for other, (others_window, _) in cut.items() if others_window == own_window]
        keys = [number_in_window[cut[other][1]] for other in seen]
        for group in range(groups):
            which = inside, tuple(keys), group
            if which not in rows:
                rows[which] = row(relation, kind, number_in_window[inside], keys, window, group, covariance)
            part = slice(group * channels // groups, (group + 1) * channels // groups)
            for weight, other in zip(rows[which], seen, strict=True):
                mixed[(*place, part)] += weight * x[(*other, part)]
    return mixed


def depthwise_conv(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """3×3, stride 2, padding 1: `[H, W, C]` and `[3, 3, 1, mC]` to `[⌈H/2⌉, ⌈W/2⌉, mC]`."""
    height, width, channels = x.shape
    outputs = kernel.shape[-1]
    result = np.zeros(((height + 1) // 2, (width + 1) // 2, outputs))
    for r, c, out, i, j in itertools.product(*map(range, result.shape), range(3), range(3)):
        y, z = 2 * r + i - 1, 2 * c + j - 1
        if 0 <= y < height and 0 <= z < width:
            result[r, c, out] += x[y, z, out * channels // outputs] * kernel[i, j, 0, out]
    return result


def conv(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Sides of 3, stride 2 and padding 1 along every axis: `[*map, C]` and `[3, …, C, D]` to `[*⌈map/2⌉, D]`."""
    size = x.shape[:-1]
    result = np.zeros((*((n + 1) // 2 for n in size), kernel.shape[-1]))
    for place in positions(result.shape[:-1]):
        result[place] = bias
        for tap in positions(kernel.shape[:-2]):
            seen = tuple(2 * p + t - 1 for p, t in zip(place, tap, strict=True))
            if all(0 <= s < n for s, n in zip(seen, size, strict=True)):
                result[place] += x[seen] @ kernel[tap]
    return result


def numeric_gradients(loss: Callable[[dict], float], arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Central differences of a scalar function of a dict of arrays, one entry at a time.

    With float64 and a step of 1e-4 they are good to about 1e-8 of the largest.
    """
    step = 1e-4
    gradients = {}
    for name, array in arrays.items():
        gradient = np.zeros(array.shape)
        for index in np.ndindex(array.shape):
            values = []
            for sign in (1, -1):
                moved = array.copy()
                moved[index] += sign * step
                values.append(loss({**arrays, name: moved}))
            gradient[index] = (values[0] - values[1]) / (2 * step)
        gradients[name] = gradient
    return gradients


def assert_close(actual, expected, tolerance: float = 1e-5) -> None:
    """Equal to `tolerance` of the largest expected magnitude."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape
    scale = np.abs(expected).max()
    assert scale > 0
    error = np.abs(actual - expected).max() / scale
    assert error <= tolerance, f"differs by {error:.1e} of the largest value, allowed {tolerance:.0e}"
