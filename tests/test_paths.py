import importlib.util
import os
import pathlib

import pytest
from etils import epath

from posmlp_jax.errors import ConfigError
from posmlp_jax.paths import as_path, file_size, files_below, in_bucket, list_folder, relative_name
from posmlp_jax.writing import atomic_write


def test_as_path(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert as_path("~/runs/x") == epath.Path(tmp_path / "home/runs/x")
    assert as_path(pathlib.Path("~/x")) == epath.Path(tmp_path / "home/x")
    assert as_path("runs/x") == as_path("./runs/x/") == epath.Path(tmp_path / "runs/x")
    assert as_path("./~/x") == epath.Path(tmp_path / "~/x")
    assert as_path("a:b") == epath.Path(tmp_path / "a:b")
    for bucket in ("gs://bucket/x", "gs://bucket/x/", epath.Path("gs://bucket/x")):
        path = as_path(bucket)
        assert os.fspath(path) == "gs://bucket/x"
        assert in_bucket(path)
    assert not in_bucket(as_path("runs"))
    assert as_path(as_path("gs://bucket/x") / "y") == epath.Path("gs://bucket/x/y")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("s3://bucket/x", r"s3://bucket/x is of an unknown kind: .* gs://BUCKET/FOLDER"),
        ("https://storage.googleapis.com/bucket", "of an unknown kind"),
        ("gs://", "gs:// names no bucket"),
        ("gs:///x", "gs:///x names no bucket"),
        (pathlib.Path("gs://bucket/x"), r"gs:/bucket/x lacks a slash: give 'gs://bucket/x'"),
        ("~nobody_here/x", r"no home folder ~nobody_here; a folder of that name is ./~nobody_here/x"),
        ("/gs/bucket/x", "takes /gs for a bucket's"),
        ("/s3/data", "takes /s3 for a bucket's"),
    ],
)
def test_mistakes(given, message):
    with pytest.raises(ConfigError, match=message) as caught:
        as_path(given)
    assert "\n" not in str(caught.value)


def test_without_a_package_for_buckets(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="gs://bucket/x needs a package that is not installed: pip install gcsfs"):
        as_path("gs://bucket/x")


@pytest.fixture(params=["disk", "bucket"])
def folder(request, tmp_path):
    return epath.Path(tmp_path) if request.param == "disk" else request.getfixturevalue("bucket") / tmp_path.name


def test_files(folder):
    atomic_write(folder / "b.txt", "two\n")
    atomic_write(folder / "a.txt", b"one")
    atomic_write(folder / "b.txt", "three\n")
    (folder / "sub").mkdir(exist_ok=True)
    atomic_write(folder / "sub/.c", "")
    assert list_folder(folder) == (["sub"], ["a.txt", "b.txt"])
    assert list_folder(folder / "sub") == ([], [".c"])
    assert files_below(folder) == [folder / name for name in ("a.txt", "b.txt", "sub/.c")]
    assert (folder / "b.txt").read_text() == "three\n"
    assert file_size(folder / "b.txt") == 6
    assert relative_name(folder / "sub/.c", folder) == "sub/.c"
    # Another program's file, which a list of the folder that was kept would not have.
    assert list_folder(folder)[1] == ["a.txt", "b.txt"]
    (folder / "a.txt").unlink()
    assert list_folder(folder) == (["sub"], ["b.txt"])


def test_links_and_strange_names(tmp_path):
    """Links count as what they lead to; names that epath's own lists leave out or take for patterns are names."""
    folder = tmp_path / "[x] *"
    (folder / "real~").mkdir(parents=True)
    (folder / "file~").write_text("")
    (folder / "to_folder").symlink_to("real~")
    (folder / "to_file").symlink_to("file~")
    (folder / "to_nothing").symlink_to("gone")
    assert list_folder(as_path(folder)) == (["real~", "to_folder"], ["file~", "to_file"])
