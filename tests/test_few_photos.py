"""`benchmarks.few_photos`: what a stop and a mistake leave."""

import pytest

from benchmarks import few_photos
from posmlp_jax.errors import ConfigError


def test_photos_are_there_whole_or_not_at_all(tmp_path, monkeypatch):
    def make_photos(folder, counts, data_dir):
        (folder / "ship").mkdir(parents=True)
        (folder / "ship" / "1.jpg").write_bytes(b"")
        raise KeyboardInterrupt

    monkeypatch.setattr(few_photos, "make_photos", make_photos)
    with pytest.raises(KeyboardInterrupt):
        few_photos.main(["--classes=ship=2", f"--directory={tmp_path}"])
    assert not list((tmp_path / "ship2").iterdir())


@pytest.mark.parametrize("given", ["--seeds=a", "--seeds=", "--classes=ship"])
def test_mistakes(given, tmp_path):
    with pytest.raises(ConfigError, match="should be"):
        few_photos.main([given, f"--directory={tmp_path}/new"])
    assert not (tmp_path / "new").exists()
