import pickle

from posmlp_jax.data import open_source


def test_synthetic(make_config):
    config = make_config(name="synthetic")
    train, val = open_source(config, "train"), open_source(config, "eval")
    assert len(train) == len(val) == 30
    assert train.num_classes == 5
    assert open_source(config, "train", num_classes=3).num_classes == 3
    assert sorted(train[i]["label"] for i in range(30)) == sorted(list(range(5)) * 6)
    for i in (0, 17, 29):
        image = pickle.loads(pickle.dumps(train))[i]["image"]
        assert (image == train[i]["image"]).all()
        assert image.shape == (256, 256, 3)
        assert (image != val[i]["image"]).any()
    # The classes differ by their mean colours, by far more than the noise changes the mean.
    means = [train[i]["image"].mean((0, 1)) for i in range(30)]
    for i in range(30):
        same = [abs(means[i] - means[j]).max() for j in range(30) if (i - j) % 5 == 0]
        other = [abs(means[i] - means[j]).max() for j in range(30) if (i - j) % 5]
        assert max(same) < 2 < min(other)
