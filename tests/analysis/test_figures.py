"""Figures and the report: that they show the arrays, fit what a model has, and refuse the rest in one line."""

import dataclasses
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from helpers import randomized, small
from matplotlib.text import Annotation
from PIL import Image
from runs import save_model

from posmlp_jax import analysis
from posmlp_jax.analysis import find_units, noise, non_locality, relation_maps
from posmlp_jax.analysis.reach_figures import _some_frames
from posmlp_jax.analysis.report import main, read_input, write_report
from posmlp_jax.analysis.sections import SECTIONS
from posmlp_jax.checkpoints import open_pretrained
from posmlp_jax.errors import CheckpointError, ConfigError, DataError, PosMLPError
from posmlp_jax.models import create_model


def tiny(name="posmlp_t", **changes):
    return randomized(lambda: create_model(name, **{**small(name), **changes}))


def test_tiles_are_the_maps():
    """In all blocks and groups, blocks down and groups across, relative to their largest."""
    model = tiny(depths=(2, 1))
    axes = analysis.draw_relation_maps(model, query=(0, 1)).axes[0]
    picture = np.asarray(axes.get_images()[0].get_array().filled(np.nan))
    units = find_units(model, stage=1)
    found = [[picture[4 * b : 4 * b + 3, 4 * g : 4 * g + 3] for g in range(2)] for b in range(2)]
    for unit, row in zip(units, found, strict=True):
        (maps,) = relation_maps(unit, [(0, 1)])
        np.testing.assert_allclose(row, maps / maps.max(axis=(1, 2), keepdims=True), rtol=1e-6)
    # Where signs differ, to the largest of the block, and the colours have zero in the middle.
    axes = analysis.draw_relation_maps(tiny(relation="dense"), stage=1).axes[0]
    (image,) = axes.get_images()
    assert (image.norm.vmin, image.norm.vmax) == (-1, 1)
    assert np.nanmax(np.abs(image.get_array())) == 1


def test_ellipses_are_the_gaussians():
    """At Δ, of one standard deviation: every point of an ellipse is as far by the covariance."""
    model = tiny(covariance="isotropic")
    unit = find_units(model)[0]
    found = analysis.gaussians(unit)
    ellipses = analysis.draw_gaussians(model).axes[0].patches
    for center, ellipse in zip(found.centers, ellipses, strict=True):
        np.testing.assert_allclose(ellipse.get_center(), center[::-1], rtol=1e-6)
    model = tiny()
    found = analysis.gaussians(find_units(model)[0])
    for center, covariance, ellipse in zip(
        found.centers, found.covariances, analysis.draw_gaussians(model).axes[0].patches, strict=True
    ):
        # Matplotlib's path is of Bézier curves, off a true ellipse by 3e-4.
        points = ellipse.get_patch_transform().transform(ellipse.get_path().vertices[[0, 3, 6, 9]])
        difference = points[:, ::-1] - center
        distance = np.einsum("pi,ij,pj->p", difference, np.linalg.inv(covariance), difference)
        np.testing.assert_allclose(distance, 1, rtol=1e-3)


def test_lines_are_the_non_locality():
    model = tiny(depths=(2, 1))
    figure = analysis.draw_non_locality({"one$_{$": model, "_another": model})
    axes = figure.axes[0]
    figure.savefig(io.BytesIO())
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["one$_{$", "_another"]
    assert axes.get_xlabel() == "block"
    line = axes.get_lines()[0]
    np.testing.assert_allclose(line.get_ydata(), [non_locality(unit).value for unit in find_units(model)])
    # Groups that are not counted are said, also where that is all of them.
    first, second, third = find_units(model)
    first.relation.spread[...] = first.relation.spread[...].at[0].set(0)
    third.relation.spread[...] = 0 * third.relation.spread[...]
    axes = analysis.draw_non_locality(model).axes[0]
    assert non_locality(second).left_out == 0
    assert axes.get_xlabel() == "block; −n: n singular groups are not counted"
    noted = {text.xy: text.get_text() for text in axes.texts if isinstance(text, Annotation)}
    assert noted == {(1, non_locality(first).value): "−1", (3, 0): "−4"}
    for draw in (analysis.draw_non_locality, analysis.draw_comparison):
        with pytest.raises(ConfigError, match="there are no models to"):
            draw({})


def test_pictures_of_an_input():
    model = tiny("posmlp_video_s", num_frames=4, image_size=16, windows=(3, 2))
    figure = analysis.draw_mixing(model, noise(model, 1), stage=1, place=(1, 2, 3))
    bars = next(axes for axes in figure.axes if "temporal" in axes.get_title())
    heights = np.reshape([bar.get_height() for bar in bars.patches], (2, 4))
    np.testing.assert_allclose(heights.sum(axis=1), 1, rtol=1e-5)
    assert [axes.get_title() for axes in figure.axes[:4]] == [f"frame {number}" for number in range(4)]
    with pytest.raises(ConfigError, match="place 1,2,3 on the map of which stage"):
        analysis.draw_receptive_fields(model, place=(1, 2, 3))
    with pytest.raises(ConfigError, match="relations over frames are shown of all queries; leave query 1 out"):
        analysis.draw_relation_maps(model, part="temporal", query=(1,))


@pytest.mark.parametrize("wanted", range(16))
def test_the_frame_of_a_place_is_shown(wanted):
    shown = _some_frames(16, wanted)
    assert wanted in shown
    assert shown == sorted(set(shown))
    assert len(shown) == 8


class Page(HTMLParser):
    """What a page shows, and whether all that is opened is closed."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.headings, self.sources = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "img", "link"):
            self.open.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href") and value[0] != "#"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Checkpoints of tiny models, by relation or block."""
    root = tmp_path_factory.mktemp("models")
    models = {
        "gqpe": ("posmlp_t", {"num_classes": 3}),
        "alpha": ("posmlp_t", {"covariance": "isotropic"}),
        "lrpe_m": ("posmlp_t", {"relation": "lrpe_m"}),
        "gmlp": ("gmlp_s", {}),
        "video": ("posmlp_video_s", {"num_frames": 4, "image_size": 16, "windows": (3, 2)}),
    }
    for folder, (name, changes) in models.items():
        save_model(root / folder, name, tiny(name, **changes))
    spoilt = tiny()
    spoilt.head.bias[...] = np.nan * spoilt.head.bias[...]
    save_model(root / "spoilt", "posmlp_t", spoilt)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)).save(root / "noise.png")
    (root / "broken.png").write_bytes(b"\x89PNG\r\n")
    return root


# What there is of each, besides what all have.
HAS = {
    "gqpe": {"Side by side", "Gaussians", "Non-locality", "What feeds a place"},
    "lrpe_m": {"Parts of LRPE-M"},
    "gmlp": set(),
    "video": {"Weights over frames"},
}


@pytest.mark.heavy
def test_a_whole_image_is_laid_into_the_models_own_size(folders):
    """Whatever the canvases were that the model was trained with: its relations are of that size."""
    pretrained = open_pretrained(folders / "gqpe")
    seen = {"crop": "fit", "short_side": 20, "long_side": 90, "canvases": ((20, 90),), "mean": (0, 0, 0)}
    pixels = read_input(dataclasses.replace(pretrained, data=pretrained.data | seen), folders / "noise.png")
    assert pixels.shape == (1, 32, 32, 3)
    assert pixels[0, :26].any(-1).all()  # Of 40×50.
    assert not pixels[0, 26:].any()


@pytest.mark.heavy
@pytest.mark.parametrize("folder", HAS)
def test_report(folder, folders, tmp_path, capsys, monkeypatch):
    everywhere = {"Relation maps", "Token biases", "Effective receptive fields"}
    if folder in ("lrpe_m", "gmlp"):  # Which takes the time; the others have it.
        monkeypatch.delitem(SECTIONS, "Effective receptive fields")
        everywhere.remove("Effective receptive fields")
    output = tmp_path / "new" / "report.html"
    more = [f"--image={folders}/noise.png", "--compare", f"{folders}/alpha", "--queries", "0,0", "1,2"]
    main([f"--checkpoint={folders}/{folder}", f"--output={output}", *(more if folder == "gqpe" else [])])
    assert f"wrote {output}" in capsys.readouterr().out
    text = output.read_text()
    page = Page(text)
    *shown, last = page.headings
    assert last == "Not in this report"
    assert set(shown) == everywhere | HAS[folder]
    assert len(text) < 2e6
    # No network: every picture is in the page.
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert f"in {folders}/{folder}" in text
    if folder == "gmlp":
        assert "models with relation &#x27;gqpe&#x27;, and this one&#x27;s is &#x27;dense&#x27;" in text
    calls = re.findall(r"draw_\w+\(model[^\n<]*\)", text)
    if folder == "video":
        assert "draw_relation_maps(model, stage=1, part=&#x27;temporal&#x27;)" in calls
    if folder == "gqpe":
        assert sum("query=(1, 2)" in call for call in calls) == 1
        assert "draw_non_locality({&#x27;ΓΓᵀ&#x27;: …, &#x27;αI&#x27;: …})" in text


MISTAKES = {
    "--checkpoint={}/nothing": (CheckpointError, "nothing"),
    "--checkpoint={}/spoilt": (CheckpointError, "are not all numbers; take another --step"),
    "--checkpoint={}/gqpe --stage=3": (ConfigError, "there is no stage 3: the model has stages 1 to 2"),
    "--checkpoint={}/gqpe --stage=1 --block=9": (ConfigError, "there is no block 9: stage 1 has block 1 alone"),
    "--checkpoint={}/gqpe --queries 9,9": (
        ConfigError,
        "no place 9,9 in the window of stage 1, block 1, which has rows 0",
    ),
    "--checkpoint={}/gqpe --queries seven": (ConfigError, "'seven' should be ROW,COLUMN"),
    "--checkpoint={}/gqpe --stage=1 --place=99,0": (ConfigError, "no place 99,0 in the map of stage 1"),
    "--checkpoint={}/lrpe_m --group=5 --stage=1": (
        ConfigError,
        "there is no group 5: stage 1, block 1 has groups 1 to 2",
    ),
    "--checkpoint={}/gqpe --group=1": (ConfigError, "--group is of LRPE-M's parts, and the model's relation is 'gqpe'"),
    "--checkpoint={}/gqpe --video=clip.mp4": (
        ConfigError,
        "--video is given, and the model takes images: give --image",
    ),
    "--checkpoint={}/video --image={}/noise.png": (ConfigError, "--image is given, and the model takes videos"),
    "--checkpoint={}/gqpe --image={}/broken.png": (DataError, "broken.png: not a JPEG"),
    "--checkpoint={}/gqpe --image={}/missing.png": (DataError, "there is no file or folder"),
    "--checkpoint={}/gqpe --image={}": (DataError, "stands for 2 images; name one"),
    "--checkpoint={}/gqpe --output={}": (ConfigError, "it is a folder"),
    "--checkpoint={}/gqpe --image={}/noise.png --output={}/noise.png": (ConfigError, "it is read for this"),
    "--checkpoint={}/gqpe --stage=2 --compare {}/gmlp": (
        ConfigError,
        "dense: there is no stage 2: the model has stage 1",
    ),
}


@pytest.mark.parametrize("arguments", MISTAKES)
def test_mistakes(arguments, folders):
    kind, message = MISTAKES[arguments]
    output = [] if "--output" in arguments else [f"--output={folders}/page.html"]
    with pytest.raises(PosMLPError) as raised:
        main([*arguments.format(*3 * [folders]).split(), *output])
    assert isinstance(raised.value, kind)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not (folders / "page.html").exists()


def test_a_page_over_another(folders, tmp_path, monkeypatch):
    """The old one stays when something fails on the way."""
    pretrained = open_pretrained(folders / "gqpe")
    (tmp_path / "page.html").write_text("old")
    with pytest.raises(ConfigError, match="no stage 7"):
        write_report(pretrained, tmp_path / "page.html", stage=7)
    assert (tmp_path / "page.html").read_text() == "old"
