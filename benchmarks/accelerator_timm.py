"""Measures one of timm's models on this machine's GPU, or on its CPU, for `benchmarks.accelerator`."""

import time
from typing import Any

if __name__ == "__main__":
    import os

    # Programs are compiled anew, as ours are, whatever was compiled before.
    os.environ.setdefault("TORCHINDUCTOR_FORCE_DISABLE_CACHES", "1")
    from posmlp_jax.command_line import begin_program

    begin_program()

import timm
import torch

from benchmarks.measuring import requested, seconds_a_call, tell
from benchmarks.torch_programs import flops, inference, training
from posmlp_jax.command_line import run_program
from posmlp_jax.errors import ConfigError, nearest


def describe(models: list[str]) -> None:
    """Tells the versions.

    Raises:
      ConfigError: for a name that timm does not know.
    """
    for name in models:
        if not timm.is_model(name):
            raise ConfigError(f"timm has no model '{name}'; {nearest(name, timm.list_models())}")
    tell(timm=timm.__version__, torch=torch.__version__, cuda=torch.cuda.is_available())


def measure(request: dict[str, Any]) -> None:
    """Tells all that is to be known of a model.

    Args:
      request: `model`, `program`, `batch`, `repeats` and `began`, as of ours; `device`, 'cuda' or 'cpu'.
    """
    device, train = request["device"], request["program"] == "train"
    torch.set_float32_matmul_precision("high")
    torch.manual_seed(0)
    model = timm.create_model(request["model"]).to(device, memory_format=torch.channels_last)
    size = model.default_cfg["input_size"]
    run = (training if train else inference)(model, request["batch"], size, device)
    begin = time.perf_counter()
    run(1)
    # The first call compiles, and computes once.
    tell(compile_seconds=time.perf_counter() - begin, first_step_seconds=time.time() - request["began"])
    seconds = seconds_a_call(run, request["repeats"])
    tell(seconds=seconds, memory_bytes=torch.cuda.max_memory_allocated() if device == "cuda" else None)
    timm.layers.set_fused_attn(False)  # Products by themselves are counted on all devices.
    tell(flops=request["batch"] * flops(lambda: timm.create_model(request["model"]), size, train))


def main(arguments: list[str] | None = None) -> None:
    del arguments
    request = requested()
    describe(request["models"]) if request["program"] == "describe" else measure(request)


if __name__ == "__main__":
    run_program(main, None)
