import json

import pytest

from posmlp_jax.data.prepare.__main__ import run as run_prepare


@pytest.fixture
def refusal(capsys):
    """Prepares something that cannot be, and returns the one line that says so."""

    def run(*arguments: object) -> str:
        with pytest.raises(SystemExit) as stop:
            run_prepare([*map(str, arguments)])
        captured = capsys.readouterr()
        assert stop.value.code == 2, captured
        assert "prepared:" not in captured.out
        *_, line = captured.err.splitlines()  # After a progress bar, if there was time for one.
        assert line.startswith("error: ")
        return line

    return run


@pytest.fixture(scope="session")
def own_json():
    """Makes COCO's JSON with a box and a polygon in each 60×40 image of some names, the ids from `first_id` on."""

    def make(names: list[str], first_id: int = 1) -> dict:
        ids = range(first_id, first_id + len(names))
        return {
            "images": [
                {"id": id, "file_name": name, "height": 40, "width": 60} for id, name in zip(ids, names, strict=True)
            ],
            "annotations": [
                {
                    "id": id,
                    "image_id": id,
                    "category_id": 2,
                    "bbox": [5, 6, 20, 30],
                    "area": 300,
                    "segmentation": [[5, 6, 25, 6, 25, 36]],
                }
                for id in ids
            ],
            "categories": [{"id": 2, "name": "größe"}],
        }

    return make


@pytest.fixture
def mine(tmp_path, picture, encoded, own_json):
    """Makes source/train.json, which `change` has worked on, and images of its names; returns prepare's arguments."""
    source = tmp_path / "source"

    def make(change=lambda content: None, names=("a.jpg", "b.jpg", "c.png")):
        for name in names:
            path = source / "train" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(picture(40, 60), "png" if name.endswith("png") else "jpeg"))
        content = own_json(list(names))
        change(content)
        (source / "train.json").write_text(json.dumps(content))
        return "coco_folder", f"--source={source}", "--name=mine", f"--data_dir={tmp_path / 'data'}"

    return make
