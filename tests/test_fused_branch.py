"""A block as one kernel, interpreted on this CPU, against the same block as XLA computes it."""

import math
import re

import jax
import jax.numpy as jnp
import naive
import numpy as np
import pytest
from flax import nnx
from helpers import functional, randomized
from jax.sharding import AbstractDevice, AbstractMesh, AxisType

from posmlp_jax import create_model
from posmlp_jax.blocks import GatedBlock, GatedBranch
from posmlp_jax.devices.mesh import batch_sharding, mesh_of, on_mesh, replicated
from posmlp_jax.errors import ConfigError
from posmlp_jax.fused_branch import _normal_cdf, chunk_count
from posmlp_jax.gating import GatingUnit
from posmlp_jax.models.cost import forward_macs, kept_bytes
from posmlp_jax.relations import create_relation
from posmlp_jax.windows import window_layout

# Four stages of two or more windows each, with two chunks where tests cut those small.
TINY = {
    "image_size": 32,
    "widths": (6, 12),
    "depths": (1, 1),
    "expansions": (4, 2),
    "windows": (4, 2),
    "groups": (4, 2),
}
TINY |= {"num_classes": 5, "stem_norm": "layer", "dropout": 0.2, "drop_path": 0.3}


@pytest.fixture(autouse=True)
def two_chunks(monkeypatch):
    monkeypatch.setattr("posmlp_jax.fused_branch._CHUNK", 6)
    assert (chunk_count(12, 4), chunk_count(12, 3), chunk_count(5, 5)) == (2, 1, 1)


def module(kind=GatedBlock, relation: str = "gqpe", dtype=jnp.float32, **options) -> GatedBranch:
    """Of 6 channels, expanded to two chunks of two groups, over windows of 3 × 4."""
    rngs = nnx.Rngs(0)

    def make_gate(channels: int) -> GatingUnit:
        return GatingUnit(channels, create_relation(relation, (3, 4), 4, rngs=rngs), dtype=dtype, rngs=rngs)

    return kind(6, 4, make_gate, dtype=dtype, rngs=rngs, **options)


def tokens(batch: int = 2, dtype=np.float32):
    """Some, and what their results' gradient is to be."""
    return np.random.default_rng(0).standard_normal((2, batch, 3, 12, 6)).astype(dtype)


def values_and_gradients(kernel: str, key=None, x=None, mesh=None, changes=None, **options):
    """The result, and the gradients by all parameters and by x."""
    parameters, call = functional(randomized(lambda: module(kernel=kernel, **options)))
    parameters |= changes or {}
    x, wanted = tokens() if x is None else x
    if mesh:
        parameters, x = jax.device_put((parameters, x), (replicated(mesh), batch_sharding(mesh)))

    def both(parameters, x):
        value, pull = jax.vjp(lambda parameters, x: call(parameters, x, None, key), parameters, x)
        return value, pull(wanted)

    return jax.jit(on_mesh(both, mesh) if mesh else both)(parameters, x)


def assert_all_close(actual, expected, tolerance):
    for each, other in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        naive.assert_close(each, other, tolerance)


@pytest.mark.parametrize("relation", ["gqpe", "lrpe", "dense"])
@pytest.mark.parametrize("kind", [GatedBranch, GatedBlock])
def test_values_and_all_gradients(kind, relation):
    ours, theirs = (values_and_gradients(kernel, kind=kind, relation=relation) for kernel in ("pallas", "xla"))
    assert_all_close(ours, theirs, 1e-5)


@pytest.mark.parametrize("rates", [(0.3, 0.4), (0.3, 0.0), (0.0, 0.4)], ids=str)
def test_it_drops_the_same(rates):
    dropout, drop_path = rates
    options = {"dropout": dropout, "drop_path": drop_path, "key": jax.random.key(3)}
    ours, theirs = (values_and_gradients(kernel, **options) for kernel in ("pallas", "xla"))
    assert_all_close(ours, theirs, 1e-5)
    assert not np.allclose(ours[0], values_and_gradients("pallas")[0], atol=1e-2)


def test_bfloat16_is_no_further_from_float32_than_the_compiler_s():
    """Of GELU it has an approximation; of all else, sums in float32."""
    exact = values_and_gradients("xla")
    x = tokens(dtype=jnp.bfloat16)
    ours, theirs = (values_and_gradients(kernel, x=x, dtype=jnp.bfloat16) for kernel in ("pallas", "xla"))
    errors = [
        jax.tree.map(lambda a, b: float(np.linalg.norm(np.float32(a) - np.float32(b)) / np.linalg.norm(b)), each, exact)
        for each in (ours, theirs)
    ]
    for mine, other in zip(*map(jax.tree.leaves, errors), strict=True):
        assert mine < max(1.2 * other, 0.01)
    values = np.float32([*np.linspace(-12, 12, 4001), -1e4, -40, -29.3, 29.3, 40, 1e4])
    erf = np.array([0.5 * (1 + math.erf(value / 2**0.5)) for value in values])
    cdf = jax.jit(_normal_cdf, static_argnums=1)
    # Of which a third is 1/x, that is here less exact than on a TPU.
    assert np.abs(cdf(values, jnp.dtype(jnp.bfloat16)) - erf).max() < 3.5e-5
    assert np.abs(cdf(values, jnp.dtype(jnp.float32)) - erf).max() < 2e-7


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_large_values_are_finite(dtype):
    """Where GELU's slope is 0 or 1 for all that float32 knows."""
    found = values_and_gradients(
        "pallas", x=tokens(dtype=dtype), dtype=dtype, changes={"expand.bias": jnp.linspace(-1000, 100, 24)}
    )
    assert all(np.isfinite(np.float32(leaf)).all() for leaf in jax.tree.leaves(found))


def test_eight_devices_give_what_one_does():
    """Each has a window of the batch's; the weights' gradients are summed over them."""
    x, key = tokens(batch=8), jax.random.key(0)
    options = {"x": x, "key": key, "dropout": 0.2}
    one = values_and_gradients("pallas", **options)
    eight = values_and_gradients("pallas", mesh=mesh_of(jax.devices(), fsdp=2), **options)
    assert_all_close(eight, one, 1e-5)


def test_what_devices_sum_is_float32():
    parameters, call = functional(module(kernel="pallas", dtype=jnp.bfloat16))
    x, _ = tokens(batch=8, dtype=jnp.bfloat16)
    gradient = jax.grad(lambda parameters, x: jnp.sum(call(parameters, x).astype(jnp.float32)))
    jaxpr = str(jax.make_jaxpr(on_mesh(gradient, mesh_of(jax.devices())))(parameters, x))
    assert set(re.findall(r"(\w+)\[[\d,]*\] = psum", jaxpr)) == {"f32"}


def test_work_of_all_devices_is_counted():
    parameters, call = functional(module(kernel="pallas"))
    x, _ = tokens(batch=8)
    alone, together = (forward_macs(each, parameters, x) for each in (call, on_mesh(call, mesh_of(jax.devices()))))
    assert together == alone > 0


def test_a_model_is_the_same_with_it():
    """Windows of two stages, costs; what it keeps for a gradient is less."""
    models = {
        kernel: randomized(lambda k=kernel: create_model("posmlp_t", **TINY, kernel=k)) for kernel in ("xla", "pallas")
    }
    images = np.random.default_rng(1).standard_normal((2, 32, 32, 3)).astype(np.float32)
    found, kept, macs = {}, {}, {}
    for name, model in models.items():
        parameters, call = functional(model)

        def loss(parameters, call=call):
            return jnp.mean(call(parameters, images, train=True, rngs=nnx.Rngs(dropout=0)) ** 2)

        found[name], kept[name] = jax.jit(jax.value_and_grad(loss))(parameters), kept_bytes(loss, parameters)
        macs[name] = forward_macs(loss, parameters)
    assert_all_close(found["pallas"], found["xla"], 1e-5)
    assert kept["pallas"] < kept["xla"]
    assert macs["pallas"] == macs["xla"]


def traced(device: str, devices: int = 1, batch=2, layout=None, kind=AxisType.Auto, **options) -> str:
    """A block's program for a mesh of such devices."""
    block = module(**{"dtype": jnp.bfloat16, **options})
    mesh = AbstractMesh((devices,), ("data",), (kind,), abstract_device=AbstractDevice(device, None, "some"))
    x = jax.ShapeDtypeStruct((batch, 3, 12, 6), block.expand.dtype)
    with jax.sharding.use_abstract_mesh(mesh):
        return str(jax.make_jaxpr(lambda x: block(x, layout))(x))


def calls_a_kernel(*args, **options) -> bool:
    return "pallas_call" in traced(*args, **options)


def test_auto_is_the_kernel_where_that_is_a_gain():
    kinds = ["TPU v5 lite", "TPU v6 lite", "TPU v4", "NVIDIA H100", "cpu"]
    assert [calls_a_kernel(kind) for kind in kinds] == [True, True, False, False, False]
    assert calls_a_kernel("TPU v5 lite", devices=2, batch=4)
    assert not calls_a_kernel("TPU v5 lite", devices=2, batch=3)
    assert not calls_a_kernel("TPU v5 lite", kernel="xla")
    assert not calls_a_kernel("TPU v5 lite", dtype=jnp.float32)
    assert calls_a_kernel("TPU v5 lite", layout=window_layout((9, 4), (3, 4)))
    assert not calls_a_kernel("TPU v5 lite", layout=window_layout((8, 4), (3, 4)))


def test_auto_is_no_kernel_where_it_is_not_known_how_a_batch_lies(monkeypatch):
    """In a shard_map, on explicit axes, for a batch of any size, and without a mesh, as in an export for others."""
    (size,) = jax.export.symbolic_shape("b")
    for options in ({"kind": AxisType.Manual}, {"kind": AxisType.Explicit}, {"batch": size}):
        assert not calls_a_kernel("TPU v5 lite", **options)
        with pytest.raises(ConfigError, match=r"^kernel 'pallas' .*; 'auto' and 'xla' take this"):
            traced("cpu", kernel="pallas", **options)
    with pytest.raises(ConfigError, match="takes a batch that the mesh's 2 devices share equally, and not 3"):
        traced("cpu", devices=2, batch=3, kernel="pallas")
    monkeypatch.setattr("posmlp_jax.fused_branch.device_kind", lambda: "TPU v5 lite")
    x, _ = tokens(dtype=jnp.bfloat16)
    assert "pallas_call" not in str(jax.make_jaxpr(module(dtype=jnp.bfloat16))(x))


VIDEO = {"num_frames": 4, "image_size": 32, "widths": (6,), "depths": (1,), "windows": (4,), "groups": (2,)}


@pytest.mark.parametrize(
    ("name", "overrides", "reason"),
    [
        ("posmlp_t", {"gate": "add"}, "is of gates that multiply halves and have a bias and no norm (gate='multiply'"),
        ("posmlp_t", {"gate_norm": True}, "gate_norm=False"),
        ("posmlp_t", {"split": False}, "split=True"),
        ("posmlp_t", {"token_bias": False}, "token_bias=True"),
        ("posmlp_t", {"dtype": "float64"}, "computes in float32"),
        ("gmlp_s", {}, "no norm"),
        ("posmlp_video_s", VIDEO, "is of windows, and not of tokens at one place in all frames"),
        ("posmlp_video_s", VIDEO | {"version": "v3"}, "is of one gating unit, and this branch has several"),
        ("posmlp_video_s", {"block": "joint"}, "needs 630 MiB of a TPU's fast memory"),
    ],
)
def test_what_it_cannot_do_is_said(name, overrides, reason):
    with pytest.raises(ConfigError) as error:
        nnx.eval_shape(lambda: create_model(name, **overrides, kernel="pallas"))
    assert str(error.value).startswith("kernel 'pallas' ")
    assert reason in str(error.value)
    assert str(error.value).endswith("; 'auto' and 'xla' take this")


def test_windows_with_masks_and_other_devices_are_said():
    model = create_model("posmlp_t", **TINY, kernel="pallas")
    message = "takes no windows with masks, and a map of 9 × 9 in windows of 4 × 4 is padded or shifted; 'auto' and"
    with pytest.raises(ConfigError, match=message):
        model(np.zeros((1, 36, 36, 3), np.float32))
    with pytest.raises(ConfigError, match="needs a TPU, or a CPU that runs it step by step, and not NVIDIA H100"):
        calls_a_kernel("NVIDIA H100", kernel="pallas")
