"""The matrix: every registered model is tested by being registered. Real numbers come from small models of its kind."""

import functools
import re

import jax
import jax.numpy as jnp
import naive
import numpy as np
import pytest
from flax import nnx
from helpers import functional, outputs, randomized, small
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from posmlp_jax import create_model, list_models
from posmlp_jax.blocks import GatedBranch
from posmlp_jax.errors import ConfigError
from posmlp_jax.gating import GatingUnit
from posmlp_jax.models import model_config, parameter_count, registry
from posmlp_jax.models.stages import drop_path_rates


def gmlp_parameters(width: int, *, depth: int = 30, expansion: int = 6, tokens: int = 14**2, patch: int = 16) -> int:
    """gMLP by hand: patch embedding; blocks of norm, FC, norm, Token FC and bias, FC; norm; 1000 classes."""
    inner = expansion * width
    block = (
        (2 * width) + (width * inner + inner) + (2 * inner // 2) + (tokens**2 + tokens) + (inner // 2 * width + width)
    )
    return (3 * patch**2 * width + width) + depth * block + 2 * width + (width * 1000 + 1000)


def temporal_parameters(width: int, depths: tuple[int, ...], groups=(8, 16, 32, 64), frames: int = 16) -> int:
    """PosMLP-Video's PoTGU branches by hand: norm, linear layers C → 2C and C → C, table and bias."""
    widths = [width * 2**stage for stage in range(4)]
    return sum(
        depth * ((2 * c) + (c * 2 * c + 2 * c) + (c * c + c) + ((2 * frames - 1) * s + frames))
        for c, depth, s in zip(widths, depths, groups, strict=True)
    )


POSMLP_T, VIDEO_S, VIDEO_B = 20_925_538, 13_509_537, 45_040_806
# PosMLP's and PosMLP-Video's are those of the published code. At 384² only the token biases' lengths change. For 32
# frames the first convolution has two 3×3 kernels more, 3 → C/2. The image forms lack what mixes time, and have 1000
# classes, not 174.
PARAMETERS = {
    "posmlp_t": POSMLP_T,
    "posmlp_s": 36_816_450,
    "posmlp_b": 81_976_834,
    "posmlp_t_384": POSMLP_T + 2 * (32**2 - 14**2) + 2 * (16**2 - 14**2) + 18 * (12**2 - 14**2) + 2 * (12**2 - 7**2),
    "gmlp_s": gmlp_parameters(256),
    "gmlp_b": gmlp_parameters(512),
    "posmlp_video_s": VIDEO_S,
    "posmlp_video_b": VIDEO_B,
    "posmlp_video_s_32": VIDEO_S + 2 * 9 * 3 * 36,
    "posmlp_video_b_32": VIDEO_B + 2 * 9 * 3 * 56,
    "posmlp_video_s_image": VIDEO_S - temporal_parameters(72, (3, 4, 9, 3)) + (1000 - 174) * (576 + 1),
    "posmlp_video_b_image": VIDEO_B - temporal_parameters(112, (4, 6, 15, 4)) + (1000 - 174) * (896 + 1),
}
# Models whose small forms do the same operations on arrays of other widths (`test_what_is_alike`): what is compiled is
# looked at for one of them, and for the others by `make test-slow`. A new model is alike to none until it says so.
ALIKE = {
    "posmlp_s": "posmlp_t",
    "posmlp_b": "posmlp_t",
    "gmlp_b": "gmlp_s",
    "posmlp_video_b": "posmlp_video_s",
    "posmlp_video_b_32": "posmlp_video_s_32",
    "posmlp_video_b_image": "posmlp_video_s_image",
}
MODELS = pytest.mark.parametrize("name", list_models())
KINDS = pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name in ALIKE else pytest.mark.heavy) for name in list_models()],
)
ONE_OF_A_FAMILY = pytest.mark.parametrize("name", ["posmlp_t", "gmlp_s", "posmlp_video_s"])


@functools.cache
def random_model(name: str, **overrides):
    return randomized(lambda: create_model(name, **small(name) | overrides), scale=0.2)


@functools.cache
def random_images(name: str, batch: int = 4):
    size = model_config(name, **small(name)).input_size
    return np.random.default_rng(0).standard_normal((batch, *size, 3)).astype(np.float32)


@functools.cache
def differentiated(name: str, *, train: bool, **overrides):
    """A model's parameters and `f(parameters, images, key)`: gradients of a random projection of the logits, logits."""
    parameters, call = functional(random_model(name, **overrides))

    def loss(parameters, images, key):
        logits = call(parameters, images, train=train, rngs=nnx.Rngs(dropout=key) if train else None)
        return jnp.sum(logits * np.random.default_rng(1).standard_normal(logits.shape)), logits

    return parameters, jax.grad(loss, has_aux=True)


@functools.cache
def compiled(name: str, *, train: bool, **overrides):
    """`differentiated`, compiled and called with its parameters already: what most of the tests here look at."""
    parameters, function = differentiated(name, train=train, **overrides)
    return functools.partial(jax.jit(function), parameters)


@functools.cache
def gradients_and_logits(name: str, *, train: bool, **overrides):
    """Of some images; with `train`, what the key 0 drops is dropped."""
    return compiled(name, train=train, **overrides)(random_images(name), jax.random.key(0))


def assert_same_gradients(actual: dict, expected: dict) -> None:
    for parameter, value in expected.items():
        if not before_batch_norm(parameter):
            naive.assert_close(actual[parameter], value)


def before_batch_norm(parameter: str) -> bool:
    """Biases that the batch's mean takes away again: in training their gradients are rounding errors."""
    return parameter.startswith("stem.convs.") and parameter.endswith(".bias")


@functools.cache
def abstract_model(name: str, **overrides):
    return registry.abstract_model(model_config(name, **overrides))


def image_shapes(size: tuple[int, ...], batch: int = 2):
    return jax.ShapeDtypeStruct((batch, *size, 3), jnp.float32)


# Sizes


def test_every_model_has_an_expected_count():
    assert set(PARAMETERS) == set(list_models())


@MODELS
def test_parameter_count(name):
    assert parameter_count(abstract_model(name)) == PARAMETERS[name]


@MODELS
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_logits_are_float32(name, dtype):
    model = abstract_model(name, **small(name), dtype=dtype)
    images = image_shapes(model.config.input_size)
    logits = jax.eval_shape(lambda model, images: model(images), model, images)
    assert (logits.shape, logits.dtype) == ((2, 5), jnp.float32)
    maps = jax.eval_shape(lambda model, images: model.features(images), model, images)
    assert {m.dtype for m in maps} == {jnp.dtype(dtype)}
    assert {value.dtype for value in jax.tree.leaves(nnx.state(model))} == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize(
    ("name", "sides", "widths"),
    [
        ("posmlp_t", (56, 28, 14, 7), (96, 192, 384, 768)),
        ("posmlp_s", (56, 28, 14, 7), (128, 256, 512, 1024)),
        ("posmlp_b", (56, 28, 14, 7), (192, 384, 768, 1536)),
        ("posmlp_t_384", (96, 48, 24, 12), (96, 192, 384, 768)),
        ("gmlp_s", (14,), (256,)),
        ("gmlp_b", (14,), (512,)),
        ("posmlp_video_s", (56, 28, 14, 7), (72, 144, 288, 576)),
        ("posmlp_video_b", (56, 28, 14, 7), (112, 224, 448, 896)),
        ("posmlp_video_s_32", (56, 28, 14, 7), (72, 144, 288, 576)),
        ("posmlp_video_s_image", (56, 28, 14, 7), (72, 144, 288, 576)),
    ],
)
def test_features(name, sides, widths):
    model = abstract_model(name)
    maps = jax.eval_shape(lambda model, images: model.features(images), model, image_shapes(model.config.input_size))
    steps = (16,) * (len(model.config.input_size) - 2)  # With 32 frames too.
    assert [m.shape for m in maps] == [
        (2, *steps, side, side, width) for side, width in zip(sides, widths, strict=True)
    ]


@pytest.mark.parametrize("size", [(224, 320), (225, 219), (57, 131), (7, 5)], ids=str)
@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("posmlp_t", {}),
        ("posmlp_t", {"stem": "linear", "merge": "linear"}),
        ("posmlp_t", {"shift_windows": True}),
        ("posmlp_video_s", {}),
        ("posmlp_video_s", {"stem": "conv3d"}),
        ("posmlp_video_s", {"stem": "linear"}),
    ],
    ids=str,
)
def test_any_image_size(name, overrides, size):
    """Without absolute positions a PosMLP takes images of every size, whatever its `image_size`; clips too."""
    # Where windows are shifted, those of every second block are.
    depths = (2 if "shift_windows" in overrides else 1,) * 4
    model = abstract_model(name, depths=depths, **overrides)
    frames = model.config.input_size[:-2]
    maps = jax.eval_shape(lambda model, images: model.features(images), model, image_shapes((*frames, *size)))
    shape = size
    for m, factor in zip(maps, (4, 2, 2, 2), strict=True):
        shape = tuple(-(-n // factor) for n in shape)
        assert m.shape[-3:-1] == shape


def test_rectangular_models():
    config = model_config("posmlp_t", image_size=(224, 448), windows=((14, 28), 14, (7, 14), 7), absolute_position=True)
    assert config.windows == ((14, 28), (14, 14), (7, 14), (7, 7))
    model = abstract_model("posmlp_t", image_size=(224, 448), windows=config.windows, absolute_position=True)
    assert model.position.shape == (56, 112, 96)
    assert model.stages[0].blocks[0].gate.bias.shape == (14 * 28,)
    logits = jax.eval_shape(lambda model, images: model(images), model, image_shapes((224, 448)))
    assert logits.shape == (2, 1000)
    gmlp = abstract_model("gmlp_s", image_size=(64, 96))
    assert gmlp.stages[0].blocks[0].gate.relation.weight.shape == (1, 24, 24)
    assert jax.eval_shape(lambda m, images: m.features(images), gmlp, image_shapes((64, 96)))[0].shape == (2, 4, 6, 256)


# Numbers


def operations(name: str) -> list[str]:
    """The operations of a small model's forward pass, in order, inner functions' included."""
    parameters, call = functional(random_model(name))
    jaxpr = jax.make_jaxpr(call)(parameters, random_images(name))
    return re.findall(r"(?<== )[a-z_]\w*", str(jaxpr))


@pytest.mark.parametrize(("name", "other"), ALIKE.items())
def test_what_is_alike(name, other):
    assert len(operations(name)) > 100
    assert operations(name) == operations(other)


def assert_all_learn(name: str, **overrides) -> None:
    """Every single value has a gradient, at random parameters and with the running statistics."""
    gradients, _ = gradients_and_logits(name, train=False, **overrides)
    assert sum(value.size for value in gradients.values()) == parameter_count(random_model(name, **overrides))
    for parameter, value in gradients.items():
        assert np.all(np.isfinite(value)), parameter
        assert np.all(value != 0), parameter


@KINDS
def test_every_parameter_has_a_gradient(name):
    assert_all_learn(name)


@pytest.mark.parametrize(
    "overrides",
    [
        {"relation": "lrpe", "gate": "concat", "absolute_position": True},
        {"relation": "lrpe_m", "gate": "add", "gate_norm": True, "stem": "linear", "merge": "linear"},
        {"covariance": "isotropic", "split": False, "merge_norm": "batch"},
        {"covariance": "free", "stem_norm": "layer", "shift_windows": True, "depths": (1, 2)},
    ],
    ids=lambda overrides: "-".join(map(str, overrides.values())),
)
def test_every_parameter_of_a_variant_has_a_gradient(overrides):
    assert_all_learn("posmlp_t", **overrides)


def test_biases_before_batch_norm_have_no_gradient_in_training():
    """The one exception: what is added to all of a channel, the batch's mean takes away again."""
    gradients, _ = gradients_and_logits("posmlp_t", train=True)
    largest = max(float(np.abs(value).max()) for value in gradients.values())
    without = {parameter for parameter, value in gradients.items() if np.abs(value).max() < 1e-6 * largest}
    assert without == {f"stem.convs.{index}.bias" for index in range(3)}
    assert all(map(before_batch_norm, without))


def test_zero_tables_hold_back_gradients_at_first():
    """LRPE starts, as published, with a table and bias of 0, and its gate gives 0: what is before the gate, and the
    linear layer after it, learn from the second step on.
    """
    parameters, function = differentiated("posmlp_t", train=False, relation="lrpe")
    zero = ("relation.table", "gate.bias")
    start = {name: value * (not name.endswith(zero)) for name, value in parameters.items()}
    gradients, _ = jax.jit(function)(start, random_images("posmlp_t"), jax.random.key(0))
    without = {parameter for parameter, value in gradients.items() if not np.any(value)}
    blocks = [f"stages.{stage}.blocks.{block}" for stage, block in [(0, 0), (1, 0)]]
    held_back = ("norm.scale", "norm.bias", "expand.kernel", "expand.bias", "project.kernel")
    assert without == {f"{block}.{name}" for block in blocks for name in held_back}


@KINDS
def test_remat_changes_nothing(name):
    """Value and gradients, with the same values dropped."""
    gradients, logits = gradients_and_logits(name, train=True)
    gradients_again, logits_again = gradients_and_logits(name, train=True, remat=True)
    naive.assert_close(logits_again, logits, 1e-6)
    assert_same_gradients(gradients_again, gradients)


def test_remat_recomputes():
    """The backward pass holds both blocks' forward pass again, in a `jax.checkpoint`."""
    for remat, times in [(False, 0), (True, 2)]:
        parameters, function = differentiated("posmlp_t", train=True, remat=remat)
        jaxpr = jax.make_jaxpr(function)(parameters, random_images("posmlp_t"), jax.random.key(0))
        assert sum(equation.primitive.name in ("checkpoint", "remat2") for equation in jaxpr.eqns) == times


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("posmlp_t", (("widths", (12,)), ("depths", (1,)), ("expansions", (4,)), ("windows", (3,)), ("groups", (2,)))),
        ("gmlp_s", (("depth", 1),)),
        ("posmlp_video_s", (("widths", (8,)), ("depths", (1,)), ("windows", (3,)), ("groups", (2,)))),
    ],
    ids=["posmlp_t", "gmlp_s", "posmlp_video_s"],
)
@pytest.mark.heavy
def test_jit_changes_nothing(name, overrides):
    """Value and gradients, with the same values dropped. One block: without jit, every operation compiles by itself."""
    overrides = dict(overrides)
    gradients, logits = gradients_and_logits(name, train=True, **overrides)
    parameters, function = differentiated(name, train=True, **overrides)
    eager_gradients, eager_logits = function(parameters, random_images(name), jax.random.key(0))
    naive.assert_close(eager_logits, logits, 2e-6)
    assert_same_gradients(eager_gradients, gradients)


@KINDS
def test_bfloat16_is_close_to_float32(name):
    """bfloat16 rounds to 2⁻⁹ relative. A dozen such roundings in a row in these small models, each of a size with its
    result and of either sign, add up to about √12·2⁻⁹ = 0.7 %; no more than five times that is accepted. Parameters and
    logits stay float32, and something must have been rounded.
    """
    _, logits = gradients_and_logits(name, train=False)
    parameters, call = functional(random_model(name, dtype="bfloat16"))
    rounded = jax.jit(call)(parameters, random_images(name))
    assert rounded.dtype == jnp.float32
    error = np.abs(np.asarray(rounded - logits)).max() / np.abs(logits).max()
    assert 1e-5 < error < 0.035


@KINDS
def test_evaluation_is_deterministic(name):
    """The same result again, in any place of the batch; random numbers on offer are not used; nothing is updated."""
    call, images = compiled(name, train=False), random_images(name)
    _, logits = gradients_and_logits(name, train=False)
    np.testing.assert_array_equal(call(images, jax.random.key(1))[1], logits)
    naive.assert_close(call(images[::-1], jax.random.key(0))[1][::-1], logits, 1e-6)

    model = random_model(name)
    before = nnx.to_pure_dict(nnx.state(model))
    traces = [jax.make_jaxpr(lambda x, rngs=rngs: model(x, rngs=rngs))(images) for rngs in (None, nnx.Rngs(dropout=1))]
    assert str(traces[0]) == str(traces[1])
    jax.tree.map(np.testing.assert_array_equal, nnx.to_pure_dict(nnx.state(model)), before)


@KINDS
def test_training_drops(name):
    """The same values with the same key, others with another."""
    call, images = compiled(name, train=True), random_images(name)
    _, first = gradients_and_logits(name, train=True)
    np.testing.assert_array_equal(call(images, jax.random.key(0))[1], first)
    assert np.abs(np.asarray(call(images, jax.random.key(1))[1] - first)).max() > 1e-2 * np.abs(first).max()


@ONE_OF_A_FAMILY
def test_training_needs_random_numbers_only_where_something_drops(name):
    size = model_config(name, **small(name)).input_size
    for dropout, drop_path in [(0.1, 0.0), (0.0, 0.1)]:
        model = abstract_model(name, **small(name) | {"dropout": dropout, "drop_path": drop_path})
        with pytest.raises(ConfigError, match="needs rngs"):
            jax.eval_shape(lambda model, images: model(images, train=True), model, image_shapes(size))
    model = abstract_model(name, **small(name) | {"dropout": 0.0, "drop_path": 0.0})
    jax.eval_shape(lambda model, images: model(images, train=True), model, image_shapes(size))


@pytest.mark.parametrize(("name", "drops"), [("posmlp_t", True), ("gmlp_s", False), ("posmlp_video_s_image", False)])
def test_the_pooled_vector_drops_where_the_published_code_drops_it(name, drops):
    """With logits that are the pooled vector, and dropout nowhere else."""
    model = random_model(name, dropout=0.25, drop_path=0.0)
    for _, module in nnx.iter_modules(model):
        if isinstance(module, GatedBranch):
            module.dropout.rate = 0.0
    width = model.head.in_features
    model.head = nnx.Linear(width, width, kernel_init=lambda *_: jnp.eye(width), rngs=nnx.Rngs(0))
    images = random_images(name)
    graph, state = nnx.split(model)

    @jax.jit
    def vectors(state, key):
        pooled = nnx.merge(graph, state).features(images, train=True, rngs=nnx.Rngs(dropout=key))[-1]
        logits = nnx.merge(graph, state)(images, train=True, rngs=nnx.Rngs(dropout=key))
        return pooled.mean((1, 2)), logits

    pooled, logits = map(np.asarray, vectors(state, jax.random.key(0)))
    kept = logits != 0
    assert kept.mean() == pytest.approx(0.75, abs=0.15) if drops else kept.all()
    naive.assert_close(logits, np.where(kept, pooled / (0.75 if drops else 1), 0), 1e-6)


@ONE_OF_A_FAMILY
def test_without_a_head_the_output_is_the_average_of_the_last_map(name):
    model = random_model(name, num_classes=0)
    assert model.head is None
    maps, pooled = outputs(model, random_images(name))
    last = np.asarray(maps[-1], np.float64)
    naive.assert_close(pooled, last.mean(tuple(range(1, last.ndim - 1))), 1e-6)


@pytest.mark.parametrize(
    ("name", "relation", "stddev", "bias"),
    [("gmlp_s", "dense", 1e-6, 1), ("gmlp_s", "lrpe_m", 1e-6, 0), ("posmlp_t", "dense", 0.02, 0)],
)
def test_dense_matrices_start_as_in_the_published_code(name, relation, stddev, bias):
    gates = [
        module
        for _, module in nnx.iter_modules(create_model(name, **small(name) | {"relation": relation}))
        if isinstance(module, GatingUnit)
    ]
    dense = [gate.relation.dense if relation == "lrpe_m" else gate.relation for gate in gates]
    values = np.concatenate([np.ravel(part.weight[...]) for part in dense])
    assert np.std(values) == pytest.approx(stddev, rel=0.1)
    assert all(np.all(gate.bias[...] == bias) for gate in gates)


def test_head_is_linear():
    model = random_model("posmlp_t")
    maps, logits = outputs(model, random_images("posmlp_t"))
    pooled = np.asarray(maps[-1], np.float64).mean((1, 2))
    expected = pooled @ np.asarray(model.head.kernel[...], np.float64) + np.asarray(model.head.bias[...], np.float64)
    naive.assert_close(logits, expected)


def test_batch_statistics_are_those_of_the_global_batch():
    """The whole model on eight devices with two images each, and on one: the same logits, statistics and gradients."""
    graph, learned, statistics = nnx.split(random_model("posmlp_t", dropout=0.0, drop_path=0.0), nnx.Param, ...)
    learned, statistics = nnx.to_pure_dict(learned), nnx.to_pure_dict(statistics)
    images = random_images("posmlp_t", batch=16) * np.arange(1, 17, dtype=np.float32)[:, None, None, None]

    @jax.jit
    def step(learned, statistics, images):
        def loss(learned):
            model = nnx.merge(graph, learned, statistics)
            logits = model(images, train=True)
            return jnp.mean(logits**2), (logits, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat)))

        return jax.grad(loss, has_aux=True)(learned)

    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    everywhere, split = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("data"))
    gradients, (logits, running) = step(learned, statistics, images)
    gradients_8, (logits_8, running_8) = step(
        jax.device_put(learned, everywhere), jax.device_put(statistics, everywhere), jax.device_put(images, split)
    )
    assert len(logits_8.sharding.device_set) == 8
    naive.assert_close(logits_8, logits)
    assert len(jax.tree.leaves(running)) == 6
    for before, one, eight in zip(*map(jax.tree.leaves, (statistics, running, running_8)), strict=True):
        naive.assert_close(eight, one, 1e-6)
        assert np.abs(np.asarray(before) - np.asarray(one)).max() > 1e-3
    for conv in [*gradients["stem"]["convs"].values(), *gradients_8["stem"]["convs"].values()]:
        del conv["bias"]  # Before BatchNorm: rounding errors.
    jax.tree.map(naive.assert_close, gradients_8, gradients)


# Options


def test_published_drop_path_ramp():
    """Linear over all blocks of the network, from 0 to the rate: 24 in PosMLP-T, 30 in gMLP-S, 19 in PosMLP-Video-S."""
    for name, depth in [("posmlp_t", 24), ("gmlp_s", 30), ("posmlp_video_s", 19)]:
        model = abstract_model(name, drop_path=0.1)
        rates = [block.drop_path.rate for stage in model.stages for block in stage.blocks]
        np.testing.assert_allclose(rates, np.linspace(0, 0.1, depth))
    assert drop_path_rates(0.1, 1) == [0.0]


def test_published_defaults():
    """Paper and released recipe: 0.02333 and 0.1, a norm in the gate for SGU alone, Table 11's numbers."""
    config = model_config("posmlp_t")
    assert (config.dropout, config.drop_path) == (0.02333, 0.1)
    assert (config.widths, config.depths, config.expansions) == ((96, 192, 384, 768), (2, 2, 18, 2), (4, 4, 4, 2))
    assert (config.windows, config.groups) == (((14, 14),) * 3 + ((7, 7),), (8, 16, 32, 64))
    assert (config.stem, config.stem_norm, config.merge, config.merge_norm) == ("conv", "batch", "conv", "layer")
    for relation, norm in [("gqpe", False), ("lrpe", False), ("lrpe_m", False), ("dense", True)]:
        assert config.replace(relation=relation).normalizes_gate == norm
        assert config.replace(relation=relation, gate_norm=not norm).normalizes_gate != norm


def test_absolute_positions_are_added_after_the_stem():
    plain, model = random_model("posmlp_t"), random_model("posmlp_t", absolute_position=True)
    images = random_images("posmlp_t")
    model = nnx.clone(model)
    shifted = np.asarray(outputs(model, images)[1])
    nnx.update(model, nnx.state(plain))
    assert np.abs(shifted - np.asarray(outputs(plain, images)[1])).max() > 1e-2
    model.position[...] = jnp.zeros(model.position.shape)
    naive.assert_close(outputs(model, images)[1], outputs(plain, images)[1], 1e-6)
    with pytest.raises(ConfigError, match=r"image_size \(32, 32\), not \(36, 32\)"):
        model(jnp.zeros((1, 36, 32, 3)))


def test_shifted_windows_let_information_across():
    """A pixel's effect ends at the border of its 4×4-token window in block one, and not in the shifted block two."""
    config = {"widths": (8,), "depths": (2,), "expansions": (2,), "windows": (4,), "groups": (1,), "image_size": 32}

    def reached(shift_windows: bool) -> np.ndarray:
        model = randomized(lambda: create_model("posmlp_t", **config, shift_windows=shift_windows))
        images = np.zeros((2, 32, 32, 3), np.float32)
        images[1, 8, 8] = 1
        a, b = np.asarray(outputs(model, images)[0][0])
        return np.any(a != b, axis=-1)

    window = np.zeros((8, 8), bool)
    window[:4, :4] = True
    np.testing.assert_array_equal(reached(False), window)
    np.testing.assert_array_equal(reached(True), np.pad(np.ones((6, 6), bool), ((0, 2), (0, 2))))


def test_gmlp_starts_as_a_plain_mlp():
    """Its own paper: the Token FC near 0 and its bias at 1. Other relations bring their own initial values."""
    gate = create_model("gmlp_s", **small("gmlp_s")).stages[0].blocks[0].gate
    assert np.abs(gate.relation.weight[...]).max() < 0.01
    assert np.all(gate.bias[...] == 1)
    assert not np.any(create_model("gmlp_s", **small("gmlp_s"), relation="gqpe").stages[0].blocks[0].gate.bias[...])


def test_seeds():
    same, again, other = (
        functional(create_model("gmlp_s", **small("gmlp_s"), **rngs))[0]["head.kernel"]
        for rngs in ({}, {"rngs": nnx.Rngs(0)}, {"rngs": nnx.Rngs(1)})
    )
    np.testing.assert_array_equal(same, again)
    assert np.any(same != other)
