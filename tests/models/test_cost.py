"""The multiply-accumulate counter against counts by hand, and the paper's formulas (appendix .4) against both."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from helpers import small

from posmlp_jax import create_model
from posmlp_jax.downsampling import depthwise_conv
from posmlp_jax.models import parameter_count
from posmlp_jax.models.cost import forward_macs, kept_bytes, model_cost, model_memory


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


def test_matrix_products():
    assert forward_macs(jnp.matmul, shape(5, 2, 3), shape(3, 7)) == 5 * 2 * 3 * 7
    assert forward_macs(lambda a, b: jnp.einsum("gqk,bkgc->bqgc", a, b), shape(4, 6, 6), shape(2, 6, 4, 8)) == (
        2 * 4 * 6 * 6 * 8
    )


def conv(x, kernel, groups=1):
    return jax.lax.conv_general_dilated(
        x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups
    )


def test_convolutions():
    """Every output value takes kernel side² × inputs of its group; padding counts as any place."""
    assert forward_macs(conv, shape(2, 8, 6, 3), shape(3, 3, 3, 5)) == 2 * 4 * 3 * 5 * 9 * 3
    grouped = forward_macs(lambda x, kernel: conv(x, kernel, 4), shape(2, 8, 6, 4), shape(3, 3, 1, 8))
    assert grouped == 2 * 4 * 3 * 8 * 9
    # Ours is not XLA's convolution, and counts as if it were.
    assert forward_macs(depthwise_conv, shape(2, 8, 6, 4), shape(3, 3, 1, 8)) == grouped


def test_element_wise_work_is_free():
    assert forward_macs(lambda x: jax.nn.softmax(jnp.exp(x) * x + 1), shape(8, 8)) == 0


def test_what_is_inside_other_operations():
    square = 4**3

    def product(x):
        return x @ x

    def loop(x):
        return jax.lax.scan(lambda carry, _: (product(carry), None), x, length=5)[0]

    def branch(x):
        return jax.lax.cond(x[0, 0] > 0, lambda x: product(product(x)), product, x)

    for function, times in [(jax.jit(product), 1), (jax.checkpoint(product), 1), (loop, 5), (branch, 2)]:
        assert forward_macs(function, shape(4, 4)) == times * square
    assert forward_macs(jax.vmap(product), shape(3, 4, 4)) == 3 * square
    # The gradient of x·x with respect to x: the product is not needed itself, its two factors' gradients are.
    assert forward_macs(jax.grad(lambda x: jnp.sum(product(x))), shape(4, 4)) in (2 * square, 3 * square)


def test_gmlp_by_hand():
    """Patches, two linear layers and a token FC a block, and the head."""
    model = nnx.eval_shape(lambda: create_model("gmlp_s"))
    tokens, width, inner = 14**2, 256, 6 * 256
    block = tokens * width * inner + tokens**2 * inner // 2 + tokens * inner // 2 * width
    expected = tokens * 3 * 16**2 * width + 30 * block + width * 1000
    assert model_cost("gmlp_s") == (parameter_count(model), expected)
    assert forward_macs(lambda model, images: model(images), model, shape(1, 224, 224, 3)) == expected
    assert forward_macs(lambda model, images: model(images), model, shape(3, 224, 224, 3)) == 3 * expected


# Appendix .4, for one block on one window. d, γ, N and s as there.


def block_of(relation: str, d: int, expansion: int, side: int, s: int):
    """A PosMLP block in the abstract."""
    return (
        nnx.eval_shape(
            lambda: create_model(
                "posmlp_t",
                relation=relation,
                widths=(d,),
                depths=(1,),
                expansions=(expansion,),
                windows=(side,),
                groups=(s,),
            )
        )
        .stages[0]
        .blocks[0]
    )


SIZES = pytest.mark.parametrize(
    ("d", "expansion", "side", "s"), [(96, 4, 14, 8), (384, 4, 14, 32), (768, 2, 7, 64), (40, 6, 5, 3)]
)


@SIZES
def test_parameter_formulas(d, expansion, side, s):
    """P counts linear layers, biases and the token mixing. It leaves out the LayerNorms, 2d values before a block and
    γd in SGU; and P(GLRPE) ends in 4s where a table of s(2√N − 1)² values gives s, so it is 3s too large.
    """
    N, gamma = side**2, expansion
    linear = 3 * gamma * d**2 // 2 + (gamma + 1) * d
    gmlp = linear + N**2 + N
    glrpe = linear + (4 * s + 1) * N - 4 * s * side + 4 * s
    ggqpe = linear + N + 6 * s
    assert parameter_count(block_of("dense", d, gamma, side, 1)) == gmlp + 2 * d + gamma * d
    assert parameter_count(block_of("lrpe", d, gamma, side, s)) == glrpe - 3 * s + 2 * d
    assert parameter_count(block_of("gqpe", d, gamma, side, s)) == ggqpe + 2 * d


@SIZES
def test_operation_formulas(d, expansion, side, s):
    """Ω(gMLP) is what is counted. Ω(GLRPE) has sN² more, for the look-up, in which nothing is multiplied. Ω(GGQPE)'s
    5sN², the products v·r of Eq. 13, are there; both leave out Eq. 7, ΓΓᵀ (8s) and Σ⁻¹Δ (4s), element-wise as it is.
    """
    N, gamma = side**2, expansion
    linear = 3 * gamma * d**2 * N // 2
    mixing = gamma * d * N**2 // 2
    ggqpe = linear + mixing + 5 * s * N**2
    window = shape(1, 1, N, d)

    def macs(relation, groups):
        return forward_macs(lambda block, x: block(x), block_of(relation, d, gamma, side, groups), window)

    assert macs("dense", 1) == linear + mixing
    assert macs("lrpe", s) == linear + mixing
    assert macs("gqpe", s) == ggqpe


def test_what_is_kept_for_the_backward_pass():
    """Of sin(sin(x A) B): x, A, B, both cosines and what B is multiplied by, 4 bytes each; recomputed, x, A and B."""
    x, a, b = shape(5, 2), shape(2, 3), shape(3, 7)

    def layers(x, a, b):
        return jnp.sin(jnp.sin(x @ a) @ b)

    arguments = 5 * 2 + 2 * 3 + 3 * 7
    assert kept_bytes(layers, x, a, b) == 4 * (arguments + 2 * 5 * 3 + 5 * 7)
    assert kept_bytes(jax.checkpoint(layers), x, a, b) == 4 * arguments


def test_memory_of_a_model():
    """Parameters once, activations as often as there are images; less where they are computed again."""
    one, two, three = (model_memory("posmlp_t", batch_size, **small("posmlp_t")) for batch_size in (1, 2, 3))
    assert three - two == two - one
    parameters = 4 * model_cost("posmlp_t", **small("posmlp_t"))[0]
    # Some parameters, as biases, are not needed for any gradient; relations are, and are not of the images.
    assert 0.5 * parameters < one - (two - one)
    assert model_memory("posmlp_t", 3, **small("posmlp_t"), remat=True) < three / 2
