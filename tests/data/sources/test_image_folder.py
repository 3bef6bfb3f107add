import pickle

import pytest

from posmlp_jax.data import open_source
from posmlp_jax.data.decoding.images import decode
from posmlp_jax.data.prepare.prepare import prepare
from posmlp_jax.data.sources.class_folders import enough_to_hold_out, hold_out
from posmlp_jax.data.sources.image_folder import ImageFolderSource
from posmlp_jax.errors import ConfigError, DataError


def files(source: ImageFolderSource) -> dict[str, int]:
    """The label of each file."""
    return {source.example_id(i): source[i][1] for i in range(len(source))}


@pytest.mark.parametrize("eval_split", ["", "validation", "test"])  # What configs for other data sets say.
@pytest.mark.parametrize("evaluation", ["val", "test", "validation"])
def test_train_and_evaluation_folders(image_folder, make_config, evaluation, eval_split):
    root = image_folder({"train/b": 3, "train/a": 2, f"{evaluation}/b": 1, "train/.cache": 1})
    (root / "train/a/notes.txt").write_text("not an image")
    (root / "train/a/._image0.jpg").write_text("what macOS leaves behind")
    config = make_config(name="image_folder", data_dir=str(root), eval_split=eval_split)
    train, val = open_source(config, "train", num_classes=2), open_source(config, "eval", num_classes=2)
    assert train.class_names == val.class_names == ("a", "b")
    assert files(train) == {
        **{str(root / f"train/a/image{i}.jpg"): 0 for i in range(2)},
        **{str(root / f"train/b/image{i}.jpg"): 1 for i in range(3)},
    }
    assert files(val) == {str(root / evaluation / "b/image0.jpg"): 1}
    assert train[0][0] == (root / "train/a/image0.jpg").read_bytes()
    copy = pickle.loads(pickle.dumps(train))
    assert files(copy) == files(train)
    assert "5 images of 2 classes" in train.description


@pytest.mark.parametrize("suffix", [".jpg", ".JPG", ".jpeg", ".PNG", ".png", ".webp"])
def test_suffixes(image_folder, suffix):
    root = image_folder({"train/a": 1, "val/a": 1}, suffix)
    assert decode(ImageFolderSource(root, "train")[0][0]).shape == (24, 32, 3)


def test_named_folders(image_folder, make_config):
    root = image_folder({"train/a": 1, "val/a": 1, "test/a": 2, "mine/a": 3})
    config = make_config(name="image_folder", data_dir=str(root), eval_split="test")
    assert len(open_source(config, "eval")) == 2
    config.train_split = "mine"
    assert len(open_source(config, "train")) == 3
    config.eval_split = "dev"
    with pytest.raises(DataError, match=r"no folder .*/dev: set --config.data.eval_split=val"):
        open_source(config, "train")
    config.train_split, config.eval_split = "train[:90%]", "val"
    with pytest.raises(DataError, match=r"no folder .*/train\[:90%\] \(train_split is"):
        open_source(config, "train")


@pytest.mark.parametrize("inside", ["", "train/"])
def test_holdout(image_folder, inside):
    root = image_folder({f"{inside}a": 20, f"{inside}b": 5, f"{inside}c": 1})
    train = files(ImageFolderSource(root, "train", holdout=0.2))
    held_out = files(ImageFolderSource(root, "eval", holdout=0.2))
    assert not train.keys() & held_out.keys()
    assert len(train | held_out) == 26
    counts = [sum(label == number for label in held_out.values()) for number in range(3)]
    assert counts == [4, 1, 0]
    # Where the folder lies makes no difference.
    moved = root.rename(root.with_name("moved"))
    again = files(ImageFolderSource(moved, "eval", holdout=0.2))
    assert {path.replace("moved", "images"): label for path, label in again.items()} == held_out
    # Every class keeps one image.
    most = files(ImageFolderSource(moved, "train", holdout=0.99))
    assert sorted(most.values()) == [0, 1, 2]


@pytest.mark.parametrize(
    ("counts", "holdout", "message"),
    [
        ({"train/a": 1, "val/a": 1, "val/zebra": 1}, 0, "class 'zebra' of .*/val is not among the 1 training classes"),
        ({"train/a": 1, "train/empty": 0, "val/a": 1}, 0, "class 'empty' has no images .* in .*/train"),
        ({"train/a": 1}, 0, "has no evaluation images: add val/, or .*--config.data.holdout=0.1"),
        ({"a": 1}, 0, "has no evaluation images"),
        ({"val/a": 1}, 0, "has val/ but no train/"),
        ({"train": 3}, 0.1, "no class folders in .*/train"),
        ({".": 0}, 0.1, "no class folders in"),
        ({"train/a": 1, "val/a": 0}, 0, "no images in .*/val"),
        ({"a": 2, "b": 2}, 0.1, "holdout 0.1 holds out no image .* largest has 2; 6 images would do"),
        ({"a": 1, "b": 1}, 0.9, "holdout 0.9 holds out no image .* largest has 1; 2 images would do"),
    ],
)
@pytest.mark.parametrize("split", ["train", "eval"])
def test_mistakes(image_folder, counts, holdout, message, split):
    root = image_folder(counts)
    with pytest.raises(DataError, match=message):
        ImageFolderSource(root, split, holdout=holdout)


def test_more_mistakes(image_folder, make_config, tmp_path):
    root = image_folder({"train/a": 1, "val/a": 1})
    # A share to hold out, as configs/own_images.py has one, is for folders that lack evaluation images.
    for split in ("train", "eval"):
        assert files(ImageFolderSource(root, split, holdout=0.9)) == files(ImageFolderSource(root, split))
    with pytest.raises(ConfigError, match=r"holdout must be a share in \[0, 1\), not 1.0"):
        ImageFolderSource(root, "train", holdout=1.0)
    with pytest.raises(ConfigError, match="cannot be both"):
        ImageFolderSource(root, "train", eval_folder="train")
    with pytest.raises(DataError, match=r"no folder .*/nowhere: images are expected in DIR/train/CLASS"):
        ImageFolderSource(tmp_path / "nowhere", "train")
    with pytest.raises(DataError, match=r"image_folder needs the folder: --config.data.data_dir=DIR"):
        open_source(make_config(name="image_folder", data_dir=""), "train")


def test_how_many_images_are_enough_to_hold_one_out(tmp_path):
    for share in (0.001, 0.05, 0.1, 1 / 6, 0.25, 0.3, 0.5, 0.9, 0.999):
        enough = enough_to_hold_out(share)
        for count in (enough - 1, enough):
            _, (held_out,) = hold_out(tmp_path, [[tmp_path / str(number) for number in range(count)]], share)
            assert len(held_out) == (count == enough)


def test_links_that_lead_nowhere_are_named(image_folder, tmp_path, caplog):
    """Those of images or whole classes; a link to an image is as good as one."""
    root = image_folder({"train/a": 2, "train/b": 1, "val/a": 1})
    (root / "train/a/good.jpg").symlink_to(root / "train/b/image0.jpg")
    (root / "train/a/notes").symlink_to(tmp_path / "gone")
    (root / "train/a/.hidden.jpg").symlink_to(tmp_path / "gone")
    (root / "train/.circle").symlink_to(root / "train/.circle")
    assert "left out" not in ImageFolderSource(root, "train").description
    (root / "train/b/x.JPG").symlink_to(root / "train/b/x.JPG")
    source = ImageFolderSource(root, "train")
    assert source.description.endswith(
        f"4 images of 2 classes in {root}/train; a link that leads nowhere left out: b/x.JPG"
    )
    assert "left out" not in ImageFolderSource(root, "eval").description
    for name in ("c", "d", "e"):
        (root / "train" / name).symlink_to(tmp_path / "gone")
    assert ImageFolderSource(root, "train").description.endswith("; 4 links that lead nowhere left out: c, d, e, …")
    prepare("image_folder", str(root), str(tmp_path / "data"), under="mine")
    assert f"{root}/train; 4 links that lead nowhere left out: c, d, e, …" in caplog.text
    (root / "val/a/image0.jpg").unlink()
    (root / "val/a/image0.jpg").symlink_to(tmp_path / "gone.jpg")
    with pytest.raises(DataError, match=r"no images in .*/val: .*; a link that leads nowhere left out: a/image0.jpg"):
        ImageFolderSource(root, "train")


def test_a_file_that_vanishes(image_folder):
    root = image_folder({"train/a": 1, "val/a": 1})
    source = ImageFolderSource(root, "train")
    (root / "train/a/image0.jpg").unlink()
    with pytest.raises(DataError, match=r"cannot read .*/train/a/image0.jpg: No such file"):
        source[0]
