"""Whether a trained model reads the order of frames: `python -m benchmarks.motion runs/moving_digits`.

The clips of moving_digits come in pairs of classes of which one, played backwards, is the other. For each pair: the
share of its clips whose own class gets the higher score of the two, with the frames in order, backwards, and shuffled
(each clip in its own way). By chance it is 50 %.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from posmlp_jax.checkpoints.pretrained import open_pretrained
from posmlp_jax.command_line import CommandParser, run_program
from posmlp_jax.data import eval_batches, open_source
from posmlp_jax.tasks.classification.classifier import classifier
from posmlp_jax.training.saved_config import data_config

PAIRS = (("left", "right"), ("up", "down"), ("clockwise", "counterclockwise"), ("growing", "shrinking"))
BATCH = 50


def backwards(clip: np.ndarray, index: int) -> np.ndarray:
    """The frames from the last to the first."""
    return clip[::-1]


def shuffled(clip: np.ndarray, index: int) -> np.ndarray:
    """The frames in a random order, which is always the same for one clip."""
    return clip[np.random.default_rng(index).permutation(len(clip))]


ORDERS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "in order": lambda clip, index: clip,
    "backwards": backwards,
    "shuffled": shuffled,
}


def read_scores(workdir: Path, orders: dict[str, Callable], data_dir: str = "") -> tuple[dict[str, np.ndarray], ...]:
    """Logits [n, classes] of the evaluation clips for each order of their frames, and their labels [n] and class names.

    Raises:
      PosMLPError: when there is no checkpoint or no data set.
    """
    pretrained = open_pretrained(workdir)
    data = data_config(pretrained)
    if data_dir:
        data.data_dir = data_dir
    source = open_source(data, "eval")
    score = classifier(pretrained.model(), data.mean, data.std)
    logits, labels = {name: [] for name in orders}, []
    for batch in eval_batches(source, data, pretrained.config.input_size, batch_size=BATCH):
        real = batch["weight"] > 0
        labels.append(batch["label"][real])
        for name, order in orders.items():
            clips = np.stack([order(*pair) for pair in zip(batch["image"], batch["index"], strict=True)])
            logits[name].append(np.asarray(score(clips))[real])
    return {name: np.concatenate(parts) for name, parts in logits.items()}, np.concatenate(labels), source.class_names


def pair_accuracies(logits: np.ndarray, shown: np.ndarray, class_names: tuple[str, ...]) -> dict[str, float]:
    """For each pair, the share of what shows one of it whose class has a higher logit than the pair's other one.

    Args:
      logits: [n, classes] of clips, or of boxes in them.
      shown: bool [n, classes], or the class of each, int [n].
      class_names: of all classes.
    """
    if shown.ndim == 1:
        shown = shown[:, None] == np.arange(logits.shape[1])
    accuracies = {}
    for pair in PAIRS:
        both = [class_names.index(name) for name in pair]
        own = shown[:, both].any(axis=1)
        chosen = logits[own][:, both].argmax(axis=1)
        accuracies[" / ".join(pair)] = float(shown[own][np.arange(len(chosen)), np.asarray(both)[chosen]].mean())
    return accuracies


def main(arguments: list[str] | None = None) -> None:
    parser = CommandParser("benchmarks.motion", __doc__)
    parser.add_argument("workdir", type=Path, help="of a run of configs/moving_digits.py")
    parser.add_argument("--data_dir", default="", help="where moving_digits lies, if no longer where it was")
    options = parser.parse_args(arguments)
    logits, labels, names = read_scores(options.workdir, ORDERS, options.data_dir)
    print(f"{'frames':12}{'top-1':>9}" + "".join(f"{' / '.join(pair):>30}" for pair in PAIRS))
    for order, scores in logits.items():
        accuracies = pair_accuracies(scores, labels, names)
        top1 = (scores.argmax(axis=1) == labels).mean()
        print(f"{order:12}{100 * top1:7.1f} %" + "".join(f"{100 * share:28.1f} %" for share in accuracies.values()))


if __name__ == "__main__":
    run_program(main, None)
