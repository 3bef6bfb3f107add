"""Trained models loaded as they were and as others: classes, image sizes, windows, devices."""

import jax
import numpy as np
import pytest
from flax import nnx
from helpers import outputs, randomized
from runs import assert_equal, save_model

from posmlp_jax import create_model, from_pretrained
from posmlp_jax.checkpoints.resizing import resize_bias, resize_dense, resize_table
from posmlp_jax.checkpoints.state import create_weights, module_weights
from posmlp_jax.checkpoints.store import Checkpoints
from posmlp_jax.checkpoints.transfer import transfer
from posmlp_jax.errors import CheckpointError, ConfigError
from posmlp_jax.training import open_pretrained

pytestmark = pytest.mark.heavy

TINY = {
    "image_size": 32,
    "widths": (8, 16),
    "depths": (1, 2),
    "expansions": (2, 2),
    "windows": (4, 2),
    "groups": (2, 4),
    "num_classes": 3,
}
NAMES = ("cat", "dog", "fish")


@pytest.fixture
def saved(tmp_path):
    """Writes a model of random parameters as a checkpoint; gives the model and the working directory."""

    def save(name="posmlp_t", class_names=NAMES, **fields):
        model = randomized(lambda: create_model(name, **(TINY if name == "posmlp_t" else {}) | fields))
        save_model(tmp_path, name, model, class_names)
        return model, tmp_path

    return save


def images(*size):
    return np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)


def test_as_it_was(saved):
    model, workdir = saved()
    for path in (workdir, str(workdir), workdir / "checkpoints", workdir / "checkpoints" / "0"):
        loaded = from_pretrained(path)
        assert loaded.config == model.config
        assert_equal(module_weights(loaded), module_weights(model))
    assert open_pretrained(workdir).class_names == NAMES
    same = from_pretrained(workdir, num_classes=3, image_size=32, windows=((4, 4), (2, 2)))
    np.testing.assert_array_equal(outputs(same, images(32, 32))[1], outputs(model, images(32, 32))[1])


def test_other_classes(saved):
    model, workdir = saved()
    other = from_pretrained(workdir, num_classes=5)
    (maps, logits), (wanted, _) = outputs(other, images(32, 32)), outputs(model, images(32, 32))
    assert logits.shape == (2, 5)
    assert_equal(maps, wanted)
    assert 0.01 < np.std(other.head.kernel[...]) < 0.03  # As a new model's.
    assert not other.head.bias[...].any()
    assert_equal(module_weights(other), module_weights(from_pretrained(workdir, num_classes=5)))
    again = from_pretrained(workdir, num_classes=5, seed=1)
    assert (again.head.kernel[...] != other.head.kernel[...]).all()
    without = from_pretrained(workdir, num_classes=0)
    assert without.head is None
    expected = np.asarray(wanted[-1]).mean(axis=(1, 2))
    np.testing.assert_allclose(outputs(without, images(32, 32))[1], expected, rtol=1e-6)


@pytest.mark.parametrize("kind", ["gqpe", "lrpe", "lrpe_m"])
@pytest.mark.filterwarnings("ignore:dense relations")
def test_other_windows(saved, kind):
    model, workdir = saved(relation=kind, absolute_position=True)
    other = from_pretrained(workdir, image_size=(64, 48), windows=((8, 6), 2))
    assert other.config.image_size == (64, 48)
    assert other(images(64, 48)).shape == (2, 3)
    before, after = model.stages[0].blocks[0].gate, other.stages[0].blocks[0].gate
    grids = (4, 4), (8, 6)
    np.testing.assert_array_equal(after.bias[...], resize_bias(np.asarray(before.bias), *grids))
    if kind == "gqpe":
        assert_equal(nnx.state(after.relation), nnx.state(before.relation))
    elif kind == "lrpe":
        table = np.asarray(before.relation.table)
        np.testing.assert_array_equal(after.relation.table[...], resize_table(table, *grids))
    else:
        dense, table = np.asarray(before.relation.dense.weight), np.asarray(before.relation.learned.table)
        np.testing.assert_array_equal(after.relation.dense.weight[...], resize_dense(dense, *grids))
        np.testing.assert_array_equal(after.relation.learned.table[...], resize_table(table, *grids))
    assert other.position.shape == (16, 12, 8)
    assert_equal(nnx.state(other.stages[1]), nnx.state(model.stages[1]))
    assert_equal(nnx.state(other.stem), nnx.state(model.stem))


def test_gmlp_at_another_size(saved):
    fields = {"image_size": 32, "patch": 8, "width": 8, "depth": 1, "expansion": 2, "num_classes": 3}
    model, workdir = saved("gmlp_s", **fields)
    with pytest.warns(UserWarning, match="dense relations are interpolated"):
        other = from_pretrained(workdir, image_size=(48, 32))
    assert other(images(48, 32)).shape == (2, 3)
    gate = model.stages[0].blocks[0].gate
    resized = resize_dense(np.asarray(gate.relation.weight), (4, 4), (6, 4))
    np.testing.assert_array_equal(other.stages[0].blocks[0].gate.relation.weight[...], resized)


def test_224_to_384_and_back_stays_close(tmp_path, saved):
    """The windows follow the image. Smooth tables, as trained ones are; the logits of the model that comes back."""
    fields = {"relation": "lrpe", "image_size": 112, "windows": (14, 7)}
    model, workdir = saved(**fields)
    offsets = {14: np.linspace(-1, 1, 27), 7: np.linspace(-1, 1, 13)}
    for stage in model.stages:
        for block in stage.blocks:
            side = block.gate.relation.grid[0]
            bells = [np.exp(-k * (offsets[side][:, None] ** 2 + offsets[side] ** 2)) for k in range(1, 5)]
            table = np.stack(bells, axis=-1).reshape(-1, 4)[:, : block.gate.relation.groups]
            block.gate.relation.table.set_value(table.astype(np.float32) / side)
            block.gate.bias.set_value(np.linspace(0, 1, side * side, dtype=np.float32))
    weights = module_weights(model)

    save_model(tmp_path / "a", "posmlp_t", model)
    larger = from_pretrained(tmp_path / "a", image_size=192, windows=(24, 12))
    save_model(tmp_path / "b", "posmlp_t", larger)
    back = from_pretrained(tmp_path / "b", image_size=112, windows=(14, 7))
    assert back.config == model.config
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=5e-3), module_weights(back), weights)
    np.testing.assert_allclose(outputs(back, images(112, 112))[1], outputs(model, images(112, 112))[1], atol=2e-2)
    del workdir


def test_everything_that_differs_is_listed(saved):
    _, workdir = saved()
    with pytest.raises(CheckpointError) as error:
        from_pretrained(workdir, groups=(4, 4), depths=(1, 1), covariance="free", gate_norm=True)
    text = str(error.value)
    assert "\n" not in text
    assert "of another architecture than the weights of step 0 in" in text
    for part in (
        "groups (2, 4) there, (4, 4) here",
        "depths (1, 2) there, (1, 1) here",
        "covariance 'psd' there, 'free'",
    ):
        assert part in text
    assert "normalizes_gate False there, True here" in text
    assert "widths" not in text
    from_pretrained(workdir, gate_norm=False, drop_path=0.5, remat=True)  # Nothing of this is another function.
    with pytest.raises(ConfigError, match="unknown field 'window' of PosMLPConfig; did you mean 'windows'"):
        from_pretrained(workdir, window=(4, 4))
    with pytest.raises(CheckpointError, match="there is no checkpoint in"):
        from_pretrained(workdir / "elsewhere")
    file = workdir / "weights.npz"
    file.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"is a file; make a checkpoint of it with python -m posmlp_jax\.convert"):
        from_pretrained(file)


@pytest.mark.parametrize(
    ("class_names", "new", "note"),
    [
        (None, (), "; the head is kept: there are as many classes, and no names on both sides to compare"),
        (NAMES, (), " taken"),
        (("cat", "fish", "dog"), ("head.bias", "head.kernel"), "; new: head.bias, head.kernel"),
    ],
    ids=["unknown", "same", "other"],
)
def test_the_head_is_kept_for_the_same_classes(saved, class_names, new, note):
    model, workdir = saved()
    moved = transfer(open_pretrained(workdir), model.config, class_names=class_names, seed=3)
    assert moved.new == new
    assert moved.summary.endswith(note)
    kernel = create_weights(model.config, 3).params["head"]["kernel"] if new else model.head.kernel[...]
    np.testing.assert_allclose(moved.weights.params["head"]["kernel"], kernel, rtol=1e-6)


def test_the_head_is_new_for_another_task(saved):
    """Which may have as many outputs as there were classes, and no names for them."""
    model, workdir = saved()
    assert transfer(open_pretrained(workdir), model.config, task="another").new == ("head.bias", "head.kernel")
    assert transfer(open_pretrained(workdir), model.config, task="classification").new == ()


def test_however_many_devices_it_was_trained_on(tiny_config, tmp_path):
    """Parameters that lie on four of eight devices come to one; and what one device has goes to eight."""
    from posmlp_jax.training import train

    config = tiny_config(devices=8, fsdp=4, length="1 steps", ema_decay=0.0)
    config.optimizer.update(warmup="0 steps", constant="0 steps")
    config.model.widths = (128, 256)  # Wide enough to be split.
    train(config, tmp_path / "eight")
    pretrained = open_pretrained(tmp_path / "eight")
    assert {leaf.devices() == {jax.devices()[0]} for leaf in jax.tree.leaves(pretrained.weights)} == {True}
    with Checkpoints(tmp_path / "eight")._manager as manager:
        saved = manager.restore(1)["weights"]["params"]
    assert_equal(pretrained.weights.params["head"]["kernel"], saved["head"]["kernel"])
    config.init_from = str(tmp_path / "eight")
    config.optimizer.peak_rate = 1e-30
    config.optimizer.warmup_rate = 0.0
    train(config, tmp_path / "next")
    again = open_pretrained(tmp_path / "next").weights.params
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-7), again, pretrained.weights.params)
