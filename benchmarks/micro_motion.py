"""Whether models that left out one person each read the direction of a motion: `python -m benchmarks.micro_motion
runs/micro_motions`.

In micro_motions what goes up and what goes down shows the same frames, in another order. For each part of the face: the
share of its clips for which the class of their own direction has a higher score than that of the other one, by the
fold's model that has not seen the person. By chance it is 50 %.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from posmlp_jax.command_line import CommandParser, run_program
from posmlp_jax.data.prepare.datasets.micro_motions import EMOTIONS, PARTS
from posmlp_jax.data.sources.clip_index import SPLIT, read_index
from posmlp_jax.data.sources.tfds_layout import find_prepared
from posmlp_jax.errors import CheckpointError
from posmlp_jax.paths import as_path
from posmlp_jax.tasks.micro_expressions.predictions import Predictions, read_table
from posmlp_jax.training.saved_config import get_config


def read_predictions(workdir: Path, data_dir: str = "") -> tuple[Predictions, list[str]]:
    """The predictions of all folds, and which emotion each clip shows.

    Raises:
      PosMLPError: when there are none, or of other data.
    """
    file = as_path(workdir) / "leave_one_out" / "predictions.csv"
    if not file.exists():
        raise CheckpointError(
            f"there is no {file}; python main.py --mode=leave_one_out "
            "--config=configs/micro_expressions/micro_motions.py writes it when all folds have ended"
        )
    data = get_config(str(workdir)).data
    folder = find_prepared(data.name, data_dir or data.data_dir)
    emotions = {clip.id: clip.emotion for clip in read_index(data.name, folder)[SPLIT]}
    predictions = read_table(file.read_text(), str(file))
    if unknown := [clip for clip in predictions.clips if emotions.get(clip) not in EMOTIONS]:
        raise CheckpointError(f"{file} is not of micro_motions as it lies in {folder}: it has a clip {unknown[0]}")
    return predictions, [emotions[clip] for clip in predictions.clips]


def signs_right(predictions: Predictions, emotions: list[str]) -> Mapping[str, np.ndarray]:
    """Of each part of the face, whether the direction of each of its clips was decided right, bool [n]."""
    found = {}
    for part, directions in PARTS.items():
        classes = [predictions.class_names.index(EMOTIONS[emotion]) for emotion in directions]
        own = np.isin(emotions, directions)
        goes_down = np.array(emotions)[own] == directions[1]
        found[part] = predictions.scores[own][:, classes].argmax(axis=1) == goes_down
    return found


def main(arguments: list[str] | None = None) -> None:
    parser = CommandParser("benchmarks.micro_motion", __doc__)
    parser.add_argument("workdir", type=Path, help="of --mode=leave_one_out on micro_motions")
    parser.add_argument("--data_dir", default="", help="where micro_motions lies, if no longer where it was")
    options = parser.parse_args(arguments)
    predictions, emotions = read_predictions(options.workdir, options.data_dir)
    right = signs_right(predictions, emotions)
    for part, each in {**right, "both": np.concatenate(list(right.values()))}.items():
        print(f"{part:8}{100 * each.mean():6.1f} % of {len(each)} clips: direction right")
    print(f"UF1 {100 * predictions.judged().uf1:.2f} %")


if __name__ == "__main__":
    run_program(main, None)
