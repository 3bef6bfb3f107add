"""Image weights in video models, which start as the image model on every frame; and other clip lengths."""

import functools

import jax
import naive
import numpy as np
import pytest
from flax import nnx
from helpers import outputs, randomized
from runs import assert_equal, save_model

from posmlp_jax import create_model, from_pretrained
from posmlp_jax.checkpoints.resizing import interpolation_matrix
from posmlp_jax.checkpoints.state import module_weights
from posmlp_jax.checkpoints.transfer import transfer
from posmlp_jax.data.prepare.datasets.moving_digits import encode
from posmlp_jax.data.prepare.prepare import prepare
from posmlp_jax.errors import CheckpointError, ConfigError
from posmlp_jax.training import default_config, open_pretrained
from posmlp_jax.training.experiment import open_training

pytestmark = pytest.mark.heavy

FRAMES = 3
SIZES = {
    "image_size": (20, 16),
    "num_classes": 4,
    "widths": (8, 16),
    "depths": (1, 2),
    "windows": ((3, 2), 2),
    "groups": (2, 4),
}
NAMES = ("cat", "dog", "emu", "fox")
IMAGE = {"num_frames": 0, "block": "spatial"}


@functools.cache
def random_model(**fields):
    return randomized(lambda: create_model("posmlp_video_s", **SIZES | {"num_frames": FRAMES} | fields))


@pytest.fixture
def saved(tmp_path):
    """Writes a model of random parameters as a checkpoint; gives the model and the working directory."""

    def save(**fields):
        model = random_model(**fields)
        save_model(tmp_path, "posmlp_video_s", model, NAMES)
        return model, tmp_path

    return save


def clips(frames: int = FRAMES) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((2, frames, 20, 16, 3)).astype(np.float32)


def frame_outputs(model, inputs) -> tuple[list[jax.Array], jax.Array]:
    """An image model's maps and logits for each frame, `[batch, frames, …]`."""
    results = outputs(model, inputs.reshape(-1, *inputs.shape[2:]))
    return jax.tree.map(lambda x: x.reshape(*inputs.shape[:2], *x.shape[1:]), results)


@pytest.mark.parametrize("block", ["parallel", "temporal_spatial", "spatial_temporal"])
def test_images_first(saved, block):
    """The video model starts as the image model on every frame: its maps are theirs, its logits their mean."""
    image, workdir = saved(**IMAGE)
    video = from_pretrained(workdir, num_frames=FRAMES, block=block)
    different = clips()
    maps, logits = outputs(video, different)
    expected_maps, expected_logits = frame_outputs(image, different)
    for ours, theirs in zip(maps, expected_maps, strict=True):
        naive.assert_close(ours, theirs, 2e-6)
    naive.assert_close(logits, np.mean(expected_logits, axis=1), 2e-6)
    repeated = np.repeat(different[:, :1], FRAMES, axis=1)
    naive.assert_close(outputs(video, repeated)[1], expected_logits[:, 0], 2e-6)
    # Where a temporal table is not at its start, time counts.
    video.stages[1].blocks[0].temporal.gate.relation.table[...] += 10.0
    assert np.abs(outputs(video, different)[1] - logits).max() > 1e-4 * np.abs(logits).max()


@pytest.mark.parametrize("frames", [5, 6])
def test_into_a_stem_that_halves_time(saved, frames):
    """It starts as the image model on every second frame, also at the ends of the clip."""
    image, workdir = saved(**IMAGE)
    video = from_pretrained(workdir, num_frames=frames, block="parallel", stem="conv3d")
    assert video.config.steps == 3
    different = clips(frames)
    maps, logits = outputs(video, different)
    expected_maps, expected_logits = frame_outputs(image, different[:, ::2])
    naive.assert_close(maps[0], expected_maps[0], 2e-6)
    naive.assert_close(logits, np.mean(expected_logits, axis=1), 2e-6)
    repeated = np.repeat(different[:, :1], frames, axis=1)
    naive.assert_close(outputs(video, repeated)[1], expected_logits[:, 0], 2e-6)
    moved = transfer(open_pretrained(workdir), video.config)
    assert moved.inflated == ("stem.convs.0.kernel",)
    assert "taken; stem.convs.0.kernel inflated in time; new: 24 in" in moved.summary


def test_what_is_said(saved):
    """Of 15 parameters outside of blocks and 16 in each block, the head's two and half of the blocks' are new."""
    _, workdir = saved(**IMAGE)
    pretrained, video = open_pretrained(workdir), random_model(stem="linear").config.replace(stem="conv2d")
    summary = transfer(pretrained, video, class_names=NAMES).summary
    total = len(jax.tree.leaves(module_weights(random_model()).params))
    temporal = "new: 24 in the temporal branches of 3 blocks, which add nothing until they learn"
    assert summary == f"{total - 24} of {total} parameters taken; {temporal}"
    moved = transfer(pretrained, video, class_names=("a", "b", "c", "d"))
    assert moved.summary == f"{total - 26} of {total} parameters taken; new: head.bias, head.kernel; {temporal}"
    assert len(moved.new) == 26
    other = transfer(pretrained, video.replace(num_classes=9, windows=(4, 2)), class_names=None).summary
    assert (
        f"{total - 26} of {total} parameters taken; 2 of them (stages.0.blocks.0.spatial.gate.bias, "
        "stages.0.blocks.0.spatial.gate.relation.table) interpolated; new: head.bias, head.kernel; new: 24 in"
    ) in other


@pytest.mark.parametrize("fields", [{"relation": "gqpe"}, {"gate": "add"}, {"relation": "dense"}])
def test_temporal_parts_that_add_something(saved, fields):
    """Softmax rows sum to 1, a gate that adds passes one half on: from the start these change the result."""
    image, workdir = saved(**IMAGE | fields)
    video = from_pretrained(workdir, num_frames=FRAMES, block="parallel")
    logits = outputs(video, clips())[1]
    expected = np.mean(frame_outputs(image, clips())[1], axis=1)
    difference = np.abs(logits - expected).max() / np.abs(expected).max()
    assert difference > 2e-5  # Little: the linear layers start small. Where nothing is added it is below 2e-6.
    assert "of 3 blocks, which change the result from the start" in (
        transfer(open_pretrained(workdir), video.config).summary
    )
    spatial = functools.partial(jax.tree.map, np.testing.assert_array_equal)
    spatial(nnx.state(video.stages[0].blocks[0].spatial), nnx.state(image.stages[0].blocks[0].spatial))


def test_from_a_video_model_without_temporal_parts(saved):
    """What was trained on clips, frame by frame, is the same network; so is the image model as one of clips."""
    model, workdir = saved(block="spatial")
    logits = outputs(model, clips())[1]
    naive.assert_close(outputs(from_pretrained(workdir, block="parallel"), clips())[1], logits, 2e-6)
    as_image = from_pretrained(workdir, num_frames=0)
    naive.assert_close(np.mean(frame_outputs(as_image, clips())[1], axis=1), logits, 2e-6)


def along(axis: int, array: np.ndarray, target: int) -> np.ndarray:
    return np.moveaxis(np.tensordot(interpolation_matrix(array.shape[axis], target), array, (1, axis)), 0, axis)


def test_another_clip_length(saved):
    """Tables of offsets and biases of steps are interpolated; all else stays to the last bit."""
    model, workdir = saved()
    longer = from_pretrained(workdir, num_frames=5)
    before, after = model.stages[1].blocks[1].temporal.gate, longer.stages[1].blocks[1].temporal.gate
    np.testing.assert_allclose(after.relation.table[...], along(0, before.relation.table[...], 9), atol=1e-6)
    np.testing.assert_allclose(after.bias[...], along(0, before.bias[...], 5), atol=1e-6)
    assert np.isfinite(outputs(longer, clips(5))[1]).all()
    ours, theirs = (dict(nnx.to_flat_state(nnx.state(each))) for each in (longer, model))
    same = [path for path in ours if "temporal" not in path or "gate" not in path]
    assert len(ours) - len(same) == 6
    for path in same:
        np.testing.assert_array_equal(ours[path][...], theirs[path][...])
    moved = transfer(open_pretrained(workdir), longer.config)
    assert moved.new == ()
    assert (
        "6 of them (3 stages.*.blocks.*.temporal.gate.bias, 3 stages.*.blocks.*.temporal.gate.relation.table) "
        "interpolated" in moved.summary.replace("stages.0.blocks.0", "stages.*.blocks.*")
    )


@pytest.mark.parametrize("version", ["v2", "v3", "v4"])
def test_another_clip_length_of_other_versions(saved, version):
    model, workdir = saved(version=version)
    gates = [each.stages[0].blocks[0].paired.gate for each in (model, from_pretrained(workdir, num_frames=4))]
    tables = [gate.temporal.relation.table[...] for gate in gates]
    np.testing.assert_allclose(tables[1], along(0, tables[0], 7), atol=1e-6)
    np.testing.assert_array_equal(*(gate.spatial.relation.table[...] for gate in gates))


def test_another_clip_length_of_the_joint_relation(saved):
    """One table over time and window: in time alone, then in all three axes."""
    model, workdir = saved(block="joint")
    gate = model.stages[0].blocks[0].joint.gate
    table = gate.relation.table[...].reshape(5, 5, 3, 2)
    longer = from_pretrained(workdir, num_frames=4).stages[0].blocks[0].joint.gate
    np.testing.assert_allclose(longer.relation.table[...].reshape(7, 5, 3, 2), along(0, table, 7), atol=1e-6)
    np.testing.assert_allclose(
        longer.bias[...].reshape(4, 3, 2), along(0, gate.bias[...].reshape(3, 3, 2), 4), atol=1e-6
    )
    larger = from_pretrained(workdir, num_frames=4, windows=((4, 3), 2)).stages[0].blocks[0].joint.gate
    expected = along(2, along(1, along(0, table, 7), 7), 5)
    np.testing.assert_allclose(larger.relation.table[...].reshape(7, 7, 5, 2), expected, atol=1e-6)


def test_twice_the_frames_through_the_stem(saved):
    """Its blocks see as many steps as before: the kernel alone changes, and every second frame counts at first."""
    model, workdir = saved()
    longer = from_pretrained(workdir, num_frames=2 * FRAMES, stem="conv3d")
    naive.assert_close(outputs(longer, clips(2 * FRAMES))[1], outputs(model, clips(2 * FRAMES)[:, ::2])[1], 2e-6)
    assert_equal(nnx.state(longer.stages), nnx.state(model.stages))
    assert not transfer(open_pretrained(workdir), longer.config).resized


def message(call) -> str:
    with pytest.raises((CheckpointError, ConfigError)) as error:
        call()
    text = str(error.value)
    assert "\n" not in text
    return text


def test_blocks_with_other_parts(saved):
    _, workdir = saved(**IMAGE)
    for fields, kind in (
        ({"block": "joint"}, "block 'joint'"),
        ({"block": "parallel", "version": "v2"}, "block 'parallel' in version 'v2'"),
        ({"block": "parallel", "version": "v4"}, "block 'parallel' in version 'v4'"),
    ):
        text = message(lambda fields=fields: from_pretrained(workdir, num_frames=FRAMES, **fields))
        assert text.startswith(
            f"a model with {kind} cannot start from one with block 'spatial', the weights of step 0 in {workdir}: its "
            "parts are others. An image model's (block 'spatial') fill those of block 'parallel' in version 'v1', "
        )
        assert len(text) < 500
    assert "num_frames 0 makes a model of images" in message(lambda: from_pretrained(workdir, block="parallel"))


def test_what_a_video_model_does_not_give(saved):
    _, workdir = saved(stem="conv3d")
    assert "block 'spatial' cannot start from one with block 'parallel' in version 'v1'" in (
        message(lambda: from_pretrained(workdir, block="spatial"))
    )
    assert "stem 'conv3d' there, 'conv2d' here" in (
        message(lambda: from_pretrained(workdir, stem="conv2d", num_frames=2))
    )


def test_only_temporal_parts_may_be_missing(saved):
    """Another depth and other groups are another architecture still, of which temporal names are not listed."""
    _, workdir = saved(**IMAGE)
    change = {"num_frames": FRAMES, "block": "parallel", "depths": (2, 2), "groups": (4, 4)}
    text = message(lambda: from_pretrained(workdir, **change))
    assert "is of another architecture than the weights of step 0" in text
    assert text.endswith("depths (1, 2) there, (2, 2) here; groups (2, 4) there, (4, 4) here")


@pytest.mark.parametrize("named", [True, False], ids=["by name", "from the checkpoint"])
def test_a_run_that_starts_from_images(saved, tmp_path, named):
    """`init_from` in a run on clips: the classes are others, and the model the config's or the checkpoint's own."""
    image, workdir = saved(**IMAGE)
    for number in range(4):
        file = tmp_path / "clips" / ("train", "val")[number % 2] / ("left", "right")[number // 2] / f"{number}.mp4"
        file.parent.mkdir(parents=True)
        file.write_bytes(encode(np.full((FRAMES, 20, 16), 40 * number, np.uint8)))
    prepare("video_folder", str(tmp_path / "clips"), str(tmp_path / "data"), under="tiny")
    config = default_config("posmlp_video_s" if named else "")
    config.model.update(SIZES if named else {}, num_frames=FRAMES, block="parallel", num_classes=None)
    config.data.update(name="tiny", data_dir=str(tmp_path / "data"), flip=False)
    config.update(init_from=str(workdir), batch_size=2, devices=1)
    run = open_training(config)
    assert run.model.input_size == (FRAMES, 20, 16)
    first = run.first_weights()
    assert "taken; new: head.bias, head.kernel; new: 24 in the temporal branches of 3 blocks" in first.summary
    np.testing.assert_array_equal(first.weights.params["stem"]["convs"][0]["kernel"], image.stem.convs[0].kernel[...])
    assert first.weights.params["head"]["bias"].shape == (2,)


def test_another_family(saved):
    _, workdir = saved(**IMAGE)
    config = nnx.eval_shape(lambda: create_model("posmlp_t")).config
    assert message(lambda: transfer(open_pretrained(workdir), config)) == (
        f"the weights of step 0 in {workdir} are of a posmlp_video_s, another family than the model's: "
        "PosMLPVideoConfig there, PosMLPConfig here"
    )
