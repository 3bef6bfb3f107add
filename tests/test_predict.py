"""Predictions on image files against evaluation, a float64 softmax, and the program as people call it."""

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import randomized
from PIL import Image
from rich.cells import cell_len
from runs import ROOT, Process

from posmlp_jax.checkpoints.state import split_model
from posmlp_jax.checkpoints.store import Checkpoints
from posmlp_jax.data.decoding import examples
from posmlp_jax.data.sources.class_folders import IMAGES, VIDEOS
from posmlp_jax.data.sources.files import find_files
from posmlp_jax.errors import PosMLPError
from posmlp_jax.models.registry import Keys, NamedModel, build, model_config
from posmlp_jax.predict import loading, predict
from posmlp_jax.predict.__main__ import main
from posmlp_jax.predict.picture import draw_predictions
from posmlp_jax.tasks.classification import classifier
from posmlp_jax.tasks.classification.prediction import ClassProbability, Prediction
from posmlp_jax.tasks.classification.table import PredictionTable
from posmlp_jax.terminal import printable
from posmlp_jax.training import default_config, evaluate, open_pretrained
from posmlp_jax.training.config import plain

pytestmark = pytest.mark.heavy

CLASSES = ("cat", "dog", "emu")
SIZE = (16, 24)
MODEL = {
    "image_size": SIZE,
    "widths": (8, 16),
    "depths": (1, 1),
    "expansions": (2, 2),
    "windows": (4, 2),
    "groups": (2, 4),
    "drop_path": 0.2,
}


def write_image(path: Path, seed: int, size: tuple[int, int], **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    # Smooth, so that crops and sizes matter less than which image it is, but not nothing.
    small = random.integers(0, 256, (5, 5, 3), dtype=np.uint8)
    Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC).save(path, **options)


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """A folder of images of many sizes for training and evaluation."""
    folder = tmp_path_factory.mktemp("images")
    for number, name in enumerate(CLASSES):
        write_image(folder / "train" / name / "only.png", 100 + number, (20, 20))
        for index in range(4 + number):
            size = [(40, 30), (18, 60), (16, 24), (90, 91)][index % 4]
            write_image(folder / "val" / name / f"{index}.{['png', 'jpg'][index % 2]}", 10 * number + index, size)
    exif = Image.Exif()
    exif[0x0112] = 6
    write_image(folder / "val" / "dog" / "turned.jpg", 77, (60, 20), exif=exif)
    return folder


@pytest.fixture(scope="module")
def config(images):
    config = default_config("posmlp_t")
    config.model.update(MODEL)
    config.data.update(name="image_folder", data_dir=str(images), eval_split="val", eval_crop=0.8, threads=1)
    config.data.update(mean=(0.3, 0.5, 0.4), std=(0.2, 0.3, 0.1))
    config.batch_size, config.devices, config.ema_decay = 4, 1, 0.0
    return config


@pytest.fixture(scope="module")
def workdir(config, tmp_path_factory) -> Path:
    """A checkpoint of random weights."""
    folder = tmp_path_factory.mktemp("run")
    model = model_config("posmlp_t", num_classes=len(CLASSES), **MODEL)
    weights = split_model(randomized(lambda: build(model, Keys(0)), scale=0.6))[1]
    checkpoints = Checkpoints(folder, keep=1)
    checkpoints.save_weights(weights, plain(config), NamedModel("posmlp_t", model), CLASSES)
    checkpoints.close()
    return folder


@pytest.fixture(scope="module")
def pretrained(workdir):
    return open_pretrained(workdir)


def shares(prediction: Prediction) -> np.ndarray:
    """The probabilities in the order of the logits."""
    return np.array([each.probability for each in sorted(prediction.classes, key=lambda each: each.index)])


def test_agrees_with_evaluation(pretrained, config, workdir, images):
    counted = evaluate(config, workdir)["eval"]
    predictions = list(predict(pretrained, images / "val", top_k=3, batch_size=4))
    labels = [CLASSES.index(Path(prediction.file).parent.name) for prediction in predictions]
    assert len(predictions) == counted["count"] == 16
    chosen = np.array([prediction.classes[0].index for prediction in predictions])
    assert len(set(chosen.tolist())) > 1  # The weights tell the images apart.
    assert np.mean(chosen == labels) == counted["top1"]
    losses = [-np.log(shares(one)[label]) for one, label in zip(predictions, labels, strict=True)]
    np.testing.assert_allclose(np.mean(losses), counted["loss"], rtol=1e-5)


def test_probabilities_are_the_softmax_of_the_logits(pretrained, tmp_path):
    pretrained = replace(pretrained, data=dict(pretrained.data, eval_crop=1.0))  # No pixel is resized then.
    files = [tmp_path / f"{seed}.png" for seed in range(5)]
    for seed, file in enumerate(files):
        write_image(file, seed, SIZE)
    pixels = np.stack([np.asarray(Image.open(file)) for file in files]).astype(np.float64) / 255
    normalized = (pixels - [0.3, 0.5, 0.4]) / [0.2, 0.3, 0.1]
    logits = np.asarray(pretrained.model()(jnp.asarray(normalized, jnp.float32)), np.float64)
    expected = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    for batch_size in (2, 32):
        predictions = list(predict(pretrained, files, batch_size=batch_size))
        assert [prediction.file for prediction in predictions] == list(map(str, files))
        np.testing.assert_allclose([shares(one) for one in predictions], expected, rtol=1e-5)
    order = [[each.index for each in prediction.classes] for prediction in predictions]
    np.testing.assert_array_equal(order, np.argsort(-expected, axis=-1))
    assert [each.name for each in predictions[0].classes] == [CLASSES[index] for index in order[0]]
    first = next(predict(pretrained, files, top_k=1))
    assert first.classes == predictions[0].classes[:1]


def test_whole_images_are_laid_into_canvases(pretrained, tmp_path, monkeypatch):
    """Each as it would be alone, in the files' order, whichever canvas is full first; one program a canvas."""
    canvases = (SIZE, (24, 16))
    pretrained = replace(pretrained, data=dict(pretrained.data, crop="fit", canvases=canvases))
    sizes = [(16, 24)] * 4 + [(48, 30)] + [(8, 12), (16, 20), (32, 48)] * 5 + [(24, 16), (20, 16)] * 3
    for index, size in enumerate(sizes):
        write_image(tmp_path / f"{index:02}.png", index, size)
    (tmp_path / "07.png").write_bytes(b"nothing")
    shapes, normalize = [], classifier.normalize_images
    monkeypatch.setattr(classifier, "normalize_images", lambda x, *rest: shapes.append(x.shape) or normalize(x, *rest))
    predictions = list(predict(pretrained, tmp_path, batch_size=4))
    assert [Path(one.file).name for one in predictions] == [f"{index:02}.png" for index in range(len(sizes))]
    assert sorted(shapes) == [(4, *SIZE, 3), (4, 24, 16, 3)]
    assert predictions[7].error.startswith("not a JPEG")
    for index, (one, size) in enumerate(zip(predictions, sizes, strict=True)):
        if index == 7:
            continue
        canvas = canvases[size[0] > size[1]]
        scale = min(canvas[0] / size[0], canvas[1] / size[1])
        assert one.size == size
        assert one.fitted == (int(size[0] * scale + 0.5), int(size[1] * scale + 0.5))
        if scale == 1 or index == 4:
            laid = np.zeros((*canvas, 3), np.uint8)
            image = np.asarray(Image.open(one.file))
            image = image if scale == 1 else cv2.resize(image, one.fitted[::-1], interpolation=cv2.INTER_AREA)
            laid[: one.fitted[0], : one.fitted[1]] = image
            normalized = (laid[None] / 255 - [0.3, 0.5, 0.4]) / [0.2, 0.3, 0.1]
            logits = np.asarray(pretrained.model()(jnp.asarray(normalized, jnp.float32)), np.float64)[0]
            np.testing.assert_allclose(shares(one), np.exp(logits) / np.exp(logits).sum(), rtol=1e-4)


def test_one_shape_is_compiled_and_few_images_are_in_memory(pretrained, tmp_path, monkeypatch):
    for index in range(101):
        write_image(tmp_path / f"{index:03}.png", index, SIZE)
    shapes, read = [], []
    monkeypatch.setattr(loading, "_THREADS", 2)
    normalize, decode = classifier.normalize_images, examples.decode
    monkeypatch.setattr(classifier, "normalize_images", lambda x, *rest: shapes.append(x.shape) or normalize(x, *rest))
    monkeypatch.setattr(examples, "decode", lambda *data: read.append(1) or decode(*data))
    threads = threading.active_count()
    predictions = predict(pretrained, tmp_path, batch_size=4)
    next(predictions)
    # The batch that was read, the next, and what is read ahead of it.
    assert len(read) <= 4 + 4 + 2 * 4 + 2
    for _ in range(50):
        next(predictions)
    assert len(read) <= 51 + 20
    predictions.close()
    assert threading.active_count() == threads
    assert shapes == [(4, *SIZE, 3)]
    # 33 images by 32 are two batches of 17, not one of 32 and one of 1.
    assert len(list(predict(pretrained, sorted(tmp_path.iterdir())[:33], batch_size=32))) == 33
    assert shapes[1:] == [(17, *SIZE, 3)]


def test_classes_without_names_are_numbers(pretrained, images):
    unnamed = replace(pretrained, class_names=None)
    prediction = next(predict(unnamed, images / "val" / "cat", top_k=100))
    assert sorted(each.name for each in prediction.classes) == ["class 0", "class 1", "class 2"]
    more = replace(pretrained, class_names=CLASSES[:2])
    assert {each.name for each in next(predict(more, images / "val")).classes} == {"cat", "dog", "class 2"}


def test_broken_files_keep_their_place(pretrained, images, tmp_path):
    good = images / "val" / "cat" / "0.png"
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:60])
    (tmp_path / "text.jpg").write_text("hello")
    predictions = list(predict(pretrained, [tmp_path, good], batch_size=2))
    assert [Path(one.file).name for one in predictions] == ["cut.png", "empty.jpg", "text.jpg", "0.png"]
    assert [one.error is None for one in predictions] == [False, False, False, True]
    assert predictions[1].error == "the file is empty"
    assert not any(one.classes for one in predictions[:3])
    (alone,) = predict(pretrained, good)
    np.testing.assert_allclose(shares(predictions[3]), shares(alone), rtol=1e-5)


def test_weights_that_are_no_numbers(pretrained, images):
    diverged = replace(pretrained)
    # Where weights are kept once they are read.
    vars(diverged)["weights"] = jax.tree.map(lambda leaf: leaf * jnp.nan, pretrained.weights)
    with pytest.raises(PosMLPError, match=r"no finite numbers for .*0\.png: its training diverged"):
        next(predict(diverged, images / "val" / "cat"))


def test_a_model_without_a_head(pretrained, images):
    headless = replace(pretrained, config=pretrained.config.replace(num_classes=0))
    with pytest.raises(PosMLPError, match="no head"):
        predict(headless, images)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Files whose order, suffixes and links matter."""
    monkeypatch.chdir(tmp_path)
    for name in (
        "b.png",
        "a.JPG",
        "a/z.webp",
        "a/b/y.jpeg",
        "a.txt",
        ".hidden.png",
        ".cache/x.png",
        "c[1].png",
        "d/é.png",
    ):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    Path("a/b/circle").symlink_to(tmp_path / "a")
    Path("d/gone.png").symlink_to("nowhere")
    return tmp_path


def test_find_images(files):
    # The link to nowhere too: whoever reads it says that it is broken.
    everything = ["a/b/y.jpeg", "a/z.webp", "a.JPG", "b.png", "c[1].png", "d/gone.png", "d/é.png"]
    assert find_files(".", IMAGES) == [f"./{name}" for name in everything]
    assert find_files(["b.png", "a", "*", "b.png", str(files / "b.png"), "./b.png"], IMAGES) == [
        *("b.png", "a/b/y.jpeg", "a/z.webp", "a.JPG", "c[1].png", "d/gone.png", "d/é.png")
    ]
    assert find_files("**/*.png", IMAGES) == ["b.png", "c[1].png", "d/gone.png", "d/é.png"]
    assert find_files(["[ab].*"], IMAGES) == ["a.JPG", "b.png"]
    # A file's own name goes before the pattern that it also is, and any suffix will do where a file is named.
    assert find_files(["c[1].png", "a.txt", ".hidden.png", ".cache"], IMAGES) == [
        *("c[1].png", "a.txt", ".hidden.png", ".cache/x.png")
    ]
    Path("e.MP4").touch()
    Path("d/f.webm").touch()
    assert find_files([".", "b.png"], VIDEOS) == ["./d/f.webm", "./e.MP4", "b.png"]
    assert find_files("*/*", VIDEOS) == ["d/f.webm"]
    assert find_files(files / "a", IMAGES) == [str(files / "a/b/y.jpeg"), str(files / "a/z.webp")]


def test_find_images_at_home(files, monkeypatch):
    monkeypatch.setenv("HOME", str(files))
    assert find_files(["~/b.png", "~/a"], IMAGES) == [
        str(files / "b.png"),
        str(files / "a/b/y.jpeg"),
        str(files / "a/z.webp"),
    ]
    Path("~").mkdir()
    Path("~/own.png").touch()
    assert find_files("~", IMAGES) == ["~/own.png"]


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ("e.png", "there is no file or folder 'e.png'"),
        (["b.png", "*.gif"], "no images (.jpg, .jpeg, .png, .webp) for the pattern '*.gif'"),
        ("*.txt", "no images (.jpg, .jpeg, .png, .webp) for the pattern '*.txt'"),
        ("empty", "no images (.jpg, .jpeg, .png, .webp) in empty or its sub-folders"),
        ("films", "in films or its sub-folders; there are videos, but the model takes images"),
        ("*/x.*", "for the pattern '*/x.*'; there are videos, but the model takes images"),
        ([], "no images are given"),
        ("x" * 5000, "there is no file or folder 'xxx"),
    ],
)
def test_find_images_mistakes(files, paths, message):
    Path("empty").mkdir()
    Path("films").mkdir()
    Path("films/x.avi").touch()
    with pytest.raises(PosMLPError) as mistake:
        find_files(paths, IMAGES)
    assert message in str(mistake.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{images}"], "the following arguments are required: --checkpoint"),
        (["--checkpoint={run}"], "the following arguments are required: FILES"),
        (["--checkpoint={run}", "{images}", "--output=jsn"], "unknown output 'jsn'; did you mean 'json'?"),
        (["--checkpoint={run}", "{images}", "--top-k=0"], "top_k is 0, and should be 1 or more"),
        (["--checkpoint={run}", "{images}", "--top-k=two"], "argument --top-k: invalid int value: 'two'"),
        (["--checkpoint={run}", "{images}", "--batch_size", "-3"], "batch_size is -3, and should be 1 or more"),
        (["--checkpoint={run}", "{images}", "--top=3"], "unrecognized arguments: --top=3"),
        (["--checkpoint=/nowhere", "{images}"], "there is no checkpoint in /nowhere"),
        (["--checkpoint={images}/train/cat/only.png", "{images}"], "only.png is a file"),
        (["--checkpoint={run}/checkpoints/7", "{images}"], "there is no checkpoint of step 7"),
        (
            ["--checkpoint={run}", "{images}", "--picture={images}/train/cat/only.png"],
            "only.png: it is read for this, and would be lost",
        ),
        (["--checkpoint={run}", "{images}", "/nowhere.png"], "there is no file or folder '/nowhere.png'"),
    ],
)
def test_mistakes(arguments, message, workdir, images, capsys):
    with pytest.raises(PosMLPError) as mistake:
        main([argument.format(run=workdir, images=images) for argument in arguments])
    assert message in str(mistake.value)
    assert "\n" not in str(mistake.value)
    assert capsys.readouterr() == ("", "")


def start(*arguments, **environment) -> Process:
    return Process("posmlp_jax.predict", *map(str, arguments), program="-m", **environment)


def test_program_writes_json_lines_and_names_what_is_broken(pretrained, workdir, images, tmp_path):
    (tmp_path / "empty\n.png").touch()
    odd = tmp_path / os.fsdecode(b"caf\xe9 \xc3\xa9.png")
    odd.write_bytes((images / "val" / "cat" / "0.png").read_bytes())
    process = start(
        f"--checkpoint={workdir}", tmp_path, "--top-k", 2, f"{images}/val/*", "--output=json", "--batch_size=5"
    )
    assert process.end() == 1, process.errors
    assert process.error_lines == [
        f"using the {pretrained.choice}",
        f"cannot read {tmp_path}/empty\\n.png: the file is empty",
        "1 of 18 images could not be read",
    ]
    lines = [json.loads(line) for line in process.lines]
    expected = [one for one in predict(pretrained, [odd, images / "val"], top_k=2) if one.error is None]
    assert [line["file"] for line in lines] == [one.file for one in expected]
    for line, one in zip(lines, expected, strict=True):
        assert line.keys() == {"file", "predictions"}
        assert [(each["class"], each["index"]) for each in line["predictions"]] == [
            (each.name, each.index) for each in one.classes
        ]
        np.testing.assert_allclose(
            [each["probability"] for each in line["predictions"]],
            [each.probability for each in one.classes],
            rtol=1e-5,
        )


def test_main_prints_a_table(pretrained, workdir, images, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    files = [str(images / "val" / "cat" / name) for name in ("0.png", "2.png")]
    assert main([f"--checkpoint={workdir}", files[0], "--top-k=2", files[1]]) == 0
    output, errors = capsys.readouterr()
    assert errors == f"using the {pretrained.choice}\n"
    rows = ["file probability class"]
    for one in predict(pretrained, files, top_k=2):
        first, second = (f"{100 * each.probability:.2f} % {each.name}" for each in one.classes)
        rows += [f"{one.file} {first}", second]
    assert [" ".join(line.split()) for line in output.splitlines()] == rows


@pytest.fixture
def waiting(workdir, images, tmp_path):
    """The program after its first line, in the middle of reading an image, and what lets it go on."""
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    first = tmp_path / "é.png"
    first.write_bytes((images / "val" / "cat" / "0.png").read_bytes())
    arguments = [first, images / "val" / "cat" / "1.jpg", pipe, first, "--top-k=1", "--batch_size=1"]
    process = start(f"--checkpoint={workdir}", *arguments, PYTHONIOENCODING="ascii", COLUMNS="200")
    process.wait_until(lambda: len(process.lines) == 2, seconds=60)
    return process, lambda: pipe.write_bytes(b"")


def test_program_stopped_from_the_keyboard(waiting, pretrained):
    process, go_on = waiting
    assert process.lines[0].split() == ["file", "probability", "class"]
    assert process.lines[1].split()[0].endswith("/\\xe9.png")
    process.send(signal.SIGINT)
    go_on()
    assert process.end() == 130, process.errors
    assert process.error_lines == [f"using the {pretrained.choice}", "stopped"]


def test_program_whose_reader_has_gone(pretrained, workdir, images):
    arguments = f"--checkpoint={workdir} {images} --top-k=1 --batch_size=1 --output=json"
    done = subprocess.run(
        [
            "bash",
            "-o",
            "pipefail",
            "-c",
            # The shell itself reads: a program of its own would take longer to end than what is left to predict.
            f"{sys.executable} -m posmlp_jax.predict {arguments} | {{ read -r line; }}",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 141
    assert done.stderr == f"using the {pretrained.choice}\n"


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (3, 1), (6, 2), (9, 2)])
def test_a_picture_of_many_images_is_no_strip(pretrained, images, count, columns):
    (one,) = predict(pretrained, images / "val" / "cat" / "0.png", top_k=2)
    figure = draw_predictions(pretrained, [replace(one, classes=one.classes[:2])] * count)
    places = [axes.get_position() for axes in figure.axes]
    # In the order of the files, each beside or below the one before it, and within the figure.
    for number, place in enumerate(places):
        assert place.x0 == pytest.approx((number % columns) / columns)
        assert place.x1 - place.x0 == pytest.approx(1 / columns)
        assert place.y1 == pytest.approx(places[number - number % columns].y1)
        assert number < columns or place.y1 == pytest.approx(places[number - columns].y0)
    assert -1e-9 < places[-1].y0 < places[0].y1 < 1
    # The classes' bars end within their part.
    for axes in figure.axes:
        assert all(patch.get_x() + patch.get_width() <= axes.get_xlim()[1] for patch in axes.patches)


NAMES = (
    "great white shark, white shark, man-eater, man-eating shark, Carcharodon carcharias",
    "日本語の写真クラスの長い長い名前です本当に長い名前ですよ",
    "a_name_without_any_space_that_is_longer_than_every_line_of_the_table_can_ever_be_and_more",
    "tench",
)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_table_fits_the_terminal_and_loses_nothing(width):
    files = ["photos/ä.jpg", "🙂.png", "two\nlines.png", "/a/very/long/" + 20 * "name/" + "x.png"]
    classes = tuple(ClassProbability(name, index, 0.25) for index, name in enumerate(NAMES))
    table = PredictionTable(files, NAMES, width)
    rows = [table(Prediction(file, classes=classes)) for file in files]
    lines = "\n".join(rows).split("\n")
    assert [line for line in lines if cell_len(line) > width] == ([printable(files[3])] if width < 200 else [])
    head = lines[0]
    # In columns of the terminal: every class begins below the head's 'class'.
    place = cell_len(head[: head.index("class")])
    for row, file in zip(rows, files, strict=True):
        assert printable(file) in row
        body = [line for line in row.removeprefix(head + "\n").split("\n") if line != printable(file)]
        parts = "".join(line[len(at(line, place)) :] for line in body)
        assert parts.replace(" ", "") == "".join(NAMES).replace(" ", "")
        assert sum("25.00 %" in at(line, place) for line in body) == len(NAMES)


def at(line: str, place: int) -> str:
    """What stands in the first columns of a line."""
    return next(line[:end] for end in range(len(line) + 1) if cell_len(line[:end]) == place)


def test_what_no_terminal_should_get_is_escaped():
    assert printable("a\tb\x1b[1m\udcff\u202e é日") == "a\\tb\\x1b[1m\\udcff\\u202e é日"
