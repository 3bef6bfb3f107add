"""`python -m posmlp_jax.convert`: files of every type in and out, and what is refused leaves nothing behind."""

import argparse
import os
import pickle
import re
import sys
from pathlib import Path

import jax
import naive
import numpy as np
import pytest
from helpers import outputs
from published_buffers import ENDS, with_buffers
from runs import assert_equal, save_model
from safetensors.numpy import load_file, save_file

from posmlp_jax import create_model, from_pretrained
from posmlp_jax.convert import convert_checkpoint, export_checkpoint
from posmlp_jax.convert.__main__ import run
from posmlp_jax.convert.architecture import infer_fields
from posmlp_jax.errors import CheckpointError
from posmlp_jax.models import model_config
from posmlp_jax.training import open_pretrained

pytestmark = pytest.mark.heavy

FOLDER = Path(__file__).parent / "reference_outputs"
# The shape of each of the head's parameters behind the number of classes.
HEAD = {"weight": (64,), "bias": ()}
WITHOUT_TORCH = "reading and writing .pth takes PyTorch: pip install -r requirements-torch.txt"


def reference(name: str) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """State dict as a real file has it, with every buffer, NHWC images or NTHWC clips, and logits."""
    with np.load(FOLDER / f"posmlp_{name}.npz") as file:
        learned = {key.removeprefix("state_dict/"): file[key] for key in file if key.startswith("state_dict/")}
        return with_buffers(learned), np.moveaxis(file["input"], 1, -1), file["logits"]


def convert(*arguments: str) -> int:
    """The program's exit code."""
    try:
        run(list(arguments))
    except SystemExit as end:
        return end.code
    return 0


def to_torch(state_dict) -> dict:
    torch = pytest.importorskip("torch", reason=WITHOUT_TORCH)
    return {name: torch.tensor(value) for name, value in state_dict.items()}


@pytest.mark.parametrize("name", ["ggqpe", "ggqpe_ln_stem_bn_merge", "ggqpe_isotropic", "glrpe_m", "sgu"])
def test_a_file_becomes_a_checkpoint(name, tmp_path, capsys):
    """The architecture is all in the shapes; the checkpoint gives the published logits."""
    output = tmp_path / "converted"
    file = FOLDER / f"posmlp_{name}.npz"
    assert convert(f"--source={file}", "--model=posmlp_t", f"--output={output}") == 0
    shown = capsys.readouterr().out
    assert f"read state_dict of {file}; its shapes show widths=(8, 16, 32, 64), depths=(1, 1, 2, 1)" in shown
    assert f"M parameters) to {output}" in shown
    assert (output / "checkpoints" / "0" / "checksums.json").is_file()
    _, images, logits = reference(name)
    ours = np.asarray(outputs(from_pretrained(output), images)[1])
    assert np.max(np.abs(ours - logits)) < 1e-5 * np.max(np.abs(logits))


def test_a_video_model(tmp_path, capsys):
    """The published trainer's file: under 'model_state', with the number of frames in the tables' shapes alone."""
    state_dict, clips, logits = reference("video_t4")
    with np.load(FOLDER / "posmlp_video_t4.npz") as file:
        maps = file["features"]  # Before the final norm.
    source, output = tmp_path / "ssv2.npz", tmp_path / "converted"
    np.savez(source, **{f"model_state/{name}": value for name, value in state_dict.items()})
    assert convert(f"--source={source}", "--model=posmlp_video_s", f"--output={output}") == 0
    shown = capsys.readouterr().out
    assert f"read model_state of {source}; its shapes show widths=(8, 16, 32, 64), depths=(1, 1, 2, 1)" in shown
    assert "num_frames=4" in shown
    model = from_pretrained(output)
    assert (model.config.num_frames, model.config.block) == (4, "parallel")
    features, ours = jax.jit(lambda clips: (model.features(clips)[-1], model(clips)))(clips)
    naive.assert_close(ours, logits)
    scale, bias = (np.asarray(values[...], np.float64) for values in (model.norm.scale, model.norm.bias))
    naive.assert_close(features, naive.layer_norm(maps.astype(np.float64), scale, bias, 1e-5).reshape(features.shape))
    data = open_pretrained(output).data
    assert (data["mean"], data["std"], data["test_average"]) == ([0.45] * 3, [0.225] * 3, "logits")

    back = tmp_path / "back.npz"
    assert convert(f"--source={output}", f"--output={back}") == 0
    with np.load(back) as file:
        exported = dict(file)
    assert set(exported) == set(state_dict)
    for name, value in exported.items():
        np.testing.assert_array_equal(value, state_dict[name], err_msg=name)


def test_weights_that_take_blue_first(tmp_path, capsys):
    """Something-Something's: converted, they say of red, green, blue what they said of blue, green, red; and back."""
    state_dict, clips, logits = reference("video_t4")
    classes = {f"head.{name}": np.resize(state_dict[f"head.{name}"], (174, *shape)) for name, shape in HEAD.items()}
    source, output = tmp_path / "ssv1.npz", tmp_path / "converted"
    np.savez(source, **state_dict | classes)
    arguments = (f"--source={source}", "--model=posmlp_video_s", f"--output={output}")
    assert convert(*arguments, "--channels=grb") == 2
    assert "error: channels 'grb' is unknown; did you mean 'rgb'?" in capsys.readouterr().err
    assert not output.exists()
    assert convert(*arguments, "--channels=bgr") == 0
    assert "note" not in capsys.readouterr().out
    ours = jax.jit(from_pretrained(output).__call__)(clips[..., ::-1])
    naive.assert_close(ours[:, : logits.shape[-1]], logits)

    back = tmp_path / "back.npz"
    assert convert(f"--source={output}", f"--output={back}", "--channels=bgr") == 0
    with np.load(back) as file:
        for name, value in (state_dict | classes).items():
            np.testing.assert_array_equal(file[name], value, err_msg=name)
    assert convert(*arguments[:2], f"--output={tmp_path / 'unsaid'}") == 0
    assert "note: if this was trained on Something-Something by the published code, it takes blue first" in (
        capsys.readouterr().out
    )


def test_what_a_video_trainer_writes(tmp_path, capsys):
    """SlowFast's file, its names from several GPUs: parameters beside the optimizer's, a scaler, the config's text."""
    torch = pytest.importorskip("torch", reason=WITHOUT_TORCH)
    state_dict, _, _ = reference("video_t4")
    content = {
        "epoch": 59,
        "model_state": {f"module.{name}": value for name, value in to_torch(state_dict).items()},
        "optimizer_state": optimizer_state(),
        "scaler": {"scale": 65536.0, "growth_factor": 2.0, "_growth_tracker": 120},
        "cfg": "TRAIN:\n  X: 1",
    }
    torch.save(content, tmp_path / "checkpoint_epoch_00060.pyth")
    output = tmp_path / "out"
    source = f"--source={tmp_path / 'checkpoint_epoch_00060.pyth'}"
    assert convert(source, "--model=posmlp_video_s", f"--output={output}") == 0
    assert "read model_state of" in capsys.readouterr().out
    bias = open_pretrained(output).weights.params["head"]["bias"]
    np.testing.assert_array_equal(bias, state_dict["head.bias"])


def optimizer_state() -> dict:
    """An optimizer's after a step, with tensors of its own."""
    import torch

    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([parameter])
    parameter.sum().backward()
    optimizer.step()
    return optimizer.state_dict()


def test_images_first(tmp_path, capsys):
    """The image-pretrained file is a plain state dict; its model starts one of clips."""
    state_dict, clips, _ = reference("video_t4")
    source, output = tmp_path / "imagenet.npz", tmp_path / "image"
    np.savez(source, **{name: value for name, value in state_dict.items() if ".t_fc." not in name})
    assert convert(f"--source={source}", "--model=posmlp_video_s_image", f"--output={output}") == 0
    assert f"read the parameters of {source}" in capsys.readouterr().out
    assert open_pretrained(output).data["mean"] == [0.485, 0.456, 0.406]
    image = from_pretrained(output)
    assert (image.config.num_frames, image.config.block) == (0, "spatial")
    video = from_pretrained(output, num_frames=4, block="parallel")
    frames = jax.jit(lambda images: image(images))(clips.reshape(-1, *clips.shape[2:]))
    logits = jax.jit(lambda clips: video(clips))(clips)
    naive.assert_close(logits, np.asarray(frames, np.float64).reshape(len(clips), 4, -1).mean(axis=1), 2e-6)


def test_what_shapes_show():
    preset = model_config("posmlp_t")
    sizes = {
        "widths": (8, 16, 32, 64),
        "depths": (1, 1, 2, 1),
        "num_classes": 10,
        "windows": ((8, 8), (8, 8), (8, 8), (4, 4)),
        "groups": (2, 4, 4, 8),
    }
    expected = {
        "ggqpe": {},
        "ggqpe_ln_stem_bn_merge": {"stem_norm": "layer", "merge_norm": "batch"},
        "ggqpe_gamma_covariance": {},  # Γ has ΓΓᵀ's shape.
        "ggqpe_isotropic": {"covariance": "isotropic"},
        "ggqpe_no_bias": {},  # The unused bias is there.
        "glrpe": {"relation": "lrpe"},
        "lrpe_m": {"relation": "lrpe_m", "groups": (1, 1, 1, 1)},
        "glrpe_m": {"relation": "lrpe_m"},
        "sgu": {"relation": "dense", "groups": (1, 1, 1, 1)},
    }
    for name, fields in expected.items():
        shapes = {key: value.shape for key, value in reference(name)[0].items()}
        assert infer_fields(shapes, preset) == sizes | fields, name
    shapes = {key: value.shape for key, value in reference("ggqpe")[0].items()}
    assert infer_fields(dict.fromkeys(shapes, ()), preset)["depths"] == (1, 1, 2, 1)
    assert infer_fields(dict.fromkeys(shapes, (0, 0)), preset)["depths"] == (1, 1, 2, 1)
    assert infer_fields({"conv1.weight": (64, 3, 7, 7)}, preset) == {}
    del shapes["head.weight"], shapes["head.bias"]
    assert infer_fields(shapes, preset)["num_classes"] == 0


def test_what_shapes_show_of_a_video_model():
    video, image = model_config("posmlp_video_s"), model_config("posmlp_video_s_image")
    sizes = {
        "widths": (8, 16, 32, 64),
        "depths": (1, 1, 2, 1),
        "num_classes": 10,
        "windows": ((8, 8), (8, 8), (8, 8), (4, 4)),
        "groups": (2, 4, 4, 8),
    }
    shapes = {key: value.shape for key, value in reference("video_t4")[0].items()}
    assert infer_fields(shapes, video) == sizes | {"num_frames": 4}
    assert infer_fields(shapes, image) == sizes | {"num_frames": 4, "block": "parallel"}
    spatial = {name: shape for name, shape in shapes.items() if ".t_fc." not in name}
    assert infer_fields(spatial, image) == sizes
    assert infer_fields(spatial, video) == sizes | {"num_frames": 0, "block": "spatial"}
    # What no published file has: other expansions, and none of the video's names.
    wide = {name: (2 * shape[0], *shape[1:]) if ".fc1." in name else shape for name, shape in shapes.items()}
    assert infer_fields(wide, video)["expansion"] == 4
    assert infer_fields(dict.fromkeys(shapes, ()), video)["depths"] == (1, 1, 2, 1)
    assert infer_fields(shapes, model_config("posmlp_t")) == {}
    assert infer_fields(shapes, model_config("gmlp_s")) == {}


def test_what_shapes_do_not_show_is_said(tmp_path):
    state_dict, images, logits = reference("ggqpe_gamma_covariance")
    save_file(state_dict, tmp_path / "weights.safetensors")
    overrides = ("--override=covariance=free", "--override=image_size=(128,128)")
    source, output = tmp_path / "weights.safetensors", tmp_path / "out"
    assert convert(f"--source={source}", "--model=posmlp_t", f"--output={output}", *overrides) == 0
    model = from_pretrained(output)
    assert model.config.image_size == (128, 128)
    ours = np.asarray(outputs(model, images)[1])
    assert np.max(np.abs(ours - logits)) < 1e-5 * np.max(np.abs(logits))


def test_averaged_parameters_are_taken_where_there_are_any(tmp_path, capsys):
    """A file as timm's trainer writes it: both kinds, the command line, numbers."""
    torch = pytest.importorskip("torch", reason=WITHOUT_TORCH)
    raw = {f"module.{name}": value for name, value in reference("glrpe")[0].items()}
    averaged = {name: value if name.endswith(ENDS) else value + 0.5 for name, value in raw.items()}
    checkpoint = {
        "epoch": 309,
        "arch": "posmlp",
        "args": argparse.Namespace(lr=0.002, opt="adamw"),
        "metric": np.float64(81.68),
        "optimizer": optimizer_state(),
        "version": 2,
        "amp_scaler": {"scale": 65536.0, "_growth_tracker": 120},
        "state_dict": to_torch(raw),
        "state_dict_ema": to_torch(averaged),
    }
    file = tmp_path / "model_best.pth.tar"
    torch.save(checkpoint, file)
    for which, arrays, group in (("best", averaged, "_ema"), ("ema", averaged, "_ema"), ("raw", raw, "")):
        output = tmp_path / which
        assert convert(f"--source={file}", "--model=posmlp_t", f"--output={output}", f"--weights={which}") == 0
        assert f"read state_dict{group} of" in capsys.readouterr().out
        bias = open_pretrained(output).weights.params["head"]["bias"]
        np.testing.assert_array_equal(bias, arrays["module.head.bias"])


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".pth"])
def test_there_and_back_through_files(suffix, tmp_path, capsys):
    if suffix == ".pth":
        pytest.importorskip("torch", reason=WITHOUT_TORCH)
    first, file, second = tmp_path / "first", tmp_path / f"weights{suffix}", tmp_path / "second"
    convert_checkpoint(FOLDER / "posmlp_ggqpe.npz", "posmlp_t", first)
    assert convert(f"--source={first}", f"--output={file}") == 0
    assert f"wrote the weights of step 0 in {first} (it has no moving average) to {file}" in capsys.readouterr().out
    original, images, _ = reference("ggqpe")
    if suffix != ".pth":
        exported = load_file(file) if suffix == ".safetensors" else dict(np.load(file))
        assert set(exported) == set(original)
        for name, value in original.items():
            assert exported[name].dtype == value.dtype
            np.testing.assert_array_equal(exported[name], value, err_msg=name)
    convert_checkpoint(file, "posmlp_t", second)
    assert_equal(*(outputs(from_pretrained(workdir), images) for workdir in (first, second)))


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("name", ["glrpe", "video_t4"])
def test_files_of_other_types_with_every_buffer(name, suffix, tmp_path):
    """As somebody saves a real file's tensors for one without PyTorch, the names as several GPUs have left them."""
    state_dict, _, _ = reference(name)
    source, prefixed = tmp_path / f"real{suffix}", {f"module.{key}": value for key, value in state_dict.items()}
    if suffix == ".npz":
        np.savez(source, **prefixed)
    else:
        save_file(prefixed, source)
    preset = "posmlp_video_s" if name == "video_t4" else "posmlp_t"
    converted = convert_checkpoint(source, preset, tmp_path / "out")
    np.testing.assert_array_equal(converted.model.head.kernel[...], state_dict["head.weight"].T)


def torch_module(state_dict):
    """A PyTorch module that has these names, as parameters and as buffers, and nothing else; all is NaN or −1."""
    import torch

    root = torch.nn.Module()
    for name, value in state_dict.items():
        *path, last = name.split(".")
        module = root
        for part in path:
            if part not in dict(module.named_children()):
                module.add_module(part, torch.nn.Module())
            module = module.get_submodule(part)
        if name.endswith((*ENDS, ".running_mean", ".running_var")):
            module.register_buffer(last, torch.full_like(torch.tensor(value), -1))
        else:
            module.register_parameter(last, torch.nn.Parameter(torch.full(value.shape, torch.nan)))
    return root


@pytest.mark.parametrize(
    ("name", "model", "groups"),
    [
        ("ggqpe", "posmlp_t", ["state_dict", "state_dict_ema"]),
        ("ggqpe_isotropic", "posmlp_t", ["state_dict", "state_dict_ema"]),
        ("glrpe_m", "posmlp_t", ["state_dict", "state_dict_ema"]),
        ("sgu", "posmlp_t", ["state_dict", "state_dict_ema"]),
        ("video_t4", "posmlp_video_s", ["model_state"]),
        ("video_t4", "posmlp_video_s_image", []),
    ],
)
def test_the_published_code_loads_an_export_strictly(name, model, groups, tmp_path):
    """From where it looks in a file, which is stored once; into a module of all that a real file of that model has."""
    torch = pytest.importorskip("torch", reason=WITHOUT_TORCH)
    state_dict, _, _ = reference(name)
    if model.endswith("_image"):
        state_dict = {key: value for key, value in state_dict.items() if ".t_fc." not in key}
    np.savez(tmp_path / "real.npz", **state_dict)
    convert_checkpoint(tmp_path / "real.npz", model, tmp_path / "ours")
    export_checkpoint(tmp_path / "ours", tmp_path / "back.pth")
    content = torch.load(tmp_path / "back.pth", weights_only=True)
    assert (tmp_path / "back.pth").stat().st_size < 1.6 * (tmp_path / "real.npz").stat().st_size
    for exported in [content[group] for group in groups] or [content]:
        module = torch_module(state_dict)
        module.load_state_dict(exported, strict=True)
        for key, value in module.state_dict().items():
            assert exported[key].dtype == value.dtype == torch.tensor(state_dict[key]).dtype
            if not (name == "ggqpe_isotropic" and "attention_" in key):
                np.testing.assert_array_equal(value.numpy(), state_dict[key], err_msg=key)


def test_half_precision_files(tmp_path):
    import ml_dtypes

    state_dict, _, _ = reference("glrpe")
    halves = {name: value.astype(ml_dtypes.bfloat16) for name, value in state_dict.items()}
    save_file(halves, tmp_path / "half.safetensors")
    converted = convert_checkpoint(tmp_path / "half.safetensors", "posmlp_t", tmp_path / "out")
    expected = halves["head.weight"].astype(np.float32).T
    np.testing.assert_array_equal(converted.model.head.kernel[...], expected)


def test_class_names(tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("".join(f"number {i}\n" for i in range(10)), encoding="utf-8")
    source = f"--source={FOLDER / 'posmlp_ggqpe.npz'}"
    assert convert(source, "--model=posmlp_t", f"--output={tmp_path / 'out'}", f"--class_names={names}") == 0
    assert open_pretrained(tmp_path / "out").class_names[9] == "number 9"


class Evil:
    def __reduce__(self):
        return os.mkdir, (os.environ["EVIL"],)


def write_bad_files(folder: Path) -> dict[str, tuple[list[str], str]]:
    """The command's arguments and its error, by what is wrong."""
    good = FOLDER / "posmlp_ggqpe.npz"
    state_dict, _, _ = reference("ggqpe")
    np.savez(folder / "objects.npz", **{"head.weight": np.array([{}], object)})
    (folder / "cut.npz").write_bytes(good.read_bytes()[:5000])
    (folder / "empty.npz").write_bytes(b"")
    np.savez(folder / "nothing.npz")
    (folder / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    (folder / "weights.h5").write_bytes(b"")
    missing = {name: value for name, value in state_dict.items() if name not in ("head.bias", "norm.weight")}
    np.savez(folder / "missing.npz", **missing)
    np.savez(folder / "extra.npz", **state_dict, **{"levels.0.extra": np.zeros(3), "other": np.zeros(1)})
    wrong = state_dict | {"norm.bias": np.zeros(5), "patch_embed.projs.0.bias": np.zeros((4, 1))}
    np.savez(folder / "wrong.npz", **wrong)
    np.savez(folder / "resnet.npz", **{"conv1.weight": np.zeros((64, 3, 7, 7))})
    np.savez(folder / "odd.npz", **state_dict | {"levels.1.encoder.0.norm.weight": np.zeros(17)})
    complex_head = {"head.weight": state_dict["head.weight"].astype(np.complex64)}
    np.savez(folder / "complex.npz", **state_dict | complex_head)
    np.savez(folder / "text.npz", **state_dict | {"head.bias": np.array(["a", "b"])})
    np.savez(folder / "nan.npz", **state_dict | {"head.bias": np.full(10, np.nan), "norm.bias": np.full(64, np.inf)})
    center = "levels.1.encoder.0.gate_unit.pos.attention_centers"
    np.savez(folder / "center.npz", **{name: value for name, value in state_dict.items() if name != center})
    (folder / "names.txt").write_text("one\ntwo\n")
    (folder / "blank.txt").write_text("one\n\n" * 5)
    sound = [f"--source={good}", "--model=posmlp_t"]
    return {
        "no such file": ([f"--source={folder / 'none.npz'}", "--model=posmlp_t"], "there is no file"),
        "objects": ([f"--source={folder / 'objects.npz'}", "--model=posmlp_t"], "no .npz file of plain arrays"),
        "cut npz": ([f"--source={folder / 'cut.npz'}", "--model=posmlp_t"], "no .npz file, or a truncated one"),
        "empty npz": ([f"--source={folder / 'empty.npz'}", "--model=posmlp_t"], "no .npz file, or a truncated one"),
        "nothing": ([f"--source={folder / 'nothing.npz'}", "--model=posmlp_t"], "it is empty"),
        "cut safetensors": ([f"--source={folder / 'cut.safetensors'}", "--model=posmlp_t"], "no .safetensors file"),
        "type": ([f"--source={folder / 'weights.h5'}", "--model=posmlp_t"], "is of an unknown type; known: .pth,"),
        "missing": (
            [f"--source={folder / 'missing.npz'}", "--model=posmlp_t"],
            "2 missing: norm.weight, head.bias",
        ),
        "extra": (
            [f"--source={folder / 'extra.npz'}", "--model=posmlp_t"],
            "2 that the model has no place for: levels.0.extra, other",
        ),
        "wrong": (
            [f"--source={folder / 'wrong.npz'}", "--model=posmlp_t"],
            "2 of another shape: 'patch_embed.projs.0.bias' is (4, 1) and should be (4,), 'norm.bias' is (5,) and",
        ),
        "complex": (
            [f"--source={folder / 'complex.npz'}", "--model=posmlp_t"],
            "no dense arrays of real numbers are head.weight",
        ),
        "text": (
            [f"--source={folder / 'text.npz'}", "--model=posmlp_t"],
            "no dense arrays of real numbers are head.bias",
        ),
        "not finite": (
            [f"--source={folder / 'nan.npz'}", "--model=posmlp_t"],
            "are infinite or not numbers: norm.bias, head.bias",
        ),
        "one center": ([f"--source={folder / 'center.npz'}", "--model=posmlp_t"], f"1 missing: {center}"),
        "another network": (
            [f"--source={folder / 'resnet.npz'}", "--model=posmlp_t"],
            "1 that the model has no place for: conv1.weight",
        ),
        "odd width": ([f"--source={folder / 'odd.npz'}", "--model=posmlp_t"], "widths (8, 17, 32, 64) should double"),
        "no model": ([f"--source={good}"], "which model is"),
        "unknown model": ([f"--source={good}", "--model=posmlp_x"], "unknown model 'posmlp_x'; did you mean"),
        "a video model's names": ([f"--source={good}", "--model=posmlp_video_s"], "missing: patch_embed1.proj1.weight"),
        "no temporal parts": (
            [f"--source={FOLDER / 'posmlp_video_t4.npz'}", "--model=posmlp_video_s_image", "--override=block=spatial"],
            "that the model has no place for: blocks1.0.t_fc.encoder.fc1.bias",
        ),
        "a stem that halves time": (
            [f"--source={FOLDER / 'posmlp_video_t4.npz'}", "--model=posmlp_video_s_32"],
            "no published checkpoint has stem='conv3d'",
        ),
        "gmlp": ([f"--source={good}", "--model=gmlp_s"], "there are no published checkpoints of a GMLP"),
        "weights": ([*sound, "--weights=emma"], "weights 'emma' is unknown; did you mean 'ema'?"),
        "no ema": ([*sound, "--weights=ema"], "has no ema parameters; it has state_dict"),
        "override": ([*sound, "--override=covariance"], "should be FIELD=VALUE"),
        "field": ([*sound, "--override=covarianc=free"], "did you mean 'covariance'?"),
        "value": ([*sound, "--override=covariance=fre"], "covariance 'fre' is unknown; did you mean 'free'?"),
        "windows": ([*sound, "--override=windows=(8,8,8,8)"], "gate_unit.pos.token_proj_n_bias' is (1, 16, 1) and"),
        "class names": ([*sound, f"--class_names={folder / 'names.txt'}"], "there are 2 class names for a model of 10"),
        "no class names": ([*sound, f"--class_names={folder / 'none.txt'}"], "cannot read the class names"),
        "blank class name": ([*sound, f"--class_names={folder / 'blank.txt'}"], "a class has no name"),
        "output": ([*sound, f"--output={folder}"], "is there already; choose another --output"),
        "output's folder": ([*sound, f"--output={folder / 'a' / 'b'}"], "there is no folder"),
        "neither": ([f"--source={folder / 'none'}"], "there is no file or folder"),
        "a folder of no run": ([f"--source={folder}", f"--output={folder / 'a.npz'}"], "there is no checkpoint in"),
        "a folder and a model": ([f"--source={folder}", "--model=posmlp_t"], "leave the other options out"),
    }


def assert_refused(arguments: list[str], message: str, folder: Path, capsys) -> None:
    before = sorted(path.name for path in folder.iterdir())
    assert convert(f"--output={folder / 'out'}", *arguments) == 2
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1, error
    assert error[0].startswith("error: ")
    assert message in error[0]
    assert sorted(path.name for path in folder.iterdir()) == before


def test_mistakes(tmp_path, capsys):
    for arguments, message in write_bad_files(tmp_path).values():
        assert_refused(arguments, message, tmp_path, capsys)


def test_nothing_beside_the_output_is_touched(tmp_path):
    for name in ("out.partial", ".out.partial", "out.npz.partial"):
        (tmp_path / name).mkdir()
    convert_checkpoint(FOLDER / "posmlp_ggqpe.npz", "posmlp_t", tmp_path / "out")
    export_checkpoint(tmp_path / "out", tmp_path / "out.npz")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [".out.partial", "out", "out.npz", "out.npz.partial", "out.partial"]


def test_every_missing_parameter_is_named(tmp_path):
    """Whatever its absence hides of the architecture, where another block of the stage does not show it."""
    state_dict, _, _ = reference("glrpe")
    levels = [name for name in state_dict if name.startswith("levels.2.encoder.0.") and not name.endswith(ENDS)]
    for name in levels:
        rest = {key: value for key, value in state_dict.items() if key != name}
        np.savez(tmp_path / "rest.npz", **rest)
        with pytest.raises(CheckpointError, match=f"; 1 missing: {re.escape(name)}$"):
            convert_checkpoint(tmp_path / "rest.npz", "posmlp_t", tmp_path / "out")


def test_an_average_that_is_none_falls_through(tmp_path):
    torch = pytest.importorskip("torch", reason=WITHOUT_TORCH)
    parameters = {f"_orig_mod.module.{name}": value for name, value in to_torch(reference("ggqpe")[0]).items()}
    torch.save({"state_dict_ema": None, "model": parameters}, tmp_path / "weights.pt")
    assert convert_checkpoint(tmp_path / "weights.pt", "posmlp_t", tmp_path / "out").group == "model"


def test_an_export_that_cannot_be(tmp_path, capsys):
    convert_checkpoint(FOLDER / "posmlp_ggqpe.npz", "posmlp_t", tmp_path / "run")
    arguments = [f"--source={tmp_path / 'run'}", f"--output={tmp_path / 'a.npz'}", "--weights=ema"]
    assert_refused(arguments, "the checkpoint of step 0 has no moving average", tmp_path, capsys)
    (tmp_path / "there.npz").write_bytes(b"mine")
    for file, message in (("there.npz", "is there already"), ("weights.h5", "unknown type"), ("out", "unknown type")):
        assert_refused([f"--source={tmp_path / 'run'}", f"--output={tmp_path / file}"], message, tmp_path, capsys)
    assert (tmp_path / "there.npz").read_bytes() == b"mine"


def test_a_model_without_published_names_has_no_channels_to_exchange(tmp_path):
    save_model(tmp_path / "model", "gmlp_s", create_model("gmlp_s", image_size=16, width=8, depth=1, num_classes=3))
    with pytest.raises(CheckpointError, match=r"there are no published checkpoints of a GMLP"):
        export_checkpoint(tmp_path / "model", tmp_path / "published.npz", channels="bgr")


def test_broken_and_hostile_pytorch_files(tmp_path, capsys, monkeypatch):
    torch = pytest.importorskip("torch", reason=WITHOUT_TORCH)
    monkeypatch.setenv("EVIL", str(tmp_path / "evil"))
    parameters = to_torch(reference("ggqpe")[0])
    torch.save({"state_dict": parameters, "extra": Evil()}, tmp_path / "hostile.pth")
    (tmp_path / "pickle.pth").write_bytes(pickle.dumps({"state_dict": Evil()}))
    torch.save({"state_dict": parameters}, tmp_path / "whole.pth")
    whole = (tmp_path / "whole.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    torch.save(parameters, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    old = (tmp_path / "old.pth").read_bytes()
    (tmp_path / "old_cut.pth").write_bytes(old[: len(old) // 2])
    (tmp_path / "text.pth").write_bytes(b"not a checkpoint at all" * 9)
    (tmp_path / "empty.pth").write_bytes(b"")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"state_dict": {"a": "text"}}, tmp_path / "text_inside.pth")
    torch.save({"state_dict": parameters | {1: torch.ones(2)}}, tmp_path / "numbered.pth")
    torch.save({"state_dict": parameters | {"head.weight": torch.eye(3).to_sparse()}}, tmp_path / "sparse.pth")
    messages = {
        "hostile": "is refused: it is truncated, or holds Python objects (",
        "pickle": "is refused",
        "cut": "is no PyTorch file, or a truncated one",
        "old_cut": "truncated",
        "text": "truncated",
        "empty": "is no PyTorch file",
        "list": "holds a list and should hold parameters by name",
        "text_inside": "no dense arrays of real numbers are a",
        "numbered": "no dense arrays of real numbers are 1",
        "sparse": "no dense arrays of real numbers are head.weight",
    }
    for name, message in messages.items():
        assert_refused([f"--source={tmp_path / name}.pth", "--model=posmlp_t"], message, tmp_path, capsys)
    assert not (tmp_path / "evil").exists()


def test_without_pytorch_the_error_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "weights.pth").write_bytes(b"anything")
    message = "weights.pth takes PyTorch, which is not installed: pip install posmlp-jax[torch]"
    assert_refused([f"--source={tmp_path / 'weights.pth'}", "--model=posmlp_t"], message, tmp_path, capsys)
