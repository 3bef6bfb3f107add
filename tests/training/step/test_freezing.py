"""What is frozen stays, what is low learns slowly, and fine-tuning runs are as safe as others."""

import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from runs import assert_equal, run, steps

from posmlp_jax.checkpoints.state import parameter_name
from posmlp_jax.errors import CheckpointError, ConfigError
from posmlp_jax.training import evaluate, open_pretrained, train
from posmlp_jax.training.experiment import open_training
from posmlp_jax.training.step.freezing import frozen_mask, layer_scales
from posmlp_jax.training.step.optimizer import create_optimizer
from posmlp_jax.training.step.step import make_train_step

pytestmark = pytest.mark.heavy

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def pretrained(tiny_config, tmp_path_factory):
    """A run of three steps on five classes."""
    workdir = tmp_path_factory.mktemp("pretrained")
    train(tiny_config(length="3 steps", **{"optimizer.constant": "0 steps"}), workdir)
    return workdir


@pytest.fixture
def finetune(tiny_config, pretrained):
    """Makes a config that goes on from that run on three classes."""

    def make(**changes):
        config = tiny_config(**{"optimizer.constant": "0 steps", "length": "4 steps", **changes})
        config.init_from = str(pretrained)
        config.model.name = ""
        config.data.num_classes = 3
        config.model.update(dict.fromkeys([name for name in config.model if name != "name"]))
        return config

    return make


def flat(tree) -> dict[str, np.ndarray]:
    return {parameter_name(path): np.asarray(x) for path, x in jax.tree_util.tree_leaves_with_path(tree)}


@pytest.fixture(scope="module")
def names(tiny_config):
    return open_training(tiny_config()).abstract_state().weights.params


def test_layer_scales(names):
    scales = flat(layer_scales(names, 0.5))
    layers = {"stem.": 3, "stages.0.blocks.0.": 2, "mergings.0.": 1, "stages.1.blocks.0.": 1, "norm.": 0, "head.": 0}
    assert len(scales) > 30
    for name, scale in scales.items():
        (below,) = [n for prefix, n in layers.items() if name.startswith(prefix)]
        assert scale == 0.5**below, name


def test_layer_scales_of_many_blocks():
    blocks = {
        f"{stage}": {"blocks": {f"{i}": {"kernel": 0} for i in range(depth)}} for stage, depth in enumerate((2, 3))
    }
    scales = flat(
        layer_scales({"stages": blocks, "position": 0, "mergings": {"0": {"kernel": 0}}, "head": {"bias": 0}}, 0.1)
    )
    assert {name: round(-np.log10(scale)) for name, scale in scales.items()} == {
        "position": 6,
        "stages.0.blocks.0.kernel": 5,
        "stages.0.blocks.1.kernel": 4,
        "mergings.0.kernel": 3,
        "stages.1.blocks.0.kernel": 3,
        "stages.1.blocks.1.kernel": 2,
        "stages.1.blocks.2.kernel": 1,
        "head.bias": 0,
    }


@pytest.mark.parametrize(
    ("pattern", "frozen"),
    [
        ("(?!head)", lambda name: not name.startswith("head.")),
        (r"stem|stages\.[0]", lambda name: name.startswith(("stem.", "stages.0."))),
        ("", lambda name: False),
        (r".*\.bias$", lambda name: name.endswith(".bias")),
    ],
)
def test_frozen_mask(names, pattern, frozen):
    mask = flat(frozen_mask(names, pattern))
    assert {name: bool(value) for name, value in mask.items()} == {name: frozen(name) for name in mask}


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("heads", "matches no parameter; names are like head.bias and "),
        ("", None),
        (".", "matches every parameter"),
        ("(", "is no regular expression"),
    ],
)
def test_patterns_that_cannot_be(names, pattern, message):
    if message is None:
        frozen_mask(names, pattern)
        return
    with pytest.raises(ConfigError, match=message):
        frozen_mask(names, pattern)


def test_the_layers_updates_are_scaled(tiny_config, names):
    """Against the same optimizer without decay: every update is the decay's power of it, weight decay included."""
    config = tiny_config(**{"optimizer.layer_decay": 0.7, "optimizer.clip_norm": 0.0}).optimizer
    random = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: random.normal(size=leaf.shape).astype(np.float32), names)
    grads = jax.tree.map(lambda leaf: random.normal(size=leaf.shape).astype(np.float32), names)
    schedule = optax.constant_schedule(1e-2)
    updates = []
    for decay in (0.7, 1.0):
        config.layer_decay = decay
        optimizer = create_optimizer(config, schedule)
        updates.append(flat(optimizer.update(grads, optimizer.init(params), params)[0]))
    scales = flat(layer_scales(names, 0.7))
    for name, update in updates[0].items():
        np.testing.assert_allclose(update, scales[name] * updates[1][name], rtol=1e-6)


def test_what_is_frozen_stays(tiny_config):
    """Two steps: frozen parameters and statistics to the last bit, all others change; frozen ones have no moments."""
    config = tiny_config(freeze=r"stem|stages\.0", **{"optimizer.layer_decay": 0.9, "optimizer.weight_decay": 0.5})
    run = open_training(config)
    state = run.new_state()
    before = jax.device_get((state.weights.params, state.weights.batch_stats))
    learning = sum(leaf.size for name, leaf in flat(before[0]).items() if not name.startswith(("stem.", "stages.0.")))
    assert sum(leaf.size for leaf in jax.tree.leaves(state.optimizer) if leaf.ndim) == 2 * learning
    step = jax.jit(make_train_step(run.train_bind, run.task, run.optimizer, run.schedule, run.options))
    random = np.random.default_rng(0)
    for _ in range(2):
        images = random.integers(0, 256, (16, 16, 16, 3), np.uint8)
        state, metrics = step(state, {"image": images, "label": random.integers(0, 5, 16)})
    after = jax.device_get((state.weights.params, state.weights.batch_stats))
    assert np.isfinite(metrics["grad_norm"])
    changed = {name for name, value in flat(after[0]).items() if (value != flat(before[0])[name]).any()}
    assert changed == {name for name in flat(before[0]) if not name.startswith(("stem.", "stages.0."))}
    assert_equal(after[1], before[1])  # The only BatchNorms are the stem's.


def test_a_frozen_stem_uses_its_running_statistics(tiny_config):
    """The training loss of a frozen stem's model does not depend on the other images of the batch."""
    config = tiny_config(freeze="stem", **{"model.dropout": 0.0, "model.drop_path": 0.0})
    run = open_training(config)
    state = run.new_state()
    images = jnp.asarray(np.random.default_rng(0).normal(size=(4, 16, 16, 3)), jnp.float32)
    for bind, same in ((run.train_bind, True), (run.bind, False)):
        call = jax.jit(lambda images, bind=bind: bind(state.weights)(images, train=True, rngs=nnx.Rngs(dropout=0)))
        assert np.allclose(call(images)[:1], call(images.at[1:].set(0))[:1], atol=1e-6) == same


def test_finetuning_from_a_run(finetune, tmp_path, capsys):
    """The head is new, the rest starts where the run ended; resuming and evaluating need the run no more."""
    config = finetune(freeze="(?!head)", length="4 steps", eval_every="4 steps", checkpoint_every="2 steps")
    source = tmp_path / "source"
    shutil.copytree(config.init_from, source)
    config.init_from = str(source)
    results = train(config, tmp_path / "run")
    output = capsys.readouterr().out
    before, after = open_pretrained(source), open_pretrained(tmp_path / "run", weights="raw")
    assert f"starting from the {before.choice}: 36 of 38 parameters taken; new: head.bias, head.kernel" in output
    assert after.config.num_classes == 3
    assert after.name == "posmlp_t"
    for name, value in flat(after.weights.params).items():
        if not name.startswith("head."):
            np.testing.assert_array_equal(value, flat(before.weights.params)[name])
    shutil.rmtree(source)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "4")
    config.init_from = ""  # Nobody has to remember what is gone.
    assert train(config, tmp_path / "run") == results
    assert steps(tmp_path / "run") == [2, 4]
    assert evaluate(config, tmp_path / "run") == results


def test_mean_and_std_are_the_checkpoints_where_they_are_left_open(finetune, tiny_config, pretrained, tmp_path):
    config = finetune(length="1 steps", **{"optimizer.warmup": "0 steps"})
    config.data.mean = ()
    config.data.std = ()
    data = dict(open_pretrained(pretrained).data)
    run = open_training(config)
    assert tuple(data["mean"]) == run.config.data.mean
    train(config, tmp_path / "run")
    assert open_pretrained(tmp_path / "run").data["std"] == data["std"]
    evaluate(config, tmp_path / "run")
    config = tiny_config()
    config.data.std = ()
    with pytest.raises(ConfigError, match=r"data.std is \(\), which means that of a checkpoint"):
        open_training(config)


def test_mistakes_leave_no_workdir(finetune, tiny_config, tmp_path):
    cases = [
        (finetune(init_from=""), None, "model.name is .., which means that of a checkpoint"),
        (finetune(), str(tmp_path / "nothing"), "there is no checkpoint in"),
        (
            tiny_config(),
            "own",
            "another architecture than the moving average .*: relation 'gqpe' there, 'lrpe'",
        ),
        (finetune(freeze="haed"), None, "freeze 'haed' matches no parameter"),
    ]
    for config, path, message in cases:
        if path == "own":
            config.model.windows = (2, 2)
            config.model.relation = "lrpe"
            config.init_from = finetune().init_from
        elif path is None and "which means" in message:
            config.init_from = ""
        elif path is not None:
            config.init_from = path
        with pytest.raises((ConfigError, CheckpointError), match=message) as error:
            train(config, tmp_path / "run")
        assert "\n" not in str(error.value)
        assert not (tmp_path / "run").exists()


def test_the_finetune_config(pretrained, tmp_path):
    """`configs/finetune.py` as a program, on a folder of images at another size."""
    import cv2

    random = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 2)):
        for name in ("left", "right"):
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                cv2.imwrite(str(folder / f"{index}.png"), random.integers(0, 256, (24, 24, 3), np.uint8))
    arguments = [
        "--config=configs/finetune.py",
        f"--config.init_from={pretrained}",
        f"--config.data.data_dir={tmp_path / 'images'}",
        f"--workdir={tmp_path / 'run'}",
        "--config.model.image_size=24",
        "--config.model.windows=(6,3)",
        "--config.batch_size=8",
        "--config.length=2 steps",
        "--config.optimizer.warmup=0 steps",
        "--config.devices=1",
    ]
    process = run(*arguments)
    assert process.code == 0, process.errors
    assert "interpolated; new: head.bias, head.kernel" in process.output
    tuned = open_pretrained(tmp_path / "run")
    assert tuned.class_names == ("left", "right")
    assert tuned.config.windows == ((6, 6), (3, 3))
    again = run(*arguments, "--mode=eval")
    assert again.code == 0, again.errors
    assert "evaluating step 2" in again.output
