"""Predictions on video files against evaluation and the exported model, and videos that are none or damaged."""

import io
import json
from dataclasses import replace
from pathlib import Path

import av
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import randomized
from PIL import Image
from runs import classification, save_model

from posmlp_jax.checkpoints.state import split_model
from posmlp_jax.data import eval_batches, open_source
from posmlp_jax.data.prepare.datasets import moving_digits
from posmlp_jax.data.prepare.prepare import prepare
from posmlp_jax.errors import PosMLPError
from posmlp_jax.export import export_model
from posmlp_jax.models.registry import Keys, build, model_config
from posmlp_jax.predict import picture, predict
from posmlp_jax.predict.__main__ import main
from posmlp_jax.predict.picture import draw_predictions
from posmlp_jax.tasks.classification.prediction import Prediction
from posmlp_jax.training import default_config, open_pretrained
from posmlp_jax.training.step.step import make_eval_step

pytestmark = pytest.mark.heavy

CLASSES = ("left", "right", "up", "down")
MODEL = {
    "num_frames": 4,
    "image_size": (16, 20),
    "widths": (8, 16),
    "depths": (1, 1),
    "windows": (4, 2),
    "groups": (2, 4),
    "num_classes": len(CLASSES),
}
MEAN, STD = (0.3, 0.5, 0.4), (0.2, 0.3, 0.1)


def frames_of(count: int, height: int, width: int, seed: int) -> np.ndarray:
    """Blots of light that wander: uint8 [count, height, width]."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    centres, speed = random.uniform(0, 1, (3, 2)) * (height, width), random.uniform(-2, 2, (3, 2))
    clip = np.zeros((count, height, width))
    for number in range(count):
        for centre, step in zip(centres, speed, strict=True):
            top, left = centre + number * step
            clip[number] += 220 * np.exp(-((y - top) ** 2 + (x - left) ** 2) / (height * width / 30))
    return clip.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """Class folders of short videos of several lengths and shapes, as many for training as for validation."""
    folder = tmp_path_factory.mktemp("clips")
    for number, (count, height, width) in enumerate([(20, 32, 48), (9, 48, 32), (2, 32, 32), (31, 24, 80)]):
        data = moving_digits.encode(frames_of(count, height, width, number))
        for part in ("train", "val"):
            file = folder / part / CLASSES[number] / f"{number}.mp4"
            file.parent.mkdir(parents=True)
            file.write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A checkpoint of random weights."""
    folder = tmp_path_factory.mktemp("run")
    config = model_config("posmlp_video_s", **MODEL)
    save_model(folder, "posmlp_video_s", randomized(lambda: build(config, Keys(0)), scale=0.6), CLASSES)
    return open_pretrained(folder)


def trained_with(pretrained, **data):
    """The same model as if it had been trained with other fields of `data`."""
    return replace(pretrained, data={**pretrained.data, "mean": MEAN, "std": STD, **data})


def shares(prediction: Prediction) -> np.ndarray:
    """The probabilities in the order of the logits."""
    return np.array([each.probability for each in sorted(prediction.classes, key=lambda each: each.index)])


@pytest.mark.parametrize(
    "protocol",
    [
        {"sampling": "segment", "test_clips": 1, "test_crops": 1, "eval_crop": 0.9},
        {"sampling": "dense", "stride": 3, "test_clips": 2, "test_crops": 3, "eval_crop": 0.8},
        {
            **{"sampling": "dense", "stride": 2, "fps": 5.0, "test_clips": 2, "test_crops": 3, "eval_crop": 0.8},
            **{"test_average": "logits", "frame_side": 24},
        },
    ],
)
def test_agrees_with_evaluation_video_by_video(pretrained, clips, tmp_path, protocol):
    config = default_config("posmlp_video_s").data
    prepare("video_folder", str(clips), str(tmp_path), under="mine")
    config.update(name="mine", data_dir=str(tmp_path), eval_split="validation", threads=0, mean=MEAN, std=STD)
    config.update(protocol)
    source = open_source(config, "eval")
    bind, weights = split_model(pretrained.model())
    options = {"data.mean": MEAN, "data.std": STD, "data.test_average": config.test_average}
    step = jax.jit(make_eval_step(bind, classification(pretrained.config, **options)))
    views = {"clips": config.test_clips, "crops": config.test_crops}
    expected = {}
    for batch in eval_batches(source, config, pretrained.config.input_size, batch_size=1, **views):
        # What evaluation says of each label is −log of its probability.
        losses = [step(weights, {**batch, "label": np.full(1, label)})[0]["loss"] for label in range(len(CLASSES))]
        expected[source.class_names[batch["label"][0]]] = np.exp(-np.array(losses, np.float64))
    predictions = list(predict(trained_with(pretrained, **protocol), clips / "val", top_k=4, batch_size=3))
    assert len(predictions) == len(expected) == 4
    for one in predictions:
        np.testing.assert_allclose(shares(one), expected[Path(one.file).parent.name], rtol=1e-5)
        assert np.shape(one.frames) == (config.test_clips, 4)
        assert one.replaced == 0
    assert np.std([shares(one) for one in predictions], axis=0).max() > 0.02  # The weights tell the videos apart.


def test_agrees_with_the_exported_model(pretrained, clips):
    """Everything before the model by PyAV's own loop and Pillow."""
    file = clips / "val" / "down" / "3.mp4"
    (prediction,) = predict(trained_with(pretrained, eval_crop=1.0), file, top_k=4)
    # Of 31 frames the middles of four parts.
    assert prediction.frames == ((3, 11, 19, 27),)
    with av.open(str(file)) as container:
        frames = [frame.to_image() for frame in container.decode(video=0)]
    # 24×80 pixels become 16×53, of which the middle 20 columns are seen.
    seen = [
        np.asarray(frames[number].resize((53, 16), Image.Resampling.BICUBIC))[:, 16:36] for number in (3, 11, 19, 27)
    ]
    inputs = (np.stack(seen)[None].astype(np.float64) / 255 - MEAN) / STD
    exported = export_model(pretrained.model(), platforms=["cpu"])
    logits = np.asarray(exported.call(jnp.asarray(inputs, jnp.float32)), np.float64)[0]
    odds = np.exp(logits - logits.max())
    np.testing.assert_allclose(shares(prediction), odds / odds.sum(), rtol=1e-5)
    assert prediction.classes[0].name == CLASSES[logits.argmax()]


def test_other_views_than_the_runs_own(pretrained, clips):
    video, run = clips / "val" / "left", trained_with(pretrained, sampling="dense", stride=2, test_clips=2)
    (own,), (more,) = predict(run, video), predict(run, video, clips=3, crops=3)
    # Of 20 frames, clips of 1 + 3 · 2 from the first to the last place.
    assert own.frames == ((0, 2, 4, 6), (13, 15, 17, 19))
    assert more.frames == ((0, 2, 4, 6), (6, 8, 10, 12), (13, 15, 17, 19))
    (same,) = predict(trained_with(run, test_clips=3, test_crops=3), video, batch_size=1)
    assert same == more
    assert shares(same) == pytest.approx(shares(own), abs=0.5)
    assert np.abs(shares(same) - shares(own)).max() > 1e-3


@pytest.fixture
def mixed(clips, tmp_path) -> Path:
    """A folder of videos of which few are whole."""
    whole = (clips / "val" / "left" / "0.mp4").read_bytes()
    (tmp_path / "damaged.mp4").write_bytes(damage(whole))
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "gone.mp4").symlink_to("nowhere")
    (tmp_path / "one_frame.mp4").write_bytes(moving_digits.encode(frames_of(1, 32, 32, 0)))
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "sound.mp4").write_bytes(sound())
    (tmp_path / "text.mp4").write_text("hello\n" * 50)
    (tmp_path / "whole.mp4").write_bytes(whole)
    return tmp_path


def damage(data: bytes) -> bytes:
    """The file with its last third of pictures overwritten; the index of an MP4 is behind them."""
    end = data.index(b"moov") - 4
    start = data.index(b"mdat") + 4
    cut = start + 2 * (end - start) // 3
    return data[:cut] + bytes(end - cut) + data[end:]


def sound() -> bytes:
    """An MP4 file without pictures."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        for packet in (*stream.encode(frame), *stream.encode()):
            container.mux(packet)
    return buffer.getvalue()


def test_what_cannot_be_read_is_named_and_what_is_damaged_says_so(pretrained, mixed, capsys):
    arguments = [f"--checkpoint={pretrained.workdir}", str(mixed), f"{mixed}/picture.png", "--output=json", "--top-k=4"]
    assert main(arguments) == 1
    output, errors = capsys.readouterr()
    lines = {Path(line["file"]).name: line for line in map(json.loads, output.splitlines())}
    assert list(lines) == ["damaged.mp4", "one_frame.mp4", "whole.mp4"]
    assert lines["whole.mp4"].keys() == {"file", "predictions", "frames", "replaced"}
    assert (lines["whole.mp4"]["frames"], lines["whole.mp4"]["replaced"]) == ([[2, 7, 12, 17]], 0)
    assert (lines["one_frame.mp4"]["frames"], lines["one_frame.mp4"]["replaced"]) == ([[0, 0, 0, 0]], 0)
    assert (lines["damaged.mp4"]["frames"], lines["damaged.mp4"]["replaced"]) == ([[2, 7, 11, 11]], 2)
    expected = [one for one in predict(pretrained, mixed, top_k=4) if one.error is None]
    for line, one in zip(lines.values(), expected, strict=True):
        assert [each["class"] for each in line["predictions"]] == [each.name for each in one.classes]
        assert sum(each["probability"] for each in line["predictions"]) == pytest.approx(1, abs=1e-5)
    said = [line.replace(f"{mixed}/", "") for line in errors.splitlines()]
    said = [line for line in said if not line.startswith("using ")]
    assert said == [
        "damaged: 2 of 4 frames of damaged.mp4 cannot be decoded, and the last good ones before them are used",
        "cannot read empty.mp4: the file is empty",
        "cannot read gone.mp4: No such file or directory",
        "cannot read sound.mp4: the file has no video stream, only audio",
        "cannot read text.mp4: not a video file, or a broken one (Invalid data found when processing input)",
        "cannot read picture.png: not a video file, or a broken one (Invalid argument); the model takes videos",
        "5 of 8 videos could not be read",
    ]


def test_a_picture_says_how_many_files_it_leaves_out(pretrained, clips, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("posmlp_jax.predict.outputs.MOST_FILES", 2)
    arguments = [f"--checkpoint={pretrained.workdir}", f"{clips}/val", f"--picture={tmp_path}/a.png", "--top-k=1"]
    assert main(arguments) == 0
    said = capsys.readouterr().err.splitlines()
    assert said[-2:] == [f"wrote {tmp_path}/a.png", "it shows the first 2 of 4 videos"]


def test_a_table_of_videos(pretrained, clips, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    assert main([f"--checkpoint={pretrained.workdir}", f"{clips}/val/*/?.mp4", "--top-k=1", "--batch_size=3"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    expected = list(predict(pretrained, clips / "val", top_k=1))
    assert rows == [["file", "probability", "class"]] + [
        [one.file, f"{100 * one.classes[0].probability:.2f}", "%", one.classes[0].name] for one in expected
    ]


def test_the_picture_shows_frames_crops_and_classes(pretrained, mixed, capsys):
    file = mixed / "pictures" / "seen.png"
    arguments = [str(mixed / "damaged.mp4"), str(mixed / "text.mp4"), str(mixed / "one_frame.mp4"), f"--picture={file}"]
    assert main([f"--checkpoint={pretrained.workdir}", *arguments, "--top-k=3", "--crops=3"]) == 1
    output, errors = capsys.readouterr()
    assert f"wrote {file}\n" in errors
    assert "wrote" not in output
    assert not list(file.parent.glob("*.partial"))
    predictions = list(predict(pretrained, mixed / "damaged.mp4", top_k=3, crops=3))
    gone = Prediction("gone.mp4", classes=predictions[0].classes)
    figure = draw_predictions(pretrained, [*predictions, gone], crops=3)
    first, second = figure.axes
    texts = [text.get_text() for text in first.texts]
    assert texts[0] == f"{mixed}/damaged.mp4   (2 of 4 frames stand for damaged ones)"
    assert texts[1:5] == ["2 · 0.2 s", "7 · 0.9 s", "11 · 1.4 s", "11 · 1.4 s"]  # moving_digits.FPS is 8.
    assert texts[5::2] == [each.name for each in predictions[0].classes]
    assert texts[6::2] == [f"{100 * each.probability:.1f} %" for each in predictions[0].classes]
    assert len(first.images) == 4
    # For crops of 16×20, 0.9 of what is resized, frames of 32×48 become 17×25, of which they begin in columns 0, 2, 5.
    left, right, bottom, top = first.images[0].get_extent()
    for box, column in zip(first.patches[:3], (0, 2, 5), strict=True):
        assert box.get_x() == pytest.approx(left + (right - left) * column / 25)
        assert (box.get_width(), box.get_height()) == pytest.approx(
            ((right - left) * 20 / 25, (bottom - top) * 16 / 17)
        )
    assert [text.get_text() for text in second.texts][:2] == ["gone.mp4", "cannot be read any more"]
    assert draw_predictions(pretrained, [Prediction("x.mp4", error="the file is empty")]) is None


def test_many_files_make_no_larger_picture(pretrained, clips, monkeypatch):
    monkeypatch.setattr(picture, "MOST_FILES", 2)
    (one,) = predict(pretrained, clips / "val" / "left")
    few, many = (draw_predictions(pretrained, [one] * count) for count in (2, 5))
    assert len(many.axes) == 2
    assert tuple(many.get_size_inches()) == tuple(few.get_size_inches())
    # No more than what is high enough, but one always.
    monkeypatch.setattr(picture, "_MOST_HEIGHT", 0.7 * few.get_size_inches()[1])
    assert len(draw_predictions(pretrained, [one] * 2).axes) == 1
    monkeypatch.setattr(picture, "_MOST_HEIGHT", 0.1)
    assert len(draw_predictions(pretrained, [one] * 2).axes) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{clips}", "--crops=2"], "crops is 2, and should be 1 or 3"),
        (["{clips}", "--clips=0"], "clips is 0, and should be 1 or more"),
        (["{clips}", "--batch_size=0"], "batch_size is 0, and should be 1 or more"),
        (["{clips}/*.mp4"], "no videos (.mp4, .webm, .avi, .mkv, .mov) for the pattern"),
        (["{pictures}"], "or its sub-folders; there are images, but the model takes videos"),
        (["{clips}", "--picture=a.mp4"], "cannot draw 'a.mp4'; the ending should be one of"),
        (["{clips}", "--picture={pictures}/a.jpg/b.png"], "a.jpg is not a folder"),
        (["{clips}", "--picture={pictures}/folder.png"], "folder.png: it is a folder"),
    ],
)
def test_mistakes(pretrained, clips, tmp_path, capsys, arguments, message):
    (tmp_path / "a.jpg").touch()
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(PosMLPError) as mistake:
        main(
            [f"--checkpoint={pretrained.workdir}", *(each.format(clips=clips, pictures=tmp_path) for each in arguments)]
        )
    assert message in str(mistake.value)
    assert capsys.readouterr() == ("", "")
