import shutil

import numpy as np
import pytest
from PIL import Image

from posmlp_jax.data.fingerprint import changes, fingerprint
from posmlp_jax.data.sources.image_folder import ImageFolderSource
from posmlp_jax.data.sources.subset import stratified_subset
from posmlp_jax.data.sources.tfds_layout import PreparedSource, find_prepared


@pytest.fixture
def folder(tmp_path):
    """Three classes with 4, 5 and 6 images."""
    for label, name in enumerate(("cat", "dog", "owl")):
        (tmp_path / name).mkdir()
        for index in range(4 + label):
            Image.fromarray(np.full((4, 4, 3), index, np.uint8)).save(tmp_path / name / f"{index}.png")
    return tmp_path


def of(folder, **options):
    return fingerprint(ImageFolderSource(folder, "train", holdout=0.3, **options))


def test_a_folder_is_itself_wherever_it_lies(folder, tmp_path_factory):
    before = of(folder)
    assert before["counts"] == [3, 3, 4]
    moved = folder.rename(tmp_path_factory.mktemp("other") / "place")
    assert of(moved) == before
    assert not list(changes(before, of(moved)))


def test_what_has_changed_is_said(folder):
    before = of(folder)
    owl = (folder / "owl" / "1.png").read_bytes()
    for index in range(10, 16):
        (folder / "owl" / f"{index}.png").write_bytes(owl)
    found = list(changes(before, of(folder)))
    assert found == ["10 examples -> 14", "'owl' 4 -> 8"]
    (folder / "cat").rename(folder / "cow")
    assert list(changes(before, of(folder))) == [
        "10 examples -> 14",
        "class 'cat' is gone",
        "class 'cow' is new",
        "'owl' 4 -> 8",
    ]


def test_other_files_of_the_same_number_are_others(folder):
    before = of(folder)
    for path in sorted((folder / "owl").iterdir()):
        path.write_bytes(path.read_bytes() + b"\0")
    assert list(changes(before, of(folder))) == [
        "as many examples of each class, but other files, by their names or sizes"
    ]


def test_many_changes_are_counted(folder):
    before = of(folder)
    now = before | {"classes": [f"{index}" for index in range(9)], "counts": None}
    assert list(changes(before, now))[-2:] == ["class '2' is new", "6 more"]


def test_of_a_prepared_data_set_version_and_files_count(digits_dir, tmp_path):
    shutil.copytree(digits_dir, tmp_path, dirs_exist_ok=True)  # Labels that are read are kept beside it.
    found = find_prepared("digits", str(tmp_path))
    train = fingerprint(PreparedSource(found, "train"))
    assert train == fingerprint(PreparedSource(found, "train"))
    assert train["examples"] == sum(train["counts"])
    parts = [fingerprint(PreparedSource(found, split)) for split in ("test", "train[:10%]", "train[10%:20%]")]
    assert len({part["files"] for part in [train, *parts]}) == 4
    half = fingerprint(stratified_subset(PreparedSource(found, "train"), 0.5))
    assert next(changes(train, half)) == f"{train['examples']} examples -> {half['examples']}"
