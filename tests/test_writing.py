"""Files that nobody finds a part of."""

import os

import pytest
from etils import epath

from posmlp_jax.errors import ConfigError
from posmlp_jax.paths import list_folder
from posmlp_jax.writing import PARTIAL, atomic_file, atomic_write, check_result, write_result


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    atomic_write(epath.Path(tmp_path) / "a", "before")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        atomic_write(epath.Path(tmp_path) / "a", "after")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "before"


def test_a_file_is_written_beside_its_place(tmp_path):
    """As by a library that writes files itself."""
    file = epath.Path(tmp_path) / "a"
    atomic_write(file, "before")
    with atomic_file(file) as partial:
        partial.write_text("aft")
        assert partial.parent == file.parent
        assert partial.name.endswith(PARTIAL)
        assert file.read_text() == "before"
        partial.write_text("after")
    assert file.read_text() == "after"

    def stopped() -> None:
        with atomic_file(file) as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert list_folder(file.parent) == ([], ["a"])
    assert file.read_text() == "after"


def test_a_file_for_a_bucket_is_written_on_this_machine(bucket):
    file = bucket / "test_writing" / "a"
    with atomic_file(file) as partial:
        os.stat(partial.parent)
        partial.write_bytes(b"one")
        assert not file.exists()
    assert file.read_bytes() == b"one"
    assert not partial.parent.exists()
    with pytest.raises(ZeroDivisionError), atomic_file(file) as partial:
        raise ZeroDivisionError
    assert file.read_bytes() == b"one"


def test_a_result_replaces_files_alone(tmp_path):
    """What is renamed to /dev/null by an administrator takes its place, for all programs."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "to_pipe").symlink_to("pipe")
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.iterdir())
    for name, what in (("pipe", "a device or a pipe"), ("to_pipe", "a device or a pipe"), ("folder", "a folder")):
        for refuse in (check_result, lambda path: write_result(path, "page")):
            with pytest.raises(ConfigError, match=f"cannot write .*{name}: it is {what}"):
                refuse(tmp_path / name)
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "pipe").is_fifo()


def test_a_result_goes_where_a_link_leads(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "page").symlink_to("there/page")
    for content in ("new", "newer"):
        write_result(tmp_path / "page", content)
        assert (tmp_path / "page").is_symlink()
        assert (tmp_path / "there/page").read_text() == content


def test_a_result_replaces_nothing_that_it_is_made_of(tmp_path):
    photo, link, other = (tmp_path / name for name in ("photo.png", "link.png", "other.png"))
    photo.write_text("a photo")
    link.symlink_to(photo)
    for path in (photo, link):
        with pytest.raises(ConfigError, match="it is read for this, and would be lost"):
            check_result(path, [other, photo])
    check_result(other, [photo, "gs://bucket/photo.png", tmp_path / "none"])
