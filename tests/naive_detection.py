"""What detectors see and are trained on, as float64 loops over samples and anchors: mmdetection's conventions."""

import itertools
import math

import numpy as np

BACKGROUND, IGNORED = -1, -2


def area(box) -> float:
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)


def iou(a, b) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    overlap = max(width, 0.0) * max(height, 0.0)
    union = area(a) + area(b) - overlap
    return overlap / union if union else 0.0


def encode(box, anchor, std=(1, 1, 1, 1)) -> np.ndarray:
    center = [(each[0] + each[2]) / 2 for each in (box, anchor)], [(each[1] + each[3]) / 2 for each in (box, anchor)]
    width, height = anchor[2] - anchor[0], anchor[3] - anchor[1]
    deltas = [
        (center[0][0] - center[0][1]) / width,
        (center[1][0] - center[1][1]) / height,
        np.log((box[2] - box[0]) / width),
        np.log((box[3] - box[1]) / height),
    ]
    return np.array(deltas) / np.array(std)


def cross_entropy(logit: float, target: float) -> float:
    """Of a sigmoid."""
    return np.logaddexp(0, logit) - target * logit


def focal(logits, target: int, alpha=0.25, gamma=2.0) -> float:
    total = 0.0
    for label, logit in enumerate(logits):
        p = 1 / (1 + np.exp(-logit))
        if label == target:
            total += -alpha * (1 - p) ** gamma * np.log(p)
        else:
            total += -(1 - alpha) * p**gamma * np.log(1 - p)
    return total


def is_inside(anchor, size) -> bool:
    """Whether an anchor's cell begins within the image, whose sides mmdetection pads to multiples of 32."""
    height, width = (-(-int(side) // 32) * 32 for side in size)
    return (anchor[0] + anchor[2]) / 2 < width - 0.5 and (anchor[1] + anchor[3]) / 2 < height - 0.5


def assigned(anchors, objects, size, positive: float, negative: float, low_quality: float) -> list[int]:
    """For each anchor the number of the object in the list, or that it is background, or ignored."""
    inside = [is_inside(anchor, size) for anchor in anchors]
    overlaps = np.array([[iou(box, anchor) for anchor in anchors] for box in objects]).reshape(-1, len(anchors))
    result = []
    for index in range(len(anchors)):
        if not inside[index]:
            result.append(IGNORED)
            continue
        column = overlaps[:, index]
        best = column.max(initial=-1.0)
        number = BACKGROUND if best < negative else IGNORED
        if best >= positive:
            number = int(column.argmax())
        for row in overlaps:
            highest = row[inside].max()
            if highest >= low_quality and row[index] == highest:
                number = int(column.argmax())
        result.append(number)
    return result


def roi_align(map, box, size: int, scale: float, sampling_ratio: int = 0, aligned: bool = True) -> np.ndarray:
    """What a map [height, width, channels] holds in a box: loops over the samples of each of size² bins."""
    start, length = [], []
    for axis in (1, 0):
        begin, end = (float(np.float32(box[axis + side]) * np.float32(scale)) for side in (0, 2))
        start.append(begin - 0.5 * aligned)
        length.append(end - begin if aligned else max(end - begin, 1))
    counts = [sampling_ratio or math.ceil(side / size) for side in length]
    bins = np.zeros((size, size, map.shape[-1]))
    for place in itertools.product(range(size), repeat=2):
        for sample in itertools.product(*[range(max(count, 0)) for count in counts]):
            y, x = (
                begin + (bin_ + (index + 0.5) / count) * side / size
                for begin, bin_, index, count, side in zip(start, place, sample, counts, length, strict=True)
            )
            bins[place] += interpolate(map, y, x) / math.prod(counts)
    return bins


def interpolate(map, y: float, x: float):
    """0 beyond a cell outside of the map, and within that the value at the border."""
    height, width, _ = map.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0.0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = int(y), int(x)
    value = 0.0
    for row, column in itertools.product((top, top + 1), (left, left + 1)):
        share = (1 - abs(y - row)) * (1 - abs(x - column))
        if share:
            value = value + share * map[row, column]
    return value
