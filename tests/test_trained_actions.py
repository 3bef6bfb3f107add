"""What docs/actions.md says of the built-in films: trained as it says, the order of frames is what tells."""

import numpy as np
import pytest
from runs import Process, on_devices

from benchmarks.acting import read_scores
from benchmarks.motion import ORDERS, PAIRS, pair_accuracies
from posmlp_jax.training import evaluate
from posmlp_jax.training.saved_config import get_config

pytestmark = [pytest.mark.slow, pytest.mark.heavy]


def trained(folder, name: str, *changes: str):
    workdir = folder / name
    arguments = ["--config=configs/ava/acting_digits.py", f"--config.data.data_dir={folder}", f"--workdir={workdir}"]
    run = Process(*arguments, *changes, XLA_FLAGS=on_devices(1))
    assert run.end(1800) == 0, run.errors
    return workdir


def best_map(workdir, **films: str) -> float:
    config = get_config(str(workdir))
    config.data.films.update(films)
    return max(result["map"] for result in evaluate(config, workdir).values())


@pytest.mark.usefixtures("optimized_programs")
def test_a_trained_detector_reads_motion_and_without_temporal_parts_it_cannot(tmp_path):
    whole = trained(tmp_path, "whole")
    assert best_map(whole) >= 0.90
    assert best_map(whole, eval_boxes="annotations/detections_val.csv") >= 0.80
    scores, done, names = read_scores(whole, {order: ORDERS[order] for order in ("in order", "backwards")})
    for share in pair_accuracies(scores["backwards"], done, names).values():
        assert share <= 0.15
    spatial = trained(tmp_path, "spatial", "--config.model.block=spatial")
    scores, done, names = read_scores(spatial, {"in order": ORDERS["in order"]})
    for pair, share in zip(PAIRS, pair_accuracies(scores["in order"], done, names).values(), strict=True):
        assert np.sum(done[:, [names.index(name) for name in pair]]) >= 600
        assert 0.44 <= share <= 0.56
