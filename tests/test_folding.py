"""Folded models give what they gave, from relations that are computed once."""

import functools
import re

import jax
import jax.numpy as jnp
import naive
import numpy as np
import pytest
from flax import nnx
from helpers import functional, last_names, outputs, random_relation, randomized, small

from benchmarks import inference
from posmlp_jax import create_model, list_models
from posmlp_jax.errors import ConfigError
from posmlp_jax.gating import GatingUnit
from posmlp_jax.models import model_config, parameter_count
from posmlp_jax.relations import RELATIONS, FoldedMatrix, FoldedRelation

pytestmark = pytest.mark.heavy

MODELS = pytest.mark.parametrize("name", list_models())
# Maps of 8×8 and 4×4 tokens: divided by the windows, or padded, or shifted.
PADDED = {"windows": (3, 3)}
SHIFTED = {"depths": (2, 2), "shift_windows": True}


def fitting(name: str) -> dict:
    """A small model's fields, with windows that divide its maps."""
    fields = small(name)
    return fields | ({"windows": (4, 2)} if "windows" in fields else {})


@functools.cache
def random_model(name: str, **overrides):
    return randomized(lambda: create_model(name, **fitting(name) | overrides), scale=0.2)


def random_images(model, batch: int = 3) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((batch, *model.config.input_size, 3)).astype(np.float32)


def logits(model, images) -> np.ndarray:
    return np.asarray(outputs(model, images)[1])


def assert_folds(model, **compiler_options) -> None:
    images = random_images(model)
    expected = jax.tree.leaves(outputs(model, images, **compiler_options))
    folded = jax.tree.leaves(outputs(model.fold(), images, **compiler_options))
    for actual, wanted in zip(folded, expected, strict=True):
        assert actual.dtype == wanted.dtype
        naive.assert_close(actual, wanted, 1e-6)


def without_relations(model):
    """A copy whose relations' parameters are all zero; folded matrices are left."""
    model = nnx.clone(model)
    for gate in [module for _, module in nnx.iter_modules(model) if isinstance(module, GatingUnit)]:
        nnx.update(gate.relation, jax.tree.map(jnp.zeros_like, nnx.state(gate.relation, nnx.Param)))
    return model


@MODELS
def test_every_model(name):
    assert_folds(random_model(name))


@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize("layout", [{}, PADDED, SHIFTED], ids=["plain", "padded", "shifted"])
def test_every_relation_and_layout(relation, layout):
    assert_folds(random_model("posmlp_t", relation=relation, **layout))


@pytest.mark.parametrize("overrides", [{"covariance": "free"}, {"covariance": "isotropic", "learn_center": False}])
def test_forms_of_the_quadratic_relation(overrides):
    assert_folds(random_model("posmlp_t", **overrides))


@pytest.mark.parametrize("relation", RELATIONS)
def test_bfloat16(relation):
    """The matrix is rounded as it is each time without folding, where XLA is held to the types that are asked for."""
    model = random_model("posmlp_t", relation=relation, dtype="bfloat16")
    assert_folds(model, xla_allow_excess_precision=False)
    matrices = jax.tree.leaves(nnx.state(model.fold(), FoldedMatrix))
    assert [matrix.dtype for matrix in matrices] == [jnp.bfloat16] * 2


@pytest.mark.parametrize("kind", RELATIONS)
def test_the_matrix_is_the_papers(kind):
    """With a mask too, where a softmax over the folded matrix's entries would not do."""
    grid, groups = (2, 3), 2
    relation = random_relation(kind, grid, groups)
    folded = FoldedRelation(relation)
    parameters = last_names(functional(relation)[0])
    assert (folded.grid, folded.groups) == (grid, groups)
    naive.assert_close(folded(), naive.relation_matrix(parameters, kind, grid, groups))
    mask = np.array([[q // 2 == k // 2 for k in range(6)] for q in range(6)])
    naive.assert_close(folded(mask), naive.relation_matrix(parameters, kind, grid, groups, mask=mask))


@pytest.mark.parametrize("fields", [{"version": "v2"}, {"version": "v3"}, {"block": "joint"}, {"relation": "gqpe"}])
def test_every_kind_of_video_block(fields):
    model = random_model("posmlp_video_s", **fields)
    assert len(jax.tree.leaves(nnx.state(model.fold(), FoldedMatrix))) == (2 if "block" in fields else 4)
    assert_folds(model)


@pytest.mark.parametrize("name", ["posmlp_t", "gmlp_s", "posmlp_video_s"])
def test_relations_are_computed_once(name):
    """Their parameters have no more effect, but for windows with a mask."""
    model = random_model(name)
    images = random_images(model)
    before = logits(model, images)
    naive.assert_close(logits(without_relations(model.fold()), images), before, 1e-6)
    assert np.abs(logits(without_relations(model), images) - before).max() > 1e-2 * np.abs(before).max()


def test_masked_windows_are_computed_each_time():
    model = random_model("posmlp_t", **PADDED)
    images = random_images(model)
    naive.assert_close(logits(without_relations(model.fold()), images), logits(without_relations(model), images), 1e-6)


def test_the_original_is_untouched():
    model = nnx.clone(random_model("posmlp_t"))
    before = nnx.to_pure_dict(nnx.state(model))
    folded = model.fold()
    jax.tree.map(np.testing.assert_array_equal, nnx.to_pure_dict(nnx.state(model)), before)
    images = random_images(model)
    expected = logits(folded, images)
    nnx.update(model, jax.tree.map(jnp.zeros_like, nnx.state(model)))
    np.testing.assert_array_equal(logits(folded, images), expected)
    assert not nnx.state(model, FoldedMatrix)
    assert nnx.state(folded, FoldedMatrix)
    assert parameter_count(folded) == parameter_count(model)


def test_folding_again_changes_nothing():
    folded = random_model("posmlp_t").fold()
    images = random_images(folded)
    again = folded.fold()
    np.testing.assert_array_equal(logits(again, images), logits(folded, images))
    assert jax.tree.structure(nnx.state(again)) == jax.tree.structure(nnx.state(folded))


def test_folding_under_jit():
    """As part of a compiled function, whose parameters are not known yet."""
    graph, state = nnx.split(random_model("posmlp_t"))
    images = random_images(random_model("posmlp_t"))
    folded_inside = jax.jit(lambda state: nnx.merge(graph, state).fold()(images))(state)
    naive.assert_close(folded_inside, logits(nnx.merge(graph, state), images), 1e-6)


@pytest.mark.parametrize("call", ["__call__", "features"])
def test_training_a_folded_model_is_refused(call):
    folded = random_model("posmlp_t").fold()
    with pytest.raises(ConfigError, match="folded model is for inference; train the model that fold"):
        getattr(folded, call)(random_images(folded), train=True, rngs=nnx.Rngs(dropout=0))


# python -m benchmarks.inference


def test_benchmark(monkeypatch, capsys):
    """A row for everything asked for, with numbers that follow from the two medians."""
    monkeypatch.setattr(inference, "create_model", lambda name, dtype: create_model(name, **small(name), dtype=dtype))
    monkeypatch.setattr(inference, "model_config", lambda name: model_config(name, **small(name)))
    timed = []

    def half_a_second_and_a_fifth(calls, repeats):
        timed.append((len(calls), repeats))
        for call in calls:
            call()
        return [0.5, 0.2]

    monkeypatch.setattr(inference, "median_seconds", half_a_second_and_a_fifth)
    inference.main(["--model=gmlp_s", "--batch_sizes=1,2", "--dtypes=float32,bfloat16", "--repeats=3"])
    assert timed == [(2, 3)] * 4
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| gmlp_s")]
    device = f"gmlp_s | {inference.device_name()}"
    expected = []
    for dtype in ("float32", "bfloat16"):
        expected += [
            f"| {device} | {dtype} | 1 | no | 500.0 | 2.0 |  |",
            f"| {device} | {dtype} | 1 | yes | 200.0 | 5.0 | 2.50 |",
        ]
        expected += [
            f"| {device} | {dtype} | 2 | no | 500.0 | 4.0 |  |",
            f"| {device} | {dtype} | 2 | yes | 200.0 | 10.0 | 2.50 |",
        ]
    assert rows == expected


def test_benchmark_of_a_video_model(monkeypatch, capsys):
    """Clips of the model's own number of frames, at another size."""
    shapes = []

    def compiled(model, images):
        shapes.append(images.shape)
        return lambda: None

    monkeypatch.setattr(inference, "compiled_call", compiled)
    inference.main(["--model=posmlp_video_s", "--batch_sizes=2", "--dtypes=float32", "--image_size=32", "--repeats=1"])
    assert shapes == [(2, 16, 32, 32, 3)] * 2
    output = capsys.readouterr().out
    assert output.startswith("16×32×32 clips, median of 1 calls")
    assert "| clips/s |" in output


def test_benchmark_takes_turns():
    """Two calls, each as often as asked; the median is not disturbed by one slow turn."""
    order = []
    medians = inference.median_seconds([lambda: order.append("a"), lambda: order.append("b")], 3)
    assert order == ["a", "b"] * 3
    assert len(medians) == 2
    assert all(0 <= median < 0.1 for median in medians)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--model=posmlp_x", "unknown model 'posmlp_x'; did you mean 'posmlp_t'?"),
        ("--dtypes=float32,bfloat", "unknown dtype 'bfloat'; did you mean 'bfloat16'?"),
        ("--batch_sizes=1,0", "batch_sizes has '0', and should have a whole number of 1 or more"),
        ("--repeats=many", "repeats has 'many'"),
        ("--image_size=-1", "image_size has '-1'"),
    ],
)
def test_benchmark_mistakes(argument, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        inference.main([argument])
