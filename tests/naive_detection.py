"""What detectors are trained on, as float64 loops over boxes and anchors: mmdetection's conventions, written down."""

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
