"""PoTGU reads time: what tells opposite motions apart is the order of frames alone."""

import jax
import numpy as np
import pytest
from helpers import randomized, small
from runs import run

from benchmarks.motion import ORDERS, PAIRS, pair_accuracies, read_scores
from posmlp_jax.data.prepare.datasets.moving_digits import CLASSES
from posmlp_jax.models import create_model


@pytest.mark.parametrize("block", ["parallel", "temporal_spatial", "spatial_temporal", "joint", "spatial"])
def test_without_temporal_parts_the_order_of_frames_changes_nothing(block):
    changes = small("posmlp_video_s") | {"block": block, "dropout": 0.0, "drop_path": 0.0}
    model = randomized(lambda: create_model("posmlp_video_s", **changes))
    clips = jax.random.normal(jax.random.key(0), (3, model.config.num_frames, 32, 32, 3))
    logits = jax.jit(model.__call__)
    in_order, backwards = np.asarray(logits(clips)), np.asarray(logits(clips[:, ::-1]))
    if block == "spatial":
        np.testing.assert_allclose(backwards, in_order, rtol=1e-4, atol=1e-4 * np.abs(in_order).max())
    else:
        assert np.abs(backwards - in_order).max(axis=1).min() > 1e-2 * np.abs(in_order).max()


def test_pair_accuracies_by_loops():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(80, 8)), np.arange(80) % 8
    wanted = {}
    for first, second in PAIRS:
        right = [
            logits[i, CLASSES.index(own)] > logits[i, CLASSES.index(other)]
            for own, other in ((first, second), (second, first))
            for i in range(80)
            if CLASSES[labels[i]] == own
        ]
        wanted[f"{first} / {second}"] = sum(right) / len(right)
    assert pair_accuracies(logits, labels, CLASSES) == pytest.approx(wanted)


@pytest.mark.slow
@pytest.mark.usefixtures("optimized_programs")
def test_a_trained_network_reads_motion_and_without_temporal_parts_it_cannot(tmp_path):
    common = ["--config=configs/moving_digits.py", f"--config.data.data_dir={tmp_path}"]
    for name, changes in (("whole", []), ("spatial", ["--config.model.block=spatial"])):
        result = run(*common, *changes, f"--workdir={tmp_path / name}")
        assert result.code == 0, result.errors
    scores, labels, names = read_scores(tmp_path / "whole", ORDERS)
    assert (scores["in order"].argmax(1) == labels).mean() >= 0.95
    for share in pair_accuracies(scores["in order"], labels, names).values():
        assert share >= 0.95
    for share in pair_accuracies(scores["backwards"], labels, names).values():
        assert share <= 0.05
    # Of 100 clips a pair, chance is 50 ± 5.
    for share in pair_accuracies(scores["shuffled"], labels, names).values():
        assert 0.3 <= share <= 0.7
    scores, labels, names = read_scores(tmp_path / "spatial", {"in order": ORDERS["in order"]})
    for share in pair_accuracies(scores["in order"], labels, names).values():
        assert 0.3 <= share <= 0.7
