"""How fast are the models on the GPU or TPU of this machine? `python -m benchmarks.accelerator`.

It takes jax, flax, optax, einops and jaxtyping, and no installation. Of each model the forward pass and a whole
training step of the recipe are measured, in bfloat16, on the first device, at several batches: examples a second,
memory, shares of what the device could do, seconds to compile and from the command to the end of the first step. Where
timm and torch are installed, models of timm have their turns in between, under torch.compile. No data are read.

Each measurement has a process of its own, so that one that runs out of memory costs only its line. The results are in
--output after each of them; the same command goes on from there. With matplotlib there is a picture as well.
"""

import argparse
import datetime
import importlib.util
import itertools
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    from posmlp_jax.command_line import begin_program

    begin_program()

from benchmarks.accelerator_report import TITLES, as_number, failure_of, label, rate, table
from benchmarks.measuring import ask
from posmlp_jax.command_line import CommandParser, field_value, run_program
from posmlp_jax.errors import ConfigError, nearest
from posmlp_jax.fused_branch import KERNELS
from posmlp_jax.models.registry import model_config
from posmlp_jax.paths import as_path
from posmlp_jax.writing import check_result, write_result

_OURS, _TIMM = "benchmarks.accelerator_ours", "benchmarks.accelerator_timm"
MODELS = ("posmlp_t", "posmlp_s", "posmlp_b", "gmlp_s", "posmlp_video_s")
TIMM_MODELS = ("swin_tiny_patch4_window7_224", "convnext_tiny", "gmlp_s16_224", "nest_tiny")
# Of images and of clips, which have 16 frames.
_BATCHES = {"image": (32, 128, 512), "video": (4, 16, 64)}


def plan(options: argparse.Namespace, kernels: Sequence[str], timm_models: Sequence[str]) -> list[dict[str, Any]]:
    """What is measured, in this order: our models and timm's in turns, so that whatever drifts meets both."""
    ours = [
        {"library": "posmlp_jax", "model": name, "kind": _kind(name, options.override), "kernel": kernel}
        for name, kernel in itertools.product(options.model, kernels)
    ]
    others = [{"library": "timm", "model": name, "kind": "image"} for name in timm_models]
    turns = list(filter(None, itertools.chain(*itertools.zip_longest(ours, others))))
    return [
        {"program": program, "batch": (options.batch or _BATCHES[model["kind"]])[place], **model}
        for program, place in itertools.product(options.program, range(len(options.batch or _BATCHES["image"])))
        for model in turns
    ]


def _kind(name: str, override: Sequence[str]) -> str:
    return model_config(name, **dict(map(field_value, override))).kind


def measure(line: Mapping[str, Any], options: argparse.Namespace, platform: str) -> dict[str, Any]:
    """A line of `plan` with what is found of it (`accelerator_ours.measure`), and `error` where that is not all."""
    request = {name: line[name] for name in ("program", "batch", "model")} | {"repeats": options.repeats}
    if line["library"] == "timm":
        device = "cuda" if platform == "gpu" else "cpu"
        return {**line, **ask(_TIMM, {**request, "device": device}, options.limit)}
    override = [*options.override, f"kernel={line['kernel']}"]
    return {**line, **ask(_OURS, {**request, "override": override}, options.limit)}


def _describe(options: argparse.Namespace) -> dict[str, Any]:
    """The device, JAX's version and what else decides the results.

    Raises:
      ConfigError: where there is no device, or a CPU that nobody has asked for.
    """
    # Not in this process: it would take most of a GPU's memory from the others.
    found = ask(_OURS, {"program": "describe"}, options.limit)
    if "error" in found:
        raise ConfigError(f"JAX finds no device: {found['error']}")
    if found["platform"] == "cpu" and not options.chosen:
        raise ConfigError(
            "JAX sees no GPU or TPU here; to measure this CPU all the same, give --model and --batch, as "
            "--model=posmlp_t --batch=1"
        )
    return {**found, "override": options.override, "repeats": options.repeats, "commit": _commit()}


def _commit() -> str | None:
    """What is checked out, with a `+` where files differ from it; None outside of a repository."""
    try:
        command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _timm_models(options: argparse.Namespace, machine: dict[str, Any]) -> list[str]:
    """Those of timm's models that can be measured here, and of which library versions; a line says why there are none.

    Raises:
      ConfigError: for a name that timm does not know.
    """
    if not options.timm:
        return []
    reason = None
    if missing := [name for name in ("timm", "torch") if importlib.util.find_spec(name) is None]:
        reason = f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed"
    elif machine["platform"] == "tpu":
        reason = "PyTorch is measured on GPUs and CPUs"
    else:
        found = ask(_TIMM, {"program": "describe", "models": options.timm}, options.limit)
        if "timm has no model" in found.get("error", ""):
            raise ConfigError(found["error"])
        if "error" in found:
            reason = found["error"]
        elif machine["platform"] == "gpu" and not found["cuda"]:
            reason = "PyTorch sees no GPU"
        else:
            machine |= {"timm": found["timm"], "torch": found["torch"]}
            return options.timm
    print(f"timm's models are left out: {reason}")
    return []


def _read(path: str, machine: Mapping[str, Any]) -> dict[str, Any]:
    """The results that there are so far, of the same things.

    Raises:
      ConfigError: for a file that is something else, or of another machine, version or setting.
    """
    if not as_path(path).exists():
        return {"machine": machine, "date": datetime.date.today().isoformat(), "lines": []}
    try:
        results = json.loads(as_path(path).read_text())
        before, _ = results["machine"], results["lines"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ConfigError(f"{path} is there, and no results of this benchmark; choose another --output") from error
    for name in {**before, **machine}:
        if before.get(name) != machine.get(name):
            raise ConfigError(
                f"{path} has results of {name} {before.get(name)}, and this is {machine.get(name)}; choose another "
                "--output, or delete it"
            )
    return results


def run(options: argparse.Namespace) -> dict[str, Any]:
    """All results, measured or found in `options.output`, which has each of them from when it is known."""
    machine = _describe(options)
    timm_models = _timm_models(options, machine)
    results = _read(options.output, machine)
    print(f"{machine['kind']}, jax {machine['jax']}; results go to {options.output}")
    if machine["platform"] == "cpu":
        print("this is a CPU: it has no roofline here, and its memory is not counted")
    if machine["compilation_cache"]:
        print(f"times to compile may be those of reading {machine['compilation_cache']}")
    # Elsewhere 'auto' is 'xla'.
    kernels = options.kernel or (("auto", "xla") if machine["platform"] == "tpu" else ("auto",))
    lines = plan(options, kernels, timm_models)
    for number, line in enumerate(lines, 1):
        done = _found(results, line)
        if done is None or "error" in done:
            results["lines"] = [each for each in results["lines"] if each is not done]
            results["lines"].append(done := measure(line, options, machine["platform"]))
            write_result(options.output, json.dumps(results, indent=1) + "\n")
        unit = "clips" if done["kind"] == "video" else "images"
        what = done["error"] if failure_of(done) else f"{as_number(rate(done))} {unit}/s"
        print(f"{number}/{len(lines)}  {label(done)}, {TITLES[done['program']]}, batch {done['batch']}: {what}")
    return {**results, "lines": [_found(results, line) for line in lines]}


def _found(results: Mapping[str, Any], line: Mapping[str, Any]) -> dict[str, Any] | None:
    """What results have of a line of `plan`."""
    return next((each for each in results["lines"] if line.items() <= each.items()), None)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line's options, checked."""
    parser = CommandParser("benchmarks.accelerator", __doc__)
    parser.add_argument("--model", metavar="NAMES", help=f"of ours ({','.join(MODELS)})")
    parser.add_argument("--override", action="append", default=[], metavar="FIELD=VALUE", help="a field of all of ours")
    parser.add_argument("--kernel", default="", metavar="NAMES", help="theirs (on TPUs auto,xla; else auto)")
    parser.add_argument("--timm", default=",".join(TIMM_MODELS), metavar="NAMES", help="of timm's; '' for none")
    parser.add_argument("--program", default="forward,train", metavar="NAMES", help="which of the two")
    parser.add_argument("--batch", metavar="NUMBERS", help="examples (32,128,512; of clips 4,16,64)")
    parser.add_argument("--repeats", type=int, default=20, help="how often each is timed (20)")
    parser.add_argument("--limit", type=float, default=1800, help="seconds that a measurement may take (1800)")
    parser.add_argument("--output", default="accelerator.json", metavar="FILE", help="the results (accelerator.json)")
    parser.add_argument("--figure", metavar="FILE", help="the picture (beside --output, .png)")
    options = parser.parse_args(arguments)
    # The defaults would take a CPU days.
    options.chosen = options.model is not None and options.batch is not None
    options.model = _names(",".join(MODELS) if options.model is None else options.model)
    options.timm, options.program = _names(options.timm), _names(options.program)
    options.batch = [_number("--batch", text) for text in _names(options.batch or "")]
    for name in options.program:
        if name not in TITLES:
            raise ConfigError(f"unknown program '{name}'; {nearest(name, TITLES)}")
    options.kernel = _names(options.kernel)
    for name in options.kernel:
        if name not in KERNELS:
            raise ConfigError(f"unknown kernel '{name}'; {nearest(name, KERNELS)}")
    if any(override.startswith("kernel=") for override in options.override):
        raise ConfigError("--override=kernel is --kernel here, which may name several")
    if not options.model or not options.program:
        raise ConfigError("--model and --program should name one or more")
    for name in options.model:
        model_config(name, **dict(map(field_value, options.override)))
    if options.repeats < 1 or not options.limit > 0:
        raise ConfigError("--repeats should be 1 or more, and --limit more than 0 seconds")
    check_result(options.output)
    options.figure = options.figure or f"{os.path.splitext(options.output)[0]}.png"
    if importlib.util.find_spec("matplotlib"):
        from posmlp_jax.figures import check_figure_path

        check_figure_path(options.figure, read=[options.output])
    return options


def _names(text: str) -> list[str]:
    return list(dict.fromkeys(filter(None, map(str.strip, text.split(",")))))


def _number(option: str, text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"{option} has '{text}', and should have whole numbers of 1 or more")
    return int(text)


def main(arguments: list[str] | None = None) -> int:
    """Measures, and prints and draws what is found; the exit code is 1 where nothing could be measured."""
    options = _parse(arguments)
    results = run(options)
    print(f"\n{table(results)}")
    if importlib.util.find_spec("matplotlib"):
        from benchmarks.accelerator_figure import draw
        from posmlp_jax.figures import save_figure

        save_figure(draw(results), options.figure)
    else:
        print("there is no picture: matplotlib is not installed")
    return int(all("seconds" not in line for line in results["lines"]))


if __name__ == "__main__":
    run_program(main, None, stopped="the same command goes on from what is in --output")
