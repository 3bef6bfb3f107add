"""What is told from the order of frames alone, of people that models have not seen; the slow test holds the bars."""

import numpy as np
import pytest
from runs import run

from benchmarks.micro_motion import read_predictions, signs_right
from posmlp_jax.tasks.micro_expressions.predictions import Predictions


def test_directions_are_compared_within_a_part():
    """By loops, with classes that are the likeliest ones but of no part of the face."""
    rng = np.random.default_rng(0)
    emotions = [("happiness", "repression", "surprise", "disgust")[index % 4] for index in range(80)]
    scores = rng.random((80, 3)).astype(np.float32)
    classes, whose = np.zeros(80, np.int64), ("a/b",) * 80
    right = signs_right(
        Predictions(whose, whose, classes, classes, scores, ("negative", "positive", "surprise")), emotions
    )
    wanted = {"mouth": [], "brow": []}
    for emotion, (negative, positive, surprise) in zip(emotions, scores, strict=True):
        up = surprise if emotion in ("surprise", "disgust") else positive
        part = "brow" if emotion in ("surprise", "disgust") else "mouth"
        wanted[part].append(up > negative if emotion in ("happiness", "surprise") else negative > up)
    assert {part: list(each) for part, each in right.items()} == wanted


@pytest.mark.slow
@pytest.mark.heavy
@pytest.mark.usefixtures("optimized_programs")
@pytest.mark.parametrize(("block", "start"), [("parallel", "posmlp_video_moving_digits"), ("spatial", "")])
def test_a_person_who_was_left_out_is_read_by_the_order_of_frames(tmp_path, block, start):
    done = run(
        "--config=configs/micro_expressions/micro_motions.py",
        "--mode=leave_one_out",
        f"--config.data.data_dir={tmp_path}",
        f"--config.model.block={block}",
        f"--config.init_from={start}",
        f"--workdir={tmp_path / 'run'}",
    )
    assert done.code == 0, done.errors
    predictions, emotions = read_predictions(tmp_path / "run")
    right = np.concatenate(list(signs_right(predictions, emotions).values()))
    if block == "spatial":
        assert 0.42 <= right.mean() <= 0.58
    else:
        assert predictions.judged().uf1 >= 0.80
