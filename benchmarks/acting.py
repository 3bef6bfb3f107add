"""Whether a trained action detector reads the order of frames: `python -m benchmarks.acting runs/acting_digits`.

What the digits of acting_digits do comes in pairs of which one, played backwards, is the other. For each pair: the
share of the boxes in which one of the two is done whose own action gets the higher score, with the frames in order,
backwards, and shuffled (each clip in its own way). By chance it is 50 %.
"""

from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import jax
import numpy as np
from flax import nnx

from benchmarks.motion import ORDERS, PAIRS, pair_accuracies
from posmlp_jax.checkpoints.pretrained import open_pretrained
from posmlp_jax.command_line import CommandParser, run_program
from posmlp_jax.data import eval_batches, evaluation_sizes
from posmlp_jax.models.registry import NamedModel
from posmlp_jax.training.experiment import open_evaluation
from posmlp_jax.training.saved_config import evaluated, get_config

BATCH = 32


def read_scores(workdir: Path, orders: dict[str, Callable], data_dir: str = "") -> tuple[dict[str, np.ndarray], ...]:
    """Scores [n, actions] of the evaluation's labelled boxes for each order of frames, what is done, and all names.

    What is done in a box is bool [n, actions].

    Raises:
      PosMLPError: when there is no checkpoint or no data set.
    """
    pretrained = open_pretrained(workdir)
    config = get_config(str(workdir))
    config.data.films.eval_boxes = ""
    if data_dir:
        config.data.data_dir = data_dir
    config, model = evaluated(config, pretrained)
    experiment = open_evaluation(config, NamedModel(*model))
    graph, state = nnx.split(pretrained.model())
    score = jax.jit(lambda state, batch: experiment.task.evaluate(nnx.merge(graph, state), batch)[1]["scores"])
    source, data = experiment.eval_source, config.data
    read = partial(eval_batches, targets=experiment.task.targets(source), batch_size=BATCH)
    scores, done = {name: [] for name in orders}, []
    with closing(read(source, data, evaluation_sizes(data, pretrained.config.input_size))) as batches:
        for batch in batches:
            real = (batch["valid"] > 0) & (batch["weight"] > 0)[:, None]
            done.append(batch["labels"][real] > 0)
            numbers = batch["index"].clip(0)  # What fills up the last batch has none.
            for name, order in orders.items():
                clips = np.stack([order(*pair) for pair in zip(batch["image"], numbers, strict=True)])
                scores[name].append(np.asarray(score(nnx.to_pure_dict(state), batch | {"image": clips}))[real])
    return {name: np.concatenate(parts) for name, parts in scores.items()}, np.concatenate(done), source.class_names


def main(arguments: list[str] | None = None) -> None:
    parser = CommandParser("benchmarks.acting", __doc__)
    parser.add_argument("workdir", type=Path, help="of a run of configs/ava/acting_digits.py")
    parser.add_argument("--data_dir", default="", help="where acting_digits lies, if no longer where it was")
    options = parser.parse_args(arguments)
    scores, done, names = read_scores(options.workdir, ORDERS, options.data_dir)
    print(f"{'frames':12}" + "".join(f"{' / '.join(pair):>30}" for pair in PAIRS))
    for order, of_boxes in scores.items():
        shares = pair_accuracies(of_boxes, done, names).values()
        print(f"{order:12}" + "".join(f"{100 * share:28.1f} %" for share in shares))
    counts = (int(done[:, [names.index(name) for name in pair]].any(axis=1).sum()) for pair in PAIRS)
    print(f"{'boxes':12}" + "".join(f"{count:30}" for count in counts))


if __name__ == "__main__":
    run_program(main, None)
