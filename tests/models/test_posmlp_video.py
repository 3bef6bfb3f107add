"""PosMLP-Video's blocks, versions and stems against float64 loops, and its image form against single frames."""

import functools

import jax
import jax.numpy as jnp
import naive
import numpy as np
import pytest
from flax import nnx
from helpers import functional, randomized

from posmlp_jax import create_model
from posmlp_jax.models import parameter_count
from posmlp_jax.models.cost import model_cost

FRAMES, WINDOW, GROUPS, WIDTH = 3, (3, 2), 2, 8
SMALL = {
    "num_frames": FRAMES,
    "image_size": (20, 16),
    "num_classes": 5,
    "widths": (WIDTH,),
    "depths": (1,),
    "windows": (WINDOW,),
    "groups": (GROUPS,),
}
IMAGE = {"num_frames": 0, "block": "spatial"}
VARIANTS = [
    {"version": "v1"},
    {"version": "v2"},
    {"version": "v3"},
    {"version": "v4"},
    {"block": "temporal_spatial"},
    {"block": "spatial_temporal"},
    {"block": "joint"},
    {"block": "spatial"},
    {"relation": "gqpe"},
    {"relation": "gqpe", "block": "joint"},
    {"relation": "lrpe_m", "gate": "concat", "version": "v3", "gate_norm": True},
    {"relation": "dense", "gate": "add", "version": "v2", "expansion": 4, "token_bias": False},
    {"gate": "concat", "split": False, "version": "v4"},
]


def variant_name(overrides: dict) -> str:
    return "-".join(map(str, overrides.values()))


@functools.cache
def random_model(**overrides):
    return randomized(lambda: create_model("posmlp_video_s", **SMALL | overrides))


def values_under(values: dict, prefix: str) -> dict:
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}


def naive_mix(x: np.ndarray, relation: dict, kind: str, part: str) -> np.ndarray:
    """A clip `[T, h, w, C]`: tokens at one place (1-D), a frame's windows (2-D), or a window in all frames (3-D)."""
    mix = functools.partial(naive.mix_map, relation=relation, kind=kind, groups=GROUPS, shifted=False)
    if part == "temporal":
        places = [[mix(x[:, r, c], window=(FRAMES,)) for c in range(x.shape[2])] for r in range(x.shape[1])]
        return np.array(places).transpose(2, 0, 1, 3)
    if part == "spatial":
        return np.array([mix(frame, window=WINDOW) for frame in x])
    return mix(x, window=(FRAMES, *WINDOW))


def naive_gate(x: np.ndarray, values: dict, config, part: str) -> np.ndarray:
    half = x.shape[-1] // 2
    first, second = (x[..., :half], x[..., half:]) if config.split else (x, x)
    if "norm.scale" in values:
        first = naive.layer_norm(first, values["norm.scale"], values["norm.bias"], 1e-5)
    relation = {name.rsplit(".", 1)[-1]: value for name, value in values_under(values, "relation.").items()}
    mixed = naive_mix(first, relation, config.relation, part)
    if "bias" in values:
        time, height, width = (np.arange(n) for n in x.shape[:3])
        inside = (height % WINDOW[0])[:, None] * WINDOW[1] + (width % WINDOW[1])
        number = {
            "temporal": time[:, None, None] + 0 * inside,
            "spatial": 0 * time[:, None, None] + inside,
            "joint": time[:, None, None] * WINDOW[0] * WINDOW[1] + inside,
        }[part]
        mixed = mixed + values["bias"][number][..., None]
    match config.gate:
        case "add":
            return mixed + second
        case "concat":
            return np.concatenate([mixed, second], axis=-1)
    return mixed * second


def naive_paired(x: np.ndarray, values: dict, config) -> np.ndarray:
    """Figure 5, V2 to V4."""
    half = x.shape[-1] // 2
    inputs = (x[..., :half], x[..., half:]) if config.version == "v2" else (x, x)
    temporal, spatial = (
        naive_gate(given, values_under(values, f"{part}."), config, part)
        for given, part in zip(inputs, ("temporal", "spatial"), strict=True)
    )
    return temporal + spatial if config.version == "v4" else np.concatenate([temporal, spatial], axis=-1)


def naive_branch(x: np.ndarray, values: dict, config, part: str) -> np.ndarray:
    """LayerNorm with the video model's 1e-5, Linear, GELU, gate, Linear."""
    y = naive.layer_norm(x, values["norm.scale"], values["norm.bias"], 1e-5)
    y = naive.gelu(y @ values["expand.kernel"] + values["expand.bias"])
    gate = values_under(values, "gate.")
    y = naive_paired(y, gate, config) if part == "paired" else naive_gate(y, gate, config, part)
    return y @ values["project.kernel"] + values["project.bias"]


def naive_block(x: np.ndarray, values: dict, config) -> np.ndarray:
    """Figures 2 and 5, written out."""

    def branch(x, part):
        return naive_branch(x, values_under(values, f"{part}."), config, part)

    match (config.block, config.version):
        case ("parallel", "v1"):
            return x + branch(x, "temporal") + branch(x, "spatial")
        case ("parallel", _):
            return x + branch(x, "paired")
        case ("temporal_spatial", _):
            x = x + branch(x, "temporal")
            return x + branch(x, "spatial")
        case ("spatial_temporal", _):
            x = x + branch(x, "spatial")
            return x + branch(x, "temporal")
    return x + branch(x, config.block)


@pytest.mark.parametrize("overrides", VARIANTS, ids=variant_name)
def test_blocks(overrides):
    """A 5×4 map, which windows of 3×2 do not divide. Its values are so small that the norm's 1e-5 counts."""
    model = random_model(**overrides)
    x = np.random.default_rng(0).normal(0, 0.01, (2, FRAMES, 5, 4, WIDTH)).astype(np.float32)
    values = {name: np.asarray(value, np.float64) for name, value in functional(model)[0].items()}
    values = values_under(values, "stages.0.blocks.0.")
    expected = np.array([naive_block(clip.astype(np.float64), values, model.config) for clip in x])
    naive.assert_close(jax.jit(model.stages[0])(x) - x, expected - x, 2e-5)


def batch_norm(x: np.ndarray, norm: nnx.BatchNorm) -> np.ndarray:
    mean, variance, scale, bias = (np.asarray(v[...], np.float64) for v in (norm.mean, norm.var, norm.scale, norm.bias))
    return (x - mean) / np.sqrt(variance + 1e-5) * scale + bias


@pytest.mark.parametrize("frames", [4, 5])
@pytest.mark.parametrize("stem", ["conv2d", "conv3d", "linear"])
def test_stems(stem, frames):
    """Figure 4; running variances of about 1e-4, in which the norm's 1e-5 counts."""
    model = nnx.clone(random_model(stem=stem, num_frames=frames))
    for norm in [model.stem.norm] if stem == "linear" else model.stem.norms:
        norm.var[...] = 1e-4 * norm.var[...]
    clip = np.random.default_rng(1).standard_normal((frames, 9, 6, 3)).astype(np.float32)

    def parameters(conv):
        return np.asarray(conv.kernel[...], np.float64), np.asarray(conv.bias[...], np.float64)

    if stem == "linear":
        kernel, bias = parameters(model.stem.conv)
        padded = np.pad(clip.astype(np.float64), ((0, 0), (0, 3), (0, 2), (0, 0)))
        patches = padded.reshape(frames, 3, 4, 2, 4, 3)
        expected = batch_norm(np.einsum("thywxc,yxcd->thwd", patches, kernel) + bias, model.stem.norm)
    else:
        (first, second), (norm, last_norm) = model.stem.convs, model.stem.norms
        x = clip.astype(np.float64)
        if stem == "conv3d":
            x = naive.conv(x, *parameters(first))
            assert len(x) == (frames + 1) // 2
        else:
            x = np.array([naive.conv(frame, *parameters(first)) for frame in x])
        x = naive.gelu(batch_norm(x, norm))
        expected = batch_norm(np.array([naive.conv(frame, *parameters(second)) for frame in x]), last_norm)
    assert model.config.steps == len(expected)
    naive.assert_close(jax.jit(model.stem)(clip[None])[0], expected)


def test_merging():
    """A full 3×3 convolution frame by frame, then LayerNorm; widths need not double."""
    model = random_model(widths=(8, 12), depths=(1, 1), windows=(2, 2), groups=(2, 2))
    (merging,) = model.mergings
    x = np.random.default_rng(2).normal(0, 0.001, (FRAMES, 5, 4, 8)).astype(np.float32)
    values = {name: np.asarray(value, np.float64) for name, value in functional(merging)[0].items()}
    values["conv.bias"] *= 0.001
    merging = nnx.clone(merging)
    merging.conv.bias[...] *= 0.001
    convolved = [naive.conv(frame.astype(np.float64), values["conv.kernel"], values["conv.bias"]) for frame in x]
    expected = naive.layer_norm(np.array(convolved), values["norm.scale"], values["norm.bias"], 1e-5)
    naive.assert_close(merging(jnp.asarray(x[None]))[0], expected)


@pytest.mark.parametrize("block", ["parallel", "temporal_spatial", "spatial_temporal"])
def test_image_form(block):
    """It fills the video model by name. With temporal tables and biases at their start the video model is the image
    form on each frame, and its logits are their mean.
    """
    image = random_model(**IMAGE)
    video = create_model("posmlp_video_s", **SMALL, block=block)
    filled = nnx.to_flat_state(nnx.state(image))
    own = dict(nnx.to_flat_state(nnx.state(video)))
    assert {path for path in own if "temporal" not in path} == set(filled.paths)
    assert all(own[path].shape == value.shape for path, value in filled)
    nnx.update(video, nnx.state(image))

    clips = np.random.default_rng(3).standard_normal((2, FRAMES, 20, 16, 3)).astype(np.float32)
    frames = clips.reshape(-1, 20, 16, 3)
    maps, logits = jax.jit(lambda x: (video.features(x)[-1], video(x)))(clips)
    expected_maps, expected_logits = jax.jit(lambda x: (image.features(x)[-1], image(x)))(frames)
    naive.assert_close(maps.reshape(expected_maps.shape), expected_maps, 1e-6)
    naive.assert_close(logits, np.asarray(expected_logits, np.float64).reshape(2, FRAMES, -1).mean(1), 2e-6)
    # It is the start that adds nothing: other tables do.
    temporal = video.stages[0].blocks[0].temporal
    temporal.gate.relation.table[...] += 100.0
    assert np.abs(video(clips) - logits).max() > 1e-4 * np.abs(logits).max()


@pytest.mark.parametrize("block", ["parallel", "joint", "spatial"])
def test_frames_in_another_order(block):
    """Only a model with temporal parts can tell: the rest is a mean over frames."""
    model = random_model(block=block)
    clips = np.random.default_rng(4).standard_normal((1, FRAMES, 20, 16, 3)).astype(np.float32)
    call = jax.jit(model)
    difference = np.abs(call(clips) - call(clips[:, ::-1])).max() / np.abs(call(clips)).max()
    assert difference < 1e-5 if block == "spatial" else difference > 1e-3


def test_drop_path_drops_both_branches_of_a_clip_together():
    block = random_model(drop_path=0.5, depths=(2,)).stages[0].blocks[1]
    assert block.drop_path.rate == 0.5
    x = jnp.asarray(np.random.default_rng(5).standard_normal((4, 2 * FRAMES, 6, WIDTH)), jnp.float32)
    whole = np.asarray(block(x, None) - x)
    keys = jax.random.split(jax.random.key(0), 200)
    added = np.asarray(jax.jit(jax.vmap(lambda key: block(x, None, key) - x))(keys))
    dropped = np.all(added == 0, axis=(2, 3, 4))
    np.testing.assert_allclose(added[~dropped], np.broadcast_to(2 * whole, added.shape)[~dropped], rtol=1e-3, atol=1e-5)
    assert abs(dropped.mean() - 0.5) < 5 * 0.5 / 800**0.5


def test_relation_parameters():
    """(2T−1)s, (2w−1)²s and (2T−1)(2w−1)²s of the published sizes."""
    for block in ("parallel", "joint"):
        model = nnx.eval_shape(lambda block=block: create_model("posmlp_video_s", block=block))
        for stage, w, s in zip(model.stages, (14, 14, 14, 7), (8, 16, 32, 64), strict=True):
            for gated in stage.blocks:
                if block == "joint":
                    assert parameter_count(gated.joint.gate.relation) == 31 * (2 * w - 1) ** 2 * s
                else:
                    assert parameter_count(gated.temporal.gate.relation) == 31 * s
                    assert parameter_count(gated.spatial.gate.relation) == (2 * w - 1) ** 2 * s


@pytest.mark.parametrize(
    ("name", "frames", "gmacs"),
    [
        ("posmlp_video_s", 16, "40.2"),
        ("posmlp_video_s", 8, "20.0"),
        ("posmlp_video_s", 32, "81.2"),
        ("posmlp_video_b", 16, "134"),
    ],
)
def test_published_operations(name, frames, gmacs):
    _, macs = model_cost(name, num_frames=frames)
    assert f"{macs / 1e9:.{len(gmacs.partition('.')[2])}f}" == gmacs


def test_half_the_time_in_the_stem():
    """32 frames cost what 16 do, and the stem's first convolution: three times the kernel at as many places in time."""
    (_, short), (_, long) = (model_cost(name) for name in ("posmlp_video_s", "posmlp_video_s_32"))
    assert long - short == 16 * 112**2 * 2 * 9 * 3 * 36


def test_initial_values():
    """As published: tables and biases 0, and so every gate's output, batch and spatial or temporal alike."""
    model = create_model("posmlp_video_s", **SMALL)
    branches = [getattr(block, name) for block in model.stages[0].blocks for name in ("temporal", "spatial")]
    for branch in branches:
        assert not np.any(branch.gate.relation.table[...])
        assert not np.any(branch.gate.bias[...])
        assert not np.any(branch.gate([jnp.ones((WIDTH, 1, FRAMES, 6))] * 2)[0])
        assert 0.01 < np.std(branch.expand.kernel[...]) < 0.03
