"""What detectors take in training, by counting."""

import pytest
from tiny_detectors import fields

from posmlp_jax.analysis.complexity import detector_loss, detector_memory, format_detectors
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
    name = NAMES[1]
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


def test_a_table():
    rows = [Row("table 8: RetinaNet T", NAMES[0], fields(NAMES[0]) | {"image_size": 64})]
    head, row, *_ = format_detectors(rows).splitlines()
    assert row.startswith("RetinaNet T")
    assert f"{model_cost(NAMES[0], **fields(NAMES[0]))[0]:,}" in row
    assert head.split()[0] == "parameters"


def test_memory_of_a_network_alone_is_refused():
    with pytest.raises(PosMLPError, match="detector_memory"):
        model_memory(NAMES[0], **fields(NAMES[0]))
