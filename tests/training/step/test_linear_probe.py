"""A linear probe against what it is: scikit-learn's logistic regression on the same pooled features."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from PIL import Image
from runs import assert_equal, metrics, save_model
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from configs.linear_probe import get_config
from posmlp_jax.checkpoints.state import TrainState, module_weights
from posmlp_jax.checkpoints.store import Checkpoints
from posmlp_jax.data import eval_batches, open_source
from posmlp_jax.errors import ConfigError
from posmlp_jax.models import create_model, model_config
from posmlp_jax.tasks.task import normalize_images
from posmlp_jax.training import first_state, train
from posmlp_jax.training.experiment import open_training
from posmlp_jax.training.step.freezing import check_probe, training_bind
from posmlp_jax.training.step.probe import standardized_head, with_statistics

pytestmark = pytest.mark.heavy

TINY = {"image_size": 16, "widths": (16, 32), "depths": (1, 1), "expansions": (2, 2), "windows": (4, 2)}
TINY["groups"] = (2, 4)
COUNTS = {1: 180, 3: 150, 4: 100, 7: 80, 8: 60}


@pytest.fixture(scope="module")
def model():
    return create_model("posmlp_t", **TINY, num_classes=10, drop_path=0.5, dropout=0.5, rngs=nnx.Rngs(1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Five of the ten digits as class folders: 285 images of unequal classes to train on, as many others in val/."""
    folder = tmp_path_factory.mktemp("digits")
    digits = load_digits()
    for label, count in COUNTS.items():
        images = digits.images[digits.target == label][:count]
        for number, image in enumerate(images):
            path = folder / ("train" if number % 2 else "val") / f"digit {label}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((image * 15.9).astype(np.uint8)).convert("RGB").save(path)
    return folder


def pooled(model, config, split: str) -> tuple[np.ndarray, np.ndarray]:
    """What the head sees of the images, each once, and their labels."""
    features = jax.jit(lambda images: model.features(normalize_images(images, config.data.mean, config.data.std))[-1])
    batches = list(eval_batches(open_source(config.data, split), config.data, (16, 16), batch_size=64))
    vectors = np.concatenate([np.mean(features(batch["image"]), axis=(1, 2)) for batch in batches])
    kept = np.concatenate([batch["weight"] for batch in batches]) > 0
    return vectors[kept], np.concatenate([batch["label"] for batch in batches])[kept]


def test_a_probe_is_as_good_as_logistic_regression(model, folder, tmp_path):
    save_model(tmp_path / "model", "posmlp_t", model)
    config = get_config()
    config.init_from = str(tmp_path / "model")
    config.data.update(data_dir=str(folder), holdout=0.0, mean=(0.5,) * 3, std=(0.25,) * 3, flip=False)
    config.devices = 1
    result = train(config, tmp_path / "run")["eval"]
    (vectors, labels), (others, wanted) = pooled(model, config, "train"), pooled(model, config, "eval")
    reference = LogisticRegression(max_iter=2000).fit(vectors, labels)
    assert result["count"] == len(wanted)
    accuracy = reference.score(others, wanted)
    assert accuracy > 0.6  # The largest class is a third.
    assert result["top1"] > accuracy - 0.02


def test_updates_are_those_of_a_head_on_standardised_features():
    """Two steps of AdamW by the wrapper, and by hand on standardised features: the same logits."""
    random = np.random.default_rng(0)
    features = random.normal(3, [0.1, 1, 20], (8, 3))
    mean, deviation = features.mean(0), features.std(0)
    standardised = (features - mean) / deviation
    targets = np.eye(4)[random.integers(0, 4, 8)]

    def loss(params, inputs):
        logits = inputs @ params["head"]["kernel"] + params["head"]["bias"]
        return optax.softmax_cross_entropy(logits, targets).mean()

    kernel, bias = random.normal(size=(3, 4)), random.normal(size=4)
    raw = {"head": {"kernel": kernel, "bias": bias}}
    wanted = {"head": {"kernel": deviation[:, None] * kernel, "bias": bias + mean @ kernel}}
    inner = optax.adamw(0.1, weight_decay=0.3)
    ours, theirs = standardized_head(inner), inner
    state = TrainState(jnp.int32(0), None, jax.device_put(ours.init(raw), jax.devices()[0]), None)
    our_state, their_state = with_statistics(state, [features[:5], features[5:]]).optimizer, theirs.init(wanted)
    for _ in range(2):
        updates, our_state = ours.update(jax.grad(loss)(raw, features), our_state, raw)
        raw = optax.apply_updates(raw, updates)
        updates, their_state = theirs.update(jax.grad(loss)(wanted, standardised), their_state, wanted)
        wanted = optax.apply_updates(wanted, updates)
        logits = [x @ p["head"]["kernel"] + p["head"]["bias"] for x, p in ((features, raw), (standardised, wanted))]
        np.testing.assert_allclose(*logits, rtol=1e-4, atol=1e-4)


def test_standardised_features_have_to_stay(tiny_config):
    config = tiny_config(freeze="stem", **{"optimizer.standardize_head": True})
    with pytest.raises(ConfigError, match=r"standardize_head is for a head that learns alone, but freeze is 'stem'"):
        open_training(config)


def test_a_detector_has_no_such_head():
    with pytest.raises(ConfigError, match=r"standardize_head is for a classifier's head, and this is a detector"):
        check_probe(model_config("retinanet_posmlp_t", num_classes=3), "(?!head)")


def test_what_is_frozen_drops_nothing(model):
    images = np.random.default_rng(0).normal(size=(4, 16, 16, 3)).astype(np.float32)
    weights = module_weights(model)

    @jax.jit
    def features(key):
        probe = training_bind(model.config, "(?!head)")(weights)
        half = training_bind(model.config, r"stem|stages\.0")(weights)
        maps = [trained.features(images, train=True, rngs=nnx.Rngs(dropout=key)) for trained in (probe, half)]
        return model.features(images), *maps

    wanted, probe, half = features(jax.random.key(0))
    for stage in (0, 1):
        np.testing.assert_allclose(probe[stage], wanted[stage], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(half[0], wanted[0], rtol=1e-5, atol=1e-5)
    assert np.abs(half[1] - wanted[1]).max() > 0.1


def test_a_stopped_probe_goes_on_bit_by_bit(tiny_config, tmp_path, monkeypatch):
    """With the mean and deviation that it began with, from its checkpoint: they are not looked at again."""

    def probe():
        options = {"freeze": "(?!head)", "optimizer.standardize_head": True, "length": "5 steps", "model.dropout": 0.0}
        return tiny_config(**options, ema_decay=0.0, checkpoint_every="2 steps", **{"optimizer.constant": "0 steps"})

    train(probe(), tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "stopped")
    for step in (4, 5):
        shutil.rmtree(tmp_path / "stopped" / "checkpoints" / str(step))
    monkeypatch.setattr(first_state, "with_statistics", None)
    train(probe(), tmp_path / "stopped")
    states = [
        Checkpoints(tmp_path / name).restore(5, open_training(probe()).abstract_state())
        for name in ("whole", "stopped")
    ]
    assert np.abs(states[0].optimizer.mean).max() > 0
    assert_equal(*map(jax.device_get, states))
    assert metrics(tmp_path / "stopped") == metrics(tmp_path / "whole")
