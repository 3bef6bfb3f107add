"""`benchmarks.accelerator`: what is told of programs, counted by hand, what goes on where it stopped, and mistakes."""

import importlib.util
import json
import math
import time

import jax
import pytest
from helpers import small
from matplotlib.colors import to_hex
from runs import run

from benchmarks import accelerator, accelerator_ours, measuring
from benchmarks.accelerator_figure import draw
from benchmarks.accelerator_report import find_chip_of, rate, shares, spread, table
from benchmarks.chips import CHIPS
from posmlp_jax.errors import ConfigError
from posmlp_jax.models.cost import model_cost

pytestmark = pytest.mark.heavy

TINY = small("posmlp_t")
OVERRIDES = [f"--override={field}={value}" for field, value in TINY.items()]


@pytest.fixture
def here(monkeypatch):
    """Has everything measured in this process; gives the requests that there were."""
    requests = []

    def ask(module, request, limit):
        requests.append(request)
        found = {}
        monkeypatch.setattr(accelerator_ours, "tell", lambda **facts: found.update(facts))
        if request["program"] == "describe":
            accelerator_ours.describe()
        else:
            accelerator_ours.measure({**request, "began": time.time()})
        return json.loads(json.dumps(found))

    monkeypatch.setattr(accelerator, "ask", ask)
    return requests


def test_what_is_told_of_programs(here, tmp_path, capsys):
    output = tmp_path / "new" / "results.json"
    arguments = ["--model=posmlp_t", *OVERRIDES, "--batch=2", "--repeats=2", "--timm=", f"--output={output}"]
    assert accelerator.main(arguments) == 0
    results = json.loads(output.read_text())
    machine = results["machine"]
    assert (machine["platform"], machine["jax"], machine["repeats"]) == ("cpu", jax.__version__, 2)
    forward, train = results["lines"]
    assert (forward["program"], train["program"]) == ("forward", "train")
    # Relations are made once for both images.
    assert forward["flops"] == pytest.approx(2 * 2 * model_cost("posmlp_t", **TINY)[1], rel=0.01)
    assert 2.5 * forward["flops"] < train["flops"] < 4 * forward["flops"]
    for line in results["lines"]:
        assert 0 < line["compile_seconds"] < line["first_step_seconds"]
        assert len(line["seconds"]) == 2
        assert line["memory_bytes"] is None
    printed = capsys.readouterr().out
    assert "1/2  posmlp_t, forward pass, batch 2: " in printed
    assert "A CPU: its memory is not counted" in printed
    assert (tmp_path / "new" / "results.png").read_bytes().startswith(b"\x89PNG")

    # The same command measures nothing again, but for what had failed.
    del here[:]
    assert accelerator.main(arguments) == 0
    assert [request["program"] for request in here] == ["describe"]
    forward["error"] = "killed by signal 9"
    output.write_text(json.dumps(results))
    assert accelerator.main(arguments) == 0
    assert [request["program"] for request in here[1:]] == ["describe", "forward"]
    assert json.loads(output.read_text())["lines"][0] == train

    # Another question is not answered from there.
    with pytest.raises(ConfigError, match="has results of repeats 2, and this is 3; choose another --output"):
        accelerator.main([*arguments, "--repeats=3"])
    output.write_text("[]")
    with pytest.raises(ConfigError, match="is there, and no results of this benchmark"):
        accelerator.main(arguments)


def test_a_line_that_fails_costs_no_other(here, tmp_path, capsys, monkeypatch):
    ask = accelerator.ask

    def fail(module, request, limit):
        if request["program"] == "forward":
            return {"compile_seconds": 3.0, "error": "out of memory: RESOURCE_EXHAUSTED: 153 GiB"}
        return {"seconds": [0.5]} if request["program"] == "train" else ask(module, request, limit)

    monkeypatch.setattr(accelerator, "ask", fail)
    arguments = ["--model=posmlp_t", "--batch=2", "--timm=", f"--output={tmp_path}/results.json"]
    assert accelerator.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "1/2  posmlp_t, forward pass, batch 2: out of memory" in printed
    assert "2/2  posmlp_t, training step, batch 2: 4.00 images/s" in printed
    assert "posmlp_t, forward, batch 2: out of memory: RESOURCE_EXHAUSTED: 153 GiB" in printed
    # Nothing but failures is one.
    assert accelerator.main([*arguments, "--program=forward"]) == 1


def test_the_program_itself():
    """With a device in a process of its own."""
    done = run("benchmarks.accelerator", "--timm=", program="-m")
    assert (done.code, done.output) == (2, "")
    assert done.error_lines[-1].startswith("error: JAX sees no GPU or TPU here; ")


def test_libraries_have_turns(monkeypatch):
    options = accelerator._parse(["--model=posmlp_t,posmlp_video_s", "--output=none.json"])
    lines = accelerator.plan(options, ["auto"], ["swin"])
    named = [(line["program"], line["model"], line["batch"]) for line in lines]
    assert named[:4] == [
        *(("forward", "posmlp_t", 32), ("forward", "swin", 32), ("forward", "posmlp_video_s", 4)),
        ("forward", "posmlp_t", 128),
    ]
    assert len(named) == len(set(named)) == 2 * 3 * 3
    both = [(line["model"], line.get("kernel")) for line in accelerator.plan(options, ["auto", "xla"], ["swin"])]
    assert both[:5] == [
        *(("posmlp_t", "auto"), ("swin", None), ("posmlp_t", "xla")),
        *(("posmlp_video_s", "auto"), ("posmlp_video_s", "xla")),
    ]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ('print(\'{"a": 1}\\nnoise\\n{"b": "x"}\')', {"a": 1, "b": "x"}),
        (
            "print('{\"a\": 1}', flush=True); import os; os.kill(os.getpid(), 9)",
            {"a": 1, "error": "killed by signal 9"},
        ),
        ("raise ValueError('no')", {"error": "ValueError: no"}),
        # Before what JAX says of tracebacks, and behind a warning that is none of it.
        (
            "import sys, jax; print('ran out of memory, no failure', file=sys.stderr); jax.jit(lambda x: {}['no'])(0)",
            {"error": "KeyError: 'no'"},
        ),
        ("import sys; sys.exit('error: RESOURCE_EXHAUSTED: x')", {"error": "out of memory: RESOURCE_EXHAUSTED: x"}),
        ("import time; print('{\"a\": 1}', flush=True); time.sleep(60)", {"a": 1, "error": "took more than 0.5 s"}),
        (
            "import json, sys; r = json.loads(sys.argv[1]); print(json.dumps({'b': r['a'], 'c': r['began'] > 0}))",
            {"b": [2], "c": True},
        ),
    ],
)
def test_a_process_of_its_own(script, expected, tmp_path, monkeypatch):
    (tmp_path / "child.py").write_text(script)
    monkeypatch.setattr(measuring, "_ROOT", tmp_path)
    assert measuring.ask("child", {"a": [2]}, 0.5 if "sleep" in script else 60) == expected


def test_timings(monkeypatch):
    """Short calls are made many times in a row, long ones once."""
    now, made = 0.0, []

    def run(calls):
        nonlocal now
        made.append(calls)
        now += 0.03 * calls

    monkeypatch.setattr(measuring.time, "perf_counter", lambda: now)
    assert measuring.seconds_a_call(run, 2, span=0.1) == pytest.approx([0.03, 0.03])
    assert made == [1, 4, 4]


def line(model: str, program: str, batch: int, **facts) -> dict:
    whose = {"library": "posmlp_jax", "kernel": "auto"} if model.startswith("posmlp") else {"library": "timm"}
    times = {"compile_seconds": 60.0, "first_step_seconds": 75.0}
    return {"model": model, "program": program, "batch": batch, "kind": "image", **whose, **times, **facts}


def results(kind: str) -> dict:
    """Of a GPU that was never here."""
    one = {"seconds": [0.1, 0.2, 0.2, 0.2, 0.3], "memory_bytes": 2**31}
    lines = [
        line("posmlp_t", "forward", 64, **one, flops=19.8e12, moved_bytes=0.48e12),
        line("swin", "forward", 64, **one, flops=9.9e12),
        line("posmlp_t", "train", 64, error="out of memory: 99 GiB", flops=1),
        line("posmlp_t", "forward", 128, **one, flops=19.8e12, moved_bytes=0.48e12),
        line("posmlp_t", "forward", 64, **one, flops=19.8e12, moved_bytes=0.96e12, kernel="xla"),
    ]
    machine = {"platform": "gpu", "kind": kind, "jax": "0.11.2", "timm": "1.0", "torch": "2.11", "repeats": 5}
    return {"machine": machine, "date": "2026-01-31", "lines": lines}


@pytest.mark.parametrize("columns", ["80", "200"])
def test_the_table(columns, monkeypatch):
    """20 ms of a data sheet's arithmetic and 100 ms of its bandwidth in 200 ms; no name is cut in a narrow terminal."""
    monkeypatch.setenv("COLUMNS", columns)
    found = results("NVIDIA H200")
    ours, theirs, *_ = found["lines"]
    assert (rate(ours), spread(ours)) == (320, 0)
    assert shares(ours, CHIPS["cuda-h200"]) == pytest.approx({"arithmetic": 0.1, "bandwidth": 0.5})
    assert shares(theirs, CHIPS["cuda-h200"]) == pytest.approx({"arithmetic": 0.05})
    head, *rows = [row for row in table(found).splitlines()[:7] if row]
    assert head.split() == ["batch", "examples/s", "±", "GiB", "arithmetic", "bandwidth", "compile", "first", "step"]
    assert [row.split() for row in rows] == [
        ["forward", "pass", "posmlp_t", "64", "320", "0.0", "%", "2.00", "10", "%", "50", "%", "60", "s", "75", "s"],
        ["128", "640", "0.0", "%", "2.00", "10", "%", "50", "%", "60", "s", "75", "s"],
        ["posmlp_t,", "xla", "64", "320", "0.0", "%", "2.00", "10", "%", "100", "%", "60", "s", "75", "s"],
        ["swin", "64", "320", "0.0", "%", "2.00", "5", "%", "60", "s", "75", "s"],
        ["training", "step", "posmlp_t", "64", "out", "of", "memory", "60", "s", "75", "s"],
    ]
    assert "posmlp_t, train, batch 64: out of memory: 99 GiB" in table(found)
    assert "2026-01-31; in bfloat16, images or clips\n" in table(found)
    found["machine"]["override"] = ["dtype=float32", "depths=(1,1,1,1)"]
    assert "in bfloat16, ours with dtype=float32 depths=(1,1,1,1), images" in table(found)
    unknown = table(results("NVIDIA A100-SXM4-40GB"))
    assert "bandwidth" not in unknown.splitlines()[0]
    assert "no data sheet of 'NVIDIA A100-SXM4-40GB'" in unknown


def test_every_chip_is_found_by_its_own_names():
    assert find_chip_of("TPU v5 lite") == CHIPS["tpu-v5e"]
    names = [kind for chip in CHIPS.values() for kind in chip.kinds]
    assert all(chip.kinds for chip in CHIPS.values())
    assert len(names) == len(set(names))


def test_the_picture():
    figure = draw(results("NVIDIA H200"))
    rates, memory, roofline = figure.axes  # The training step, which was never measured, has no row.
    assert [axis.get_title(loc="left") for axis in figure.axes] == [
        "forward pass: examples/s",
        "forward pass: memory in use (GiB)",
        "forward pass: share of the roofline (%)",
    ]
    ours, xla, theirs = rates.get_lines()
    assert (xla.get_label(), xla.get_linestyle(), xla.get_color()) == ("posmlp_t, xla", ":", ours.get_color())
    assert (list(ours.get_xdata()), list(ours.get_ydata())) == ([64, 128], [320, 640])
    assert (ours.get_linestyle(), theirs.get_linestyle()) == ("-", "--")
    assert to_hex(ours.get_color()) != to_hex(theirs.get_color())
    assert list(roofline.get_lines()[0].get_ydata()) == pytest.approx([50, 50])
    assert len(roofline.get_lines()) == 2
    assert len(memory.get_lines()) == 3
    assert draw({**results("NVIDIA H200"), "lines": []})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model=posmlp_q"], "unknown model 'posmlp_q'; did you mean 'posmlp_"),
        (["--model="], "should name one or more"),
        (["--override=width=3"], "width"),
        (["--batch=8,0"], "--batch has '0', and should have whole numbers of 1 or more"),
        (["--program=training"], "unknown program 'training'; did you mean 'train'"),
        (["--kernel=palas"], "unknown kernel 'palas'; did you mean 'pallas'"),
        (["--override=kernel=xla"], "--override=kernel is --kernel here"),
        (["--repeats=0"], "--repeats should be 1 or more"),
        (["--repeats=x"], "invalid int value"),
        (["--output=/dev/null/x.json"], "cannot write /dev/null/x.json"),
        (["--figure=x.jsn"], "cannot draw 'x.jsn'"),
        ([], "JAX sees no GPU or TPU here; to measure this CPU all the same, give --model and --batch"),
    ],
)
def test_mistakes(arguments, message, here, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        accelerator.main(arguments)
    assert [request["program"] for request in here] == ([] if arguments else ["describe"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("platform", "told", "said"),
    [
        ("gpu", {"cuda": True, "timm": "1.0", "torch": "2.11"}, ""),
        ("gpu", {"cuda": False, "timm": "1.0", "torch": "2.11"}, "PyTorch sees no GPU"),
        ("gpu", {"error": "ImportError: libtorch.so"}, "ImportError: libtorch.so"),
        ("tpu", {}, "PyTorch is measured on GPUs and CPUs"),
    ],
)
def test_where_timm_takes_part(platform, told, said, monkeypatch, capsys):
    monkeypatch.setattr(accelerator, "ask", lambda *request: told)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    machine = {"platform": platform}
    options = accelerator._parse(["--timm=swin", "--output=none.json"])
    assert accelerator._timm_models(options, machine) == ([] if said else ["swin"])
    assert capsys.readouterr().out == (f"timm's models are left out: {said}\n" if said else "")
    assert (machine.get("timm") is None) == bool(said)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    accelerator._timm_models(options, machine)
    assert capsys.readouterr().out == "timm's models are left out: timm and torch are not installed\n"


def test_a_name_that_timm_does_not_know(monkeypatch):
    monkeypatch.setattr(accelerator, "ask", lambda *request: {"error": "timm has no model 'swn'; did you mean 'swin'?"})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    with pytest.raises(ConfigError, match="timm has no model 'swn'; did you mean 'swin'"):
        accelerator._timm_models(accelerator._parse(["--timm=swn", "--output=none.json"]), {"platform": "gpu"})


def test_what_torch_is_asked(monkeypatch):
    """PyTorch's programs, of a network with one of each kind of layer, without their compiler, which takes a minute."""
    torch = pytest.importorskip("torch")
    from benchmarks import torch_programs

    monkeypatch.setattr(torch, "compile", lambda function: function)

    def network():
        layers = torch.nn.Conv2d(3, 4, 2, stride=2), torch.nn.Flatten(), torch.nn.Linear(4 * 16, 1000)
        return torch.nn.Sequential(*layers)

    macs = 16 * 4 * 3 * 4 + 64 * 1000
    assert torch_programs.flops(network, (3, 8, 8), train=False) == 2 * macs
    # The gradient by the weights as much again, and by what the second layer is given.
    assert torch_programs.flops(network, (3, 8, 8), train=True) == 2 * (2 * macs + 64 * 1000)

    torch.manual_seed(0)
    model = network()
    before = [parameter.clone() for parameter in model.parameters()]
    seen = []
    model.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0], output)))
    torch_programs.training(model, 4, (3, 8, 8), "cpu")(2)
    # The first steps of AdamW at 1e-3 move each parameter by about as much.
    moved = max((after - old).abs().max().item() for old, after in zip(before, model.parameters(), strict=True))
    assert 1e-3 < moved < 3e-3
    assert [output.dtype for _, output in seen] == [torch.bfloat16] * 2
    # Normalised: whatever a channel has, 0 to 255 spans 1/std.
    span = seen[0][0].amax((0, 2, 3)) - seen[0][0].amin((0, 2, 3))
    assert span.tolist() == pytest.approx([1 / std for std in (0.229, 0.224, 0.225)], rel=0.1)
    torch_programs.inference(model, 4, (3, 8, 8), "cpu")(3)
    assert len(seen) == 5
    assert not seen[-1][1].requires_grad
    assert math.isfinite(float(seen[-1][1].float().sum()))
