"""A block as one kernel, interpreted on this CPU, against the same block as XLA computes it."""

import math

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


def values_and_gradients(kernel: str, key=None, x=None, mesh=None, **options):
    """The result, and the gradients by all parameters and by x."""
    parameters, call = functional(randomized(lambda: module(kernel=kernel, **options)))
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
    random = np.linspace(-12, 12, 4001, dtype=np.float32)
    erf = np.array([0.5 * (1 + math.erf(value / 2**0.5)) for value in random])
    cdf = jax.jit(_normal_cdf, static_argnums=1)
    # Of which a third is 1/x, that is here less exact than on a TPU.
    assert np.abs(cdf(random, jnp.dtype(jnp.bfloat16)) - erf).max() < 3.5e-5
    assert np.abs(cdf(random, jnp.dtype(jnp.float32)) - erf).max() < 2e-7


def test_eight_devices_give_what_one_does():
    """Each has a window of the batch's; the weights' gradients are summed over them."""
    x, key = tokens(batch=8), jax.random.key(0)
    options = {"x": x, "key": key, "dropout": 0.2}
    one = values_and_gradients("pallas", **options)
    eight = values_and_gradients("pallas", mesh=mesh_of(jax.devices(), fsdp=2), **options)
    assert_all_close(eight, one, 1e-5)


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


def calls_a_kernel(device: str, devices: int = 1, batch: int = 2, layout=None, **options) -> bool:
    """Whether the program for a mesh of such devices has our kernel."""
    block = module(**{"dtype": jnp.bfloat16, **options})
    mesh = AbstractMesh((devices,), ("data",), (AxisType.Auto,), abstract_device=AbstractDevice(device, None, "some"))
    x = jax.ShapeDtypeStruct((batch, 3, 12, 6), block.expand.dtype)
    with jax.sharding.use_abstract_mesh(mesh):
        return "pallas_call" in str(jax.make_jaxpr(lambda x: block(x, layout))(x))


def test_auto_is_the_kernel_where_that_is_a_gain():
    for device, has in {
        "TPU v5 lite": True,
        "TPU v6 lite": True,
        "TPU v4": False,
        "NVIDIA H100": False,
        "cpu": False,
    }.items():
        assert calls_a_kernel(device) == has, device
    assert calls_a_kernel("TPU v5 lite", devices=2, batch=4)
    assert not calls_a_kernel("TPU v5 lite", devices=2, batch=3)
    assert not calls_a_kernel("TPU v5 lite", kernel="xla")
    assert not calls_a_kernel("TPU v5 lite", dtype=jnp.float32)
    assert calls_a_kernel("TPU v5 lite", layout=window_layout((9, 4), (3, 4)))
    assert not calls_a_kernel("TPU v5 lite", layout=window_layout((8, 4), (3, 4)))


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
