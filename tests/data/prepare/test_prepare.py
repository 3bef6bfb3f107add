import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow_datasets as tfds

from posmlp_jax.data.prepare import shards
from posmlp_jax.data.prepare.__main__ import run as run_prepare
from posmlp_jax.data.prepare.builder import Split
from posmlp_jax.data.prepare.prepare import prepare
from posmlp_jax.errors import DataError

pytestmark = pytest.mark.heavy

ROOT = Path(__file__).parents[3]
FOLDERS = "posmlp_jax.data.prepare.datasets.image_folder"

# Prepares a folder of images in shards of five; the first argument is at which image the process is killed, or 0.
KILLED = """
import os, signal, sys
from pathlib import Path
from posmlp_jax.data.prepare import __main__ as prepare
from posmlp_jax.data.prepare.datasets import image_folder
image_folder.PER_SHARD = 5
stop, read, count = int(sys.argv[1]), Path.read_bytes, [0]
def read_bytes(path):
    count[0] += 1
    if count[0] == stop:
        os.kill(os.getpid(), signal.{signal})
    return read(path)
Path.read_bytes = read_bytes
try:
    prepare.run(sys.argv[2:])
finally:
    print("images read:", count[0])
"""


def run(signal: str, *arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", KILLED.replace("{signal}", signal), *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def exit_code(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as stop:
        run_prepare(arguments)
    return stop.value.code


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture
def folder(image_folder):
    return image_folder({"train/a": 13, "train/b": 10, "val/b": 2})


def test_a_killed_run_goes_on(folder, tmp_path):
    arguments = ("image_folder", f"--source={folder}", "--name=mine")
    whole = run("SIGKILL", 0, *arguments, f"--data_dir={tmp_path / 'whole'}")
    assert whole.returncode == 0, whole.stderr
    assert "images read: 25" in whole.stdout
    here = f"--data_dir={tmp_path / 'killed'}"
    staging = tmp_path / "killed/mine/1.0.0.incomplete"
    assert run("SIGKILL", 13, *arguments, here).returncode == -9
    assert sorted(re.sub(r"\.[0-9a-f]{8}(?=\.partial$)", "", path.name) for path in staging.iterdir()) == [
        "mine-train.array_record-00000-of-00005",
        "mine-train.array_record-00001-of-00005",
        "mine-train.array_record-00002-of-00005.partial",
        "plan.json",
    ]
    stopped = run("SIGINT", 4, *arguments, here)
    assert stopped.returncode == 130
    assert "the same command goes on from here" in stopped.stderr
    end = run("SIGKILL", 0, *arguments, here)
    assert end.returncode == 0, end.stderr
    assert "images read: 15" in end.stdout
    assert not staging.exists()
    assert contents(tmp_path / "killed/mine/1.0.0") == contents(tmp_path / "whole/mine/1.0.0")


def test_what_is_written_can_be_read_with_tfds(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(f"{FOLDERS}.PER_SHARD", 5)
    done = prepare("image_folder", str(folder), str(tmp_path), under="mine")
    assert done == tmp_path / "mine/1.0.0"
    dataset = tfds.builder_from_directory(done)
    assert {name: split.num_examples for name, split in dataset.info.splits.items()} == {"train": 23, "validation": 2}
    assert dataset.info.splits["train"].shard_lengths == [5, 5, 5, 5, 3]
    assert dataset.info.features["label"].names == ["a", "b"]
    source = dataset.as_data_source("train", decoders={"image": tfds.decode.SkipDecoding()})
    read = {one["file_name"].decode(): (one["image"], one["label"]) for one in source}
    assert read == {
        f"train/{name}/image{i}.jpg": ((folder / f"train/{name}/image{i}.jpg").read_bytes(), label)
        for label, (name, count) in enumerate((("a", 13), ("b", 10)))
        for i in range(count)
    }
    assert [one["label"] for one in source] != sorted(one["label"] for one in source)


def test_another_source_is_refused(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(f"{FOLDERS}.PER_SHARD", 5)
    write = shards._write_shard
    monkeypatch.setattr(
        shards, "_write_shard", lambda recipe, shard, file, bar: write(recipe, shard, file, bar) or 1 / 0
    )
    (folder / "train/a/image0.jpg").rename(folder / "train/a/renamed.jpg")
    monkeypatch.setattr(shards, "_write_metadata", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    arguments = ["image_folder", f"--source={folder}", "--name=mine", f"--data_dir={tmp_path}"]
    assert exit_code(arguments) == 130
    (folder / "train/a/renamed.jpg").rename(folder / "train/a/image0.jpg")
    assert exit_code(arguments) == 2
    assert (
        "1.0.0.incomplete was begun from another source: as many images of each class, but others; give the"
        in capsys.readouterr().err
    )


def test_a_source_that_has_changed_since(folder, tmp_path, capsys):
    """It is compared with what was stored of it, and what is different is said."""
    arguments = ["image_folder", f"--source={folder}", "--name=mine", f"--data_dir={tmp_path}"]
    done = tmp_path / "mine/1.0.0"
    run_prepare(arguments)
    run_prepare(arguments)
    assert capsys.readouterr().out == f"prepared: {done}\nalready prepared: {done}\n"
    before = contents(done)

    def refused() -> str:
        assert exit_code(arguments) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert contents(done) == before
        start, _, change = captured.err.strip().partition(" was prepared from another source: ")
        assert start == f"error: {done}"
        change, _, end = change.partition("; ")
        assert end == "delete that folder to prepare it anew, or give this source another --name"
        return change

    (folder / "train/a/image0.jpg").rename(folder / "train/a/other.jpg")
    assert refused() == "as many images of each class, but others"
    (folder / "train/a/other.jpg").rename(folder / "train/a/image0.jpg")
    run_prepare(arguments)
    capsys.readouterr()
    (folder / "train/a/more.jpg").write_bytes(b"x")
    (folder / "val/b/image0.jpg").unlink()
    assert refused() == "train had 13 images of 'a' and has 14, validation had 2 images of 'b' and has 1"
    (folder / "train/b").rename(folder / "train/c")
    (folder / "val/b").rename(folder / "val/c")
    assert refused().startswith("train had 13 images of 'a' and has 14, train had 10 images of 'b' and has none, ")
    # As versions have stored it that did not count.
    plan = json.loads((done / "plan.json").read_text())
    del plan["source"]["counts"]
    (done / "plan.json").write_text(json.dumps(plan))
    before = contents(done)
    assert refused() == "it has other images"

    for text in ("{", "[]", "{}", '{"source": 1}'):
        (done / "plan.json").write_text(text)
        assert exit_code(arguments) == 2
        assert f"{done}/plan.json is damaged: delete {done} to prepare it anew" in capsys.readouterr().err


def test_a_source_that_cannot_be_compared(folder, tmp_path, capsys):
    """What tfds itself has prepared."""
    arguments = ["image_folder", f"--source={folder}", "--name=mine", f"--data_dir={tmp_path}"]
    run_prepare(arguments)
    (tmp_path / "mine/1.0.0/plan.json").unlink()
    capsys.readouterr()
    run_prepare(arguments)
    assert capsys.readouterr().out == (
        f"already prepared: {tmp_path}/mine/1.0.0; it does not say from what, so --source was not compared\n"
    )


def test_a_source_that_changes_meanwhile(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(f"{FOLDERS}._split", lambda *_: Split([lambda: ()], 23))
    with pytest.raises(DataError, match="the source of mine has 0 train images instead of 23"):
        prepare("image_folder", str(folder), str(tmp_path), under="mine")


def test_two_at_once(folder, tmp_path):
    command = [sys.executable, "-m", "posmlp_jax.data.prepare", "digits", f"--data_dir={tmp_path}"]
    both = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    for process in both:
        out, err = process.communicate()
        assert process.returncode == 0, err
        assert f"prepared: {tmp_path}/digits/1.0.0" in out
        assert "Warning" not in err
    info = tfds.builder_from_directory(tmp_path / "digits/1.0.0").info
    assert info.splits.total_num_examples == 1797


def test_already_prepared(digits_dir, capsys):
    run_prepare(["digits", f"--data_dir={digits_dir}"])
    assert capsys.readouterr().out == f"already prepared: {digits_dir}/digits/1.0.0\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digit"], "error: no builder for 'digit': did you mean 'digits'?\n"),
        (["cifar10"], "'cifar10' needs --source=cifar-10-python.tar.gz: cifar-10-python.tar.gz or .*toronto.edu"),
        (
            ["imagenet2012", "--source=/nowhere"],
            "--source=/nowhere does not exist; 'imagenet2012' is prepared from a fol",
        ),
        (["imagenet2012", "--source={dir}"], "no {dir}/ILSVRC2012_img_train.tar: give .*https://www.image-net.org"),
        (["image_folder", "--source={dir}"], "image_folder needs --name=NAME"),
        (["image_folder", "--source={dir}", "--name=cifar10"], "--name=cifar10 cannot be used"),
        (["image_folder", "--source={dir}", "--name=../x"], "--name=../x cannot be used"),
        (["image_folder", "--source={dir}", "--name=mine"], "no class folders in {dir}"),
        (["cifar10", "--source={dir}"], "holds no file data_batch_1, data_batch_1.bin or data_batch_1.png"),
        (["digits", "--data_dir=/dev/null"], "cannot prepare digits: Not a directory"),
    ],
)
def test_mistakes(tmp_path, capsys, arguments, message):
    (tmp_path / "empty").mkdir()
    arguments = [argument.replace("{dir}", str(tmp_path / "empty")) for argument in arguments]
    assert exit_code([f"--data_dir={tmp_path}", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert message.replace("{dir}", str(tmp_path / "empty")).split(".*")[0] in captured.err
    assert message.split(".*")[-1].replace("{dir}", str(tmp_path / "empty")) in captured.err


def test_full_disk(folder, tmp_path):
    limited = f"import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n{KILLED}".replace(
        "try:", "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))\ntry:"
    ).replace("{signal}", "SIGKILL")
    arguments = ["0", "image_folder", f"--source={folder}", "--name=mine", f"--data_dir={tmp_path}"]
    result = subprocess.run(
        [sys.executable, "-c", limited, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 2, result.stderr
    assert "File too large; make room and give the same command again" in result.stderr
