"""What relations have learned, against the papers' equations as float64 loops."""

import math
import re
import textwrap

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import last_names, randomized, small
from naive import assert_close, inverse_covariance, positions, relation_matrix
from runs import ROOT

from posmlp_jax import from_pretrained
from posmlp_jax.analysis import (
    find_units,
    frame_offsets,
    gaussians,
    lrpe_m_parts,
    non_locality,
    relation_maps,
    temporal_table,
    token_bias,
)
from posmlp_jax.analysis.learned import SINGULAR
from posmlp_jax.analysis.units import MissingRelationError, check_place
from posmlp_jax.errors import ConfigError
from posmlp_jax.models import create_model


def tiny(name="posmlp_t", **changes):
    return randomized(lambda: create_model(name, **small(name), **changes))


def parameters(unit) -> dict[str, np.ndarray]:
    """The relation's, in float64, by what `naive` calls them."""
    leaves = nnx.to_flat_state(nnx.state(unit.relation, nnx.Param))
    return last_names({str(path[-1]): leaf[...] for path, leaf in leaves})


@pytest.mark.parametrize("relation", ["gqpe", "lrpe", "lrpe_m", "dense"])
def test_maps_are_rows_of_the_relation(relation):
    unit = find_units(tiny(relation=relation), stage=2)[0]
    grid, groups = unit.relation.grid, unit.relation.groups
    expected = relation_matrix(parameters(unit), relation, grid, groups)
    queries = [(0, 2), (1, 1)]
    rows = [query[0] * grid[1] + query[1] for query in queries]
    assert_close(relation_maps(unit, queries), expected[:, rows].swapaxes(0, 1).reshape(2, groups, *grid))
    middle = (grid[0] // 2, grid[1] // 2)
    np.testing.assert_array_equal(relation_maps(unit), relation_maps(unit, [middle]))
    folded = find_units(tiny(relation=relation).fold(), stage=2)[0]
    np.testing.assert_array_equal(relation_maps(folded), relation_maps(unit))


@pytest.mark.parametrize("covariance", ["psd", "free", "isotropic"])
def test_gaussians_and_non_locality(covariance):
    unit = find_units(tiny(covariance=covariance), stage=2, block=1)[0]
    values = parameters(unit)
    found = gaussians(unit)
    assert_close(found.centers, values["center"])
    total, counted = 0.0, 0
    for group in range(unit.relation.groups):
        precision = inverse_covariance(values["spread"][group], covariance, 2)
        a, d = precision[0, 0], precision[1, 1]
        b = (precision[0, 1] + precision[1, 0]) / 2
        # The eigenvalues of a symmetric 2 × 2 matrix by the quadratic formula.
        root = math.sqrt(((a - d) / 2) ** 2 + b**2)
        eigenvalues = [(a + d) / 2 + root, (a + d) / 2 - root]
        if min(eigenvalues) > 0:
            assert_close(found.covariances[group], np.array([[d, -b], [-b, a]]) / (a * d - b * b))
        else:
            assert np.isnan(found.covariances[group]).all()
        if min(eigenvalues) >= SINGULAR:
            total += math.sqrt(eigenvalues[0] * eigenvalues[1])
            counted += 1
    value, left_out = non_locality(unit)
    assert value == pytest.approx(total / counted, rel=1e-5)
    assert left_out == unit.relation.groups - counted
    if covariance != "free":
        assert_close(found.peaks, values["center"])


def test_peaks_are_where_the_weights_are_largest():
    """Also with Σ̃ = Γ, where that is not Δ (section 5.3): no offset near it has a larger logit."""
    unit = find_units(tiny(covariance="free"), stage=1)[0]
    unit.relation.spread[...] = jnp.array([[[1.0, 0.9], [-0.2, 0.5]], [[-1.0, 0.0], [0.0, 1.0]]])
    unit.relation.center[...] = jnp.array([[0.5, -0.25], [0.0, 0.0]])
    (peak, nowhere), precision, center = gaussians(unit).peaks, np.array([[1.0, 0.9], [-0.2, 0.5]]), [0.5, -0.25]

    def logit(delta):
        return delta @ precision @ center - 0.5 * delta @ precision @ delta

    assert np.isnan(nowhere).all()
    assert np.abs(peak - center).max() > 0.1
    around = [peak + step * np.array(way) for step in (1e-3, 0.1) for way in positions((3, 3)) - np.ones(2)]
    assert logit(peak) == max(map(logit, around))


def test_singular_groups_are_left_out():
    unit = find_units(tiny(), stage=1)[0]
    unit.relation.spread[...] = jnp.array([[[2.0, 0.0], [0.0, 3.0]], [[1.0, 0.0], [0.0, 1e-4]]])
    assert non_locality(unit) == (pytest.approx(6.0), 1)
    unit.relation.spread[...] = jnp.zeros((2, 2, 2))
    value, left_out = non_locality(unit)
    assert math.isnan(value)
    assert left_out == 2


def test_biases_and_parts_of_lrpe_m():
    unit = find_units(tiny(relation="lrpe_m"), stage=1)[0]
    assert_close(token_bias(unit).ravel(), unit.gate.bias[...])
    parts, values = lrpe_m_parts(unit, group=2), parameters(unit)
    grid = unit.relation.grid
    assert_close(parts.dense, values["weight"][0])
    assert_close(parts.learned, relation_matrix(values, "lrpe", grid, 2)[1])
    assert_close(parts.total, relation_matrix(values, "lrpe_m", grid, 2)[1])
    assert token_bias(find_units(tiny(token_bias=False))[0]) is None


@pytest.mark.parametrize("block", ["parallel", "joint"])
def test_tables_over_frames(block):
    unit = find_units(tiny("posmlp_video_s", block=block), stage=1)[0]
    table, grid = parameters(unit)["table"], unit.relation.grid
    frames = grid[0]
    expected = np.zeros((2, 2 * frames - 1))
    for column, offset in enumerate(frame_offsets(unit)):
        row = frames - 1 - offset
        for side in grid[1:]:
            row = row * (2 * side - 1) + side - 1
        expected[:, column] = table[row]
    assert frame_offsets(unit).tolist() == list(range(1 - frames, frames))
    assert_close(temporal_table(unit), expected)


def test_units_in_the_order_of_the_model():
    names = [unit.name for unit in find_units(tiny("posmlp_video_s"))]
    assert names == ["stage 1, block 1, temporal", "stage 1, block 1", "stage 2, block 1, temporal", "stage 2, block 1"]
    (unit,) = find_units(tiny("posmlp_video_s", version="v4"), stage=2, part="temporal")
    assert unit.relation.grid == (4,)


def test_what_docs_say_of_the_models_that_come_with_the_package(capsys):
    """The snippets of docs/relations.md give the numbers that stand beside them."""
    text = (ROOT / "docs/relations.md").read_text()
    blocks = re.findall(r"(?:^    .+\n|^\n(?=    ))+", text, flags=re.M)
    measuring, over_frames = (next(b for b in blocks if name in b) for name in ("non_locality(unit)", "np.sum(odd**2)"))
    values = {"from_pretrained": from_pretrained, "find_units": find_units, "model": from_pretrained("posmlp_digits")}
    *lines, (last, said) = [line.strip().split("  # ") for line in textwrap.dedent(measuring).strip().splitlines()]
    exec("\n".join(line[0] for line in lines), values)
    assert [f"{value:.2f}" for value in eval(last, values)] == said.split(", ")
    exec(textwrap.dedent(over_frames), values)
    first, *second = [float(line.split()[-1]) for line in capsys.readouterr().out.splitlines()]
    assert f"{second[0]:.0%} and {second[1]:.0%}".replace("%", " %").replace(" % and", " and") in text.replace(
        "\n", " "
    )
    assert f"that of the first stage {first:.0%}".replace("%", " %") in text.replace("\n", " ")


MISTAKES = {
    "there is no stage 3: the model has stages 1 to 2": lambda: find_units(tiny(), stage=3),
    "there is no stage 2: the model has stage 1 alone": lambda: find_units(tiny("gmlp_s"), stage=2),
    "there is no block 0: stage 1 has block 1 alone": lambda: find_units(tiny(), stage=1, block=0),
    "block 2 of which stage": lambda: find_units(tiny(), block=2),
    "there is no place 3,0 in the window of stage 1, block 1, which has rows 0 to 2 and columns 0 to 2": lambda: (
        relation_maps(find_units(tiny(), stage=1)[0], [(3, 0)])
    ),
    # By itself, as tests check the types that `relation_maps` is called with.
    "(1.5, 0) is no place in the window of stage 1, block 1; give integers for its rows and columns": lambda: (
        check_place((1.5, 0), (3, 3), "the window of stage 1, block 1")
    ),
    "there is no place 1 in": lambda: relation_maps(find_units(tiny())[0], [(1,)]),
    "there is no group 3: stage 1, block 1 has groups 1 to 2": lambda: lrpe_m_parts(
        find_units(tiny(relation="lrpe_m"))[0], group=3
    ),
}
MISSING = {
    "no temporal relations; its are spatial": lambda: find_units(tiny(), part="temporal"),
    "Eq. 16 is of the covariances of models with relation 'gqpe', and this one's is 'dense'": lambda: non_locality(
        find_units(tiny("gmlp_s"))[0]
    ),
    "W and r are parts of models with relation 'lrpe_m', and this one's is 'gqpe'": lambda: lrpe_m_parts(
        find_units(tiny())[0]
    ),
    "has no relation over frames": lambda: temporal_table(find_units(tiny(relation="lrpe"))[0]),
    "offsets are of models with relation 'lrpe', and this one's is 'gqpe'": lambda: temporal_table(
        find_units(tiny("posmlp_video_s", relation="gqpe"))[0]
    ),
}


@pytest.mark.parametrize("message", [*MISTAKES, *MISSING])
def test_what_there_is_not(message):
    with pytest.raises(ConfigError) as raised:
        (MISTAKES | MISSING)[message]()
    assert message in str(raised.value)
    assert isinstance(raised.value, MissingRelationError) == (message in MISSING)
