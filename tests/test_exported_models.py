"""Exported files, in a process that has only jax, give what the model gives."""

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace

import jax
import naive
import numpy as np
import pytest
import runs
from etils import epath
from helpers import outputs, randomized
from tiny_detectors import IMAGES, see, tiny

from posmlp_jax import create_model, export, from_pretrained
from posmlp_jax.checkpoints.pretrained import open_pretrained
from posmlp_jax.errors import PosMLPError

pytestmark = pytest.mark.heavy

# Without this package: what a user of the file does.
CONSUMER = """
import sys
import jax, jax.export, numpy as np

exported = jax.export.deserialize(open(sys.argv[1], "rb").read())
images = np.load(sys.argv[2])
call = jax.jit(exported.call)
results = {}
for batch in (1, 3):
    for index, output in enumerate(jax.tree.leaves(call(images[:batch]))):
        results[f"{batch}_{index}"] = np.asarray(output)
np.savez(sys.argv[3], platforms=exported.platforms, **results)
assert not {"posmlp_jax", "flax"} & {module.split(".")[0] for module in sys.modules}
"""


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A trained model with class names: 16×16 digits, after three steps."""
    path = tmp_path_factory.mktemp("export") / "run"
    assert runs.run(*runs.TINY, "--config.data.name=digits", f"--workdir={path}").code == 0
    return path


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).standard_normal((3, 16, 16, 3)).astype(np.float32)


def consume(file, images, folder) -> dict[str, np.ndarray]:
    """What another process gets from a file, by '<batch>_<output>', and the file's platforms."""
    (folder / "consumer.py").write_text(CONSUMER)
    np.save(folder / "images.npy", images)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "consumer.py", file, "images.npy", "results.npz"]
    subprocess.run(command, cwd=folder, env=environment, check=True)
    return dict(np.load(folder / "results.npz"))


def test_the_file_is_the_model(workdir, images, tmp_path):
    """Batches of 1 and 3, from the same file, which one process wrote and another has read."""
    output = tmp_path / "digits.stablehlo"
    process = runs.Process("posmlp_jax.export", f"--checkpoint={workdir}", f"--output={output}", program="-m")
    assert process.end() == 0, process.errors
    _, logits = outputs(from_pretrained(workdir), images)
    results = consume(output, images, tmp_path)
    assert results.pop("platforms").tolist() == ["cpu", "cuda", "tpu"]
    assert sorted(results) == ["1_0", "3_0"]
    naive.assert_close(results["3_0"], logits, 1e-6)
    naive.assert_close(results["1_0"], logits[:1], 1e-6)

    pretrained = open_pretrained(workdir)
    about = json.loads((tmp_path / "digits.stablehlo.json").read_text())
    assert about["checkpoint"] == pretrained.description
    assert about["class_names"] == list("0123456789")
    assert about["input"]["shape"] == ["batch", 16, 16, 3]
    assert about["outputs"] == [{"shape": ["batch", 10], "dtype": "float32"}]
    for field in ("mean", "std"):
        assert about["input"][field] == list(pretrained.data[field])
        assert str(list(pretrained.data[field])) in process.output
    assert sorted(path.name for path in tmp_path.glob("digits*")) == ["digits.stablehlo", "digits.stablehlo.json"]


def test_features(workdir, images, tmp_path):
    output = tmp_path / "features"
    export.main([f"--checkpoint={workdir}", f"--output={output}", "--features", "--platforms=cpu"])
    maps, _ = outputs(from_pretrained(workdir), images)
    results = consume(output, images, tmp_path)
    assert results.pop("platforms").tolist() == ["cpu"]
    assert len(results) == 2 * len(maps)
    for index, expected in enumerate(maps):
        naive.assert_close(results[f"3_{index}"], expected, 1e-6)
        naive.assert_close(results[f"1_{index}"], expected[:1], 1e-6)


def test_a_video_model(tmp_path):
    """Clips of the model's length, any number of them; a symbolic batch goes through the temporal gates."""
    fields = {"num_frames": 3, "image_size": 16, "num_classes": 4, "widths": (8,), "depths": (1,), "windows": (2,)}
    model = randomized(lambda: create_model("posmlp_video_s", **fields, groups=(2,)))
    runs.save_model(tmp_path / "run", "posmlp_video_s", model)
    output = tmp_path / "video.stablehlo"
    export.main([f"--checkpoint={tmp_path / 'run'}", f"--output={output}"])
    clips = np.random.default_rng(0).standard_normal((3, 3, 16, 16, 3)).astype(np.float32)
    results = consume(output, clips, tmp_path)
    expected = jax.jit(lambda clips: model(clips))(clips)
    naive.assert_close(results["3_0"], expected, 1e-6)
    naive.assert_close(results["1_0"], expected[:1], 1e-6)
    about = json.loads((tmp_path / "video.stablehlo.json").read_text())
    assert about["input"]["shape"] == ["batch", 3, 16, 16, 3]
    assert about["input"]["sampling"] == "segment"
    assert (about["input"]["fps"], about["input"]["frame_side"]) == (0, 0)


def test_a_detector(tmp_path, capsys):
    """Of images of another size than the array's the rest is padding, in which nothing is found."""
    name = "mask_rcnn_posmlp_t"
    runs.save_model(tmp_path / "run", name, tiny(name, image_size=IMAGES.shape[1:3]), ("cat", "dog", "emu"), (3, 7, 9))
    output = tmp_path / "detector.stablehlo"
    export.main([f"--checkpoint={tmp_path / 'run'}", f"--output={output}"])
    sizes = np.float32([[128, 256], [90, 200]])
    exported = export.load_exported(output)
    assert set(exported.platforms) == {"cpu", "cuda", "tpu"}
    found, expected = jax.jit(exported.call)(IMAGES, sizes), see(tiny(name), sizes).found._asdict()
    assert found.keys() == expected.keys()
    assert found["valid"].all(axis=0).any()
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-5, atol=1e-4)
    about = json.loads(output.with_name(output.name + ".json").read_text())
    assert about["input"]["shape"] == ["batch", 128, 256, 3]
    assert about["input"]["sizes"]["shape"] == ["batch", 2]
    assert "to just fit into height by width" in about["input"]["crop"]
    assert "eval_crop" not in about["input"]
    assert about["class_ids"] == [3, 7, 9]
    names = {each["name"]: each["shape"] for each in about["outputs"]}
    assert names == {key: ["batch", *value.shape[1:]] for key, value in expected.items()}
    assert "scores float32 [batch, 20]" in capsys.readouterr().out


def test_class_names_of_any_script_and_such_as_are_no_utf8(workdir, tmp_path):
    names = (os.fsdecode(b"caf\xe9"), "鸟", *"23456789")
    export.save_exported(replace(open_pretrained(workdir), class_names=names), tmp_path / "model", platforms=["cpu"])
    written = (tmp_path / "model.json").read_bytes()
    assert json.loads(written)["class_names"] == list(names)
    assert '"鸟"' in written.decode()


def test_compute_type(workdir, images, tmp_path):
    """bfloat16 inside, with float32 outside; nearly the same logits, and not quite."""
    about = export.save_exported(open_pretrained(workdir), tmp_path / "model", dtype="bfloat16")
    assert about["compute_dtype"] == "bfloat16"
    result = jax.jit(export.load_exported(tmp_path / "model").call)(images)
    _, logits = outputs(from_pretrained(workdir), images)
    error = np.abs(np.asarray(result - logits)).max() / np.abs(logits).max()
    assert result.dtype == np.float32
    assert 1e-5 < error < 0.05


def test_the_file_holds_folded_relations(workdir, tmp_path):
    """No exponential, which in this model only the relations' softmax has."""
    folded = export.export_model(from_pretrained(workdir)).mlir_module()
    assert "stablehlo.exponential" not in folded
    assert "stablehlo.exponential" in jax.jit(from_pretrained(workdir)).lower(np.zeros((1, 16, 16, 3), "f")).as_text()


@pytest.mark.parametrize("step", ["3", "latest"])
def test_which_checkpoint(workdir, tmp_path, step):
    export.main([f"--checkpoint={workdir}", f"--output={tmp_path}/model", f"--step={step}"])
    assert "step 3 " in json.loads((tmp_path / "model.json").read_text())["checkpoint"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checkpoint={folder}/none"], "there is no checkpoint in"),
        (["--step=7"], "there is no checkpoint of step 7"),
        (["--step=newest"], "should be latest, best or a step"),
        (["--platforms=cpu,gpu"], "unknown platform 'gpu'; known: cpu, cuda, tpu"),
        (["--platforms="], "which platforms"),
        (["--dtype=float16"], "dtype 'float16' is not one to export; did you mean 'bfloat16'"),
        (["--output={folder}/there"], "there is there already"),
        (["--output={folder}/described"], "described.json is there already"),
        (["--output={folder}"], "is a folder"),
        (["--output={folder}/none/model"], "there is no folder .*none"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_mistakes(workdir, tmp_path, arguments, message):
    (tmp_path / "there").touch()
    (tmp_path / "described.json").touch()
    arguments = [argument.format(folder=tmp_path) for argument in arguments]
    with pytest.raises(PosMLPError, match=message):
        export.main([f"--checkpoint={workdir}", f"--output={tmp_path}/model", *arguments])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["described.json", "there"]


def test_a_mistake_is_one_line_and_exit_code_2(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        export.run([f"--checkpoint={tmp_path}/none", f"--output={tmp_path}/model"])
    assert end.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("failure", ["full disk", "interrupt"])
def test_a_failed_write_leaves_nothing(workdir, tmp_path, monkeypatch, failure):
    error = OSError(errno.ENOSPC, "No space left on device") if failure == "full disk" else KeyboardInterrupt()

    def half(path, data):
        with path.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise error

    monkeypatch.setattr(type(epath.Path(tmp_path)), "write_bytes", half)
    expected = PosMLPError if failure == "full disk" else KeyboardInterrupt
    with pytest.raises(expected, match="No space left" if failure == "full disk" else None):
        export.save_exported(open_pretrained(workdir), tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_files_that_are_no_models(workdir, tmp_path):
    """Nothing there, something else, and a download that was cut off."""
    whole = export.export_model(from_pretrained(workdir), platforms=["cpu"]).serialize()
    with pytest.raises(PosMLPError, match="No such file"):
        export.load_exported(tmp_path / "none")
    for content in (b"", b"not a model" * 100, whole[: len(whole) // 2]):
        (tmp_path / "model").write_bytes(content)
        with pytest.raises(PosMLPError, match="is no exported model"):
            export.load_exported(tmp_path / "model")
