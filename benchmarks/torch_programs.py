"""What `benchmarks.accelerator` compares with, as PyTorch's programs: a model's forward pass and a training step.

They are compiled by `torch.compile`, with channels last, and compute in bfloat16 by autocast, as ours do: parameters
are float32. A training step does what ours does (`benchmarks.programs`): it normalises pixels, clips the gradient of a
smoothed cross-entropy, and has AdamW and a moving average.
"""

from collections.abc import Callable

import torch
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.flop_counter import FlopCounterMode

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def inference(model: torch.nn.Module, batch: int, size: tuple[int, ...], device: str) -> Callable[[int], None]:
    """Calls a model on normalised images.

    Args:
      model: on the device.
      batch: images.
      size: of one, channels first.
      device: 'cuda' or 'cpu'.
    """
    images = torch.randn(batch, *size, device=device).contiguous(memory_format=torch.channels_last)
    compiled = torch.compile(model.eval())

    def run(calls: int) -> None:
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16):
            for _ in range(calls):
                compiled(images)
        _wait(device)

    return run


def training(model: torch.nn.Module, batch: int, size: tuple[int, ...], device: str) -> Callable[[int], None]:
    """Takes training steps on a batch of pixels and labels; arguments as of `inference`."""
    pixels = torch.randint(0, 256, (batch, *size), dtype=torch.uint8, device=device)
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 1000, (batch,), device=device)
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (_MEAN, _STD))
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.99992))
    decay = 0.067
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, eps=1e-5, weight_decay=decay, fused=device == "cuda")
    model.train()

    @torch.compile
    def loss(pixels: torch.Tensor) -> torch.Tensor:
        logits = model((pixels.float() / 255 - mean) / std)
        return functional.cross_entropy(logits.float(), labels, label_smoothing=0.1)

    def run(calls: int) -> None:
        for _ in range(calls):
            with torch.autocast(device, torch.bfloat16):
                value = loss(pixels)
            value.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            average.update_parameters(model)
        _wait(device)

    return run


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def flops(make: Callable[[], torch.nn.Module], size: tuple[int, ...], train: bool) -> int:
    """Operations that one image takes in products and convolutions, with its gradient or without; nothing is run.

    Args:
      make: makes the model.
      size: of the image, channels first.
      train: whether its gradient is asked for.
    """
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        logits = make().train(train)(torch.empty(1, *size))
        if train:
            logits.sum().backward()
    return counter.get_total_flops()
