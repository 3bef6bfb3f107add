"""The frame mAP of AVA, from two of its tables: `python -m posmlp_jax.tasks.action_detection.frame_map --help`.

A class's detections on a key frame each go to the box of ground truth that they overlap most, at an IoU of 0.5 or more,
and are wrong where another has been there before; there is no second choice. The average precision of a class is the
area below the monotone envelope of precision over recall, and the mAP the mean over the classes that there is ground
truth of. The evaluators in use differ in the rest, which `PROTOCOLS` says. Where scores are equal, the row that comes
first in the table counts first; the originals leave that open.
"""

import dataclasses
import json
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from posmlp_jax.command_line import CommandParser, run_program
from posmlp_jax.data.sources.ava_tables import Boxes, read_detections, read_excluded, read_ground_truth, read_label_map
from posmlp_jax.data.sources.objects import Category
from posmlp_jax.errors import ConfigError, DataError, nearest
from posmlp_jax.tasks.action_detection.matching import are_right, average_precision, number_frames
from posmlp_jax.tasks.action_detection.mismatches import check_tables
from posmlp_jax.writing import check_result, write_result


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How one of the evaluators in use does what the others do otherwise.

    Attributes:
      by_score: whether a frame's detections take their boxes by descending score, or in the order of the table.
      most: how many rows, each a box with a class, a frame may have: those of the highest scores; None for all.
      frames: the frames whose detections count: those with ground truth of any class ('any'), with some of the classes
        that are evaluated ('evaluated'), or all, whose detections are wrong where there is no ground truth ('all').
      lenient: classes without detections leave the mean, and ground truth on excluded frames is missed, not left out.
      empty: whether boxes without an area count, as wrong ones.
      precision: in which corners and scores are compared.
    """

    by_score: bool = True
    most: int | None = None
    frames: str = "any"
    lenient: bool = False
    empty: bool = False
    precision: type[np.floating] = np.float64


# By ActivityNet's `get_ava_performance.py` since 2020; `ava_eval_helper.py` of SlowFast, which most papers use; and
# `ava_utils.py` of mmaction2.
PROTOCOLS = {
    "official": Protocol(most=50),
    "slowfast": Protocol(by_score=False, frames="all"),
    "mmaction2": Protocol(frames="evaluated", lenient=True, empty=True, precision=np.float32),
}


class FrameMAP(NamedTuple):
    """What `frame_map` gives.

    Attributes:
      map: the mean over `classes`, in [0, 1].
      classes: the average precision of each class that is in the mean, by its id, ascending.
    """

    map: float
    classes: dict[int, float]


def frame_map(
    truth: Boxes,
    detections: Boxes,
    classes: Collection[int],
    *,
    excluded: Collection[tuple[str, int]] = frozenset(),
    protocol: str = "official",
) -> FrameMAP:
    """Scores detections as AVA does.

    Args:
      truth: every row that ground truth has, those of other classes, too: their frames are annotated.
      detections: scored rows with an action.
      classes: the ids that are evaluated; rows of others do not count.
      excluded: key frames, (video, second), that do not count.
      protocol: one of `PROTOCOLS`.

    Raises:
      ConfigError: for an unknown protocol.
      DataError: when no class is left to take the mean over.
    """
    if protocol not in PROTOCOLS:
        raise ConfigError(f"no protocol '{protocol}': {nearest(protocol, PROTOCOLS)}")
    rules = PROTOCOLS[protocol]
    ids = np.array(sorted(set(classes)), np.int64)
    annotated, of_detections = number_frames(truth, detections)
    left_out = truth.are_of(excluded), detections.are_of(excluded)
    counted = np.isin(truth.actions, ids)
    wanted = np.isin(detections.actions, ids) & ~left_out[1]
    if rules.frames != "all":
        among = ~left_out[0] & (counted | (rules.frames == "any"))
        wanted &= np.isin(of_detections, annotated[among])
    if rules.most is not None:
        wanted[wanted] = _highest(of_detections[wanted], detections.scores[wanted], rules.most)
    if not rules.empty:
        wanted &= (detections.boxes[:, 2:] > detections.boxes[:, :2]).all(1)
    rows = np.flatnonzero(wanted)
    if rules.by_score:
        rows = rows[np.argsort(-detections.scores[rows], kind="stable")]
    present = np.flatnonzero(counted & ~left_out[0])
    right = are_right(
        _groups(of_detections[rows], detections.actions[rows], ids),
        detections.boxes[rows].astype(rules.precision),
        _groups(annotated[present], truth.actions[present], ids),
        truth.boxes[present].astype(rules.precision),
    )
    missable = truth.actions[counted if rules.lenient else present]
    numbers = dict(zip(*(each.tolist() for each in np.unique(missable, return_counts=True)), strict=True))
    scores = detections.scores[rows].astype(rules.precision)
    precisions = {}
    for action in (int(id_) for id_ in ids if id_ in numbers):
        of_class = np.flatnonzero(detections.actions[rows] == action)
        if len(of_class) or not rules.lenient:
            by_score = of_class[np.argsort(-scores[of_class], kind="stable")]
            precisions[action] = average_precision(right[by_score], numbers[action])
    if not precisions:
        raise DataError("there is nothing to score: no class of the label map has ground truth, or no detection counts")
    return FrameMAP(float(np.mean(list(precisions.values()))), precisions)


def main(argv: list[str] | None = None) -> None:
    """The command. Raises a PosMLPError for a mistake of the user."""
    parser = CommandParser("posmlp_jax.tasks.action_detection.frame_map", __doc__)
    parser.add_argument("--groundtruth", required=True, help="CSV: video,second,x1,y1,x2,y2,action,person")
    parser.add_argument("--detections", required=True, help="CSV: video,second,x1,y1,x2,y2,action,score")
    parser.add_argument("--labelmap", required=True, help="the actions that count, .pbtxt")
    parser.add_argument("--excluded", help="CSV: video,second of frames that do not count")
    parser.add_argument("--protocol", default="official", help=f"{', '.join(PROTOCOLS)} (official)")
    parser.add_argument("--output", help='where to write the result to: {"map": …, "classes": {"ID": …}}')
    arguments = parser.parse_args(argv)
    if arguments.protocol not in PROTOCOLS:
        raise ConfigError(f"--protocol={arguments.protocol} is unknown: {nearest(arguments.protocol, PROTOCOLS)}")
    files = [arguments.groundtruth, arguments.detections, arguments.labelmap]
    if arguments.output:
        check_result(arguments.output, [*files, *([arguments.excluded] if arguments.excluded else [])])
    categories = read_label_map(arguments.labelmap)
    excluded = read_excluded(arguments.excluded) if arguments.excluded else frozenset()
    truth, detections = read_ground_truth(arguments.groundtruth), read_detections(arguments.detections)
    ids = [category.id for category in categories]
    for note in check_tables(truth, detections, ids):
        print(f"note: {note}")
    scores = frame_map(truth, detections, ids, excluded=excluded, protocol=arguments.protocol)
    print("\n".join(_describe(scores, categories, arguments.protocol)))
    if arguments.output:
        write_result(arguments.output, json.dumps(scores._asdict(), indent=2))


def _describe(scores: FrameMAP, categories: Sequence[Category], protocol: str) -> list[str]:
    lines = [
        f"{100 * scores.classes[each.id]:6.2f} %  {each.id:>3} {each.name}"
        for each in categories
        if each.id in scores.classes
    ]
    counted = f"{len(scores.classes)} of {len(categories)} classes"
    return [*lines, f"mAP {100 * scores.map:.4f} % over {counted} (protocol {protocol})"]


def _highest(frames: Int[np.ndarray, " n"], scores: Float[np.ndarray, " n"], most: int) -> Bool[np.ndarray, " n"]:
    """Which rows are among the `most` of their frame that have the highest scores."""
    order = np.lexsort((-scores, frames))
    _, first, counts = np.unique(frames[order], return_index=True, return_counts=True)
    kept = np.zeros(len(frames), bool)
    kept[order] = np.arange(len(frames)) - np.repeat(first, counts) < most
    return kept


def _groups(
    frames: Int[np.ndarray, " n"], actions: Int[np.ndarray, " n"], ids: Int[np.ndarray, " k"]
) -> Int[np.ndarray, " n"]:
    return frames * len(ids) + np.searchsorted(ids, actions)


def run(argv: list[str] | None = None) -> None:
    """Runs `main` as a program."""
    run_program(main, argv)


if __name__ == "__main__":
    run()
