import io
import pickle
from importlib import import_module
from pathlib import Path

import av

from posmlp_jax.data import check_source, open_source, train_batches
from posmlp_jax.data.decoding.frames import decode_frames, probe
from posmlp_jax.data.targets import flipped_labels
from posmlp_jax.training.config import resolve_model

ROOT = Path(__file__).parents[3]


def test_synthetic(make_config):
    config = make_config(name="synthetic")
    train, val = open_source(config, "train"), open_source(config, "eval")
    assert len(train) == len(val) == 30
    assert train.num_classes == 5
    assert open_source(config, "train", num_classes=3).num_classes == 3
    assert sorted(train[i][1] for i in range(30)) == sorted(list(range(5)) * 6)
    for i in (0, 17, 29):
        image = pickle.loads(pickle.dumps(train))[i][0]
        assert (image == train[i][0]).all()
        assert image.shape == (256, 256, 3)
        assert (image != val[i][0]).any()
    # The classes differ by their mean colours, by far more than the noise changes the mean.
    means = [train[i][0].mean((0, 1)) for i in range(30)]
    for i in range(30):
        same = [abs(means[i] - means[j]).max() for j in range(30) if (i - j) % 5 == 0]
        other = [abs(means[i] - means[j]).max() for j in range(30) if (i - j) % 5]
        assert max(same) < 2 < min(other)


def test_synthetic_videos(make_config):
    """H.264 files that are decoded like any other; what differs between them can be seen, and is the same elsewhere."""
    config = make_config(name="synthetic", num_examples=12, num_classes=6)
    train, val = (open_source(config, split, kind="video") for split in ("train", "eval"))
    assert (train.kind, len(train), train.num_classes) == ("video", 12, 6)
    assert "12 generated videos of 340×256, 6 classes" in train.description
    assert [train[i][1] for i in range(12)] == [*range(6), *range(6)]
    assert train.example_id(0) != val.example_id(0)
    video = train[2][0]
    with av.open(io.BytesIO(video.data)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
    info = probe(video.data)
    assert (info.num_frames, info.fps) == (video.num_frames, video.fps) == (150, 30)
    assert decode_frames(video, [0])[0].shape == (1, 256, 340, 3)
    assert pickle.loads(pickle.dumps(train))[2][0] == train[8][0] == video
    means = [decode_frames(train[i][0], [0, 149])[0].mean((1, 2)) for i in range(5)]
    for i in range(5):
        assert abs(means[i][0] - means[i][1]).max() < 20  # The clouds move.
        assert [abs(means[i] - means[j]).max() > 12 for j in range(5)] == [(i - j) % 4 != 0 for j in range(5)]
    # Without names, and so without a left and a right; also of a part of them.
    config.update(train_fraction=0.5, flip_label_pairs=(("left", "right"),))
    part = open_source(config, "train", kind="video")
    assert (len(part), part.kind) == (6, "video")
    assert flipped_labels(part, config.flip_label_pairs).tolist() == list(range(6))
    config.update(sampling="dense", stride=4, flip=True, threads=2)
    batches = train_batches(part, config, (4, 16, 24), batch_size=4, seed=0)
    assert next(batches)["image"].shape == (4, 4, 16, 24, 3)
    batches.close()


def test_synthetic_runs_any_config(monkeypatch):
    """docs/imagenet.md says so."""
    monkeypatch.syspath_prepend(ROOT)
    names = [f"configs.{path.stem}" for path in (ROOT / "configs").glob("*.py")]
    names += [f"configs.video.{path.stem}" for path in (ROOT / "configs/video").glob("*.py")]
    configs = {name: module.get_config() for name in names if hasattr(module := import_module(name), "get_config")}
    assert len(configs) > 20
    kinds = set()
    for name, config in configs.items():
        if not config.model.name:
            continue  # Its model is that of a checkpoint, `init_from`.
        config.data.update(name="synthetic")
        model = resolve_model(config, {"num_classes": 1000})
        for split in ("train", "eval"):
            source = open_source(config.data, split, kind=model.kind)
            assert source.generated, name
            check_source(source, config.data, model.input_size)
        kinds.add(model.kind)
    assert kinds == {"image", "video"}
