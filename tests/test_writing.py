"""Files that nobody finds a part of."""

import os

import pytest
from etils import epath

from posmlp_jax.paths import list_folder
from posmlp_jax.writing import PARTIAL, atomic_file, atomic_write


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
