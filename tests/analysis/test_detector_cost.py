"""What detectors take in training, by counting."""

import pytest
from tiny_detectors import fields

from posmlp_jax.analysis import complexity
from posmlp_jax.analysis.complexity import detector_loss, detector_memory
from posmlp_jax.analysis.paper_tables import Row
from posmlp_jax.errors import PosMLPError
from posmlp_jax.models import model_config
from posmlp_jax.models.cost import forward_macs, kept_bytes, model_cost, model_memory

pytestmark = pytest.mark.heavy

NAMES = ("retinanet_posmlp_t", "mask_rcnn_posmlp_t")


def config_of(name, **overrides):
    return model_config(name, **fields(name) | {"image_size": 64} | overrides)


def test_memory_of_images_and_of_a_step():
    """Three images take as much as one and twice what each takes; less where blocks are computed again."""
    name = NAMES[0]
    image, rest = detector_memory(config_of(name))
    loss, args = detector_loss(config_of(name), 3)
    assert kept_bytes(loss, *args) == rest + 3 * image
    assert image > 0
    # Kernels at least, once.
    assert rest > 2 * model_cost(name, **fields(name))[0]
    assert detector_memory(config_of(name, remat=True))[0] < image


def test_retinanets_loss_multiplies_as_much_as_it_does_when_it_finds():
    """All of it is in the network: what is found is only looked up and compared."""
    loss, args = detector_loss(config_of(NAMES[0]), 1)
    assert forward_macs(loss, *args) == model_cost(NAMES[0], **fields(NAMES[0]) | {"image_size": 64})[1]


def test_a_table(monkeypatch):
    """By its columns: finding, the loss, an image, with `remat`, and a step, with 12 bytes a parameter."""
    monkeypatch.setenv("COLUMNS", "120")  # Wide enough for its head.
    given = {False: (3 * 2**29, 2**30), True: (2**29, 2**30)}
    monkeypatch.setattr(complexity, "detector_memory", lambda config: given[config.remat])
    row = Row("table 8: Mask R-CNN T", NAMES[1], fields(NAMES[1]) | {"image_size": 64})
    parameters, macs = model_cost(NAMES[1], **row.overrides)
    head, line, _, about, *_ = complexity.format_detectors([row]).splitlines()
    *_, count, finding, loss, image, again, step = line.split()
    assert (count, finding) == (f"{parameters:,}", f"{macs / 1e9:.1f}")
    assert loss == "0.0"  # Of a tiny one.
    assert (image, again, step) == ("1.50", "0.50", f"{1 + 12 * parameters / 2**30:.2f}")
    assert head.split()[0] == "parameters"
    assert about.startswith("At 64×64.")


def test_memory_of_a_network_alone_is_refused():
    with pytest.raises(PosMLPError, match="detector_memory"):
        model_memory(NAMES[0], **fields(NAMES[0]))
