"""Where the time of one call goes, layer by layer, beside what this machine can multiply: a roofline in words."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lab.bench import machine
from lab.bench.base import timed
from lab.bench.sampling import MODEL
from lab.borrowed import torch
from lab.compiling import EXAMPLE
from lab.engine import Denoiser
from lab.models import Checkpoint, load
from lab.precision import is_faster_in_bf16
from lab.variants import Options

if TYPE_CHECKING:
    from torch import Tensor, nn

ROUNDS = 20
REST = "between the layers: activations, sums, joins, attention"


class Layer(Options):
    """All layers of a sort and an image size: their share of a call, and how close to the limit they run."""

    name: str
    count: int
    time_share: float  # of the whole call
    operations: float  # of all of them in one call
    per_byte: float  # operations a byte that is read or written: few means that memory is the limit
    peak_share: float  # of this machine's measured matmul peak


@dataclass
class _Sum:
    seconds: float = 0.0
    operations: float = 0.0
    bytes: float = 0.0
    modules: set[str] = field(default_factory=set)


def layers(quick: bool) -> Iterator[Layer]:
    """Of the shipped clean model on one core of the CPU, without a graph; the slowest first."""
    threads, where = torch.get_num_threads(), torch.device("cpu")
    torch.set_num_threads(1)
    try:
        peak = machine.peak(where, torch.bfloat16 if is_faster_in_bf16(where) else torch.float32)
        sums, whole = measure(load(MODEL), ROUNDS // 4 if quick else ROUNDS)
    finally:
        torch.set_num_threads(threads)
    sums[REST] = _Sum(seconds=whole - sum(found.seconds for found in sums.values()))
    for name, found in sorted(sums.items(), key=lambda item: -item[1].seconds):
        yield Layer(
            name=name,
            count=len(found.modules),
            time_share=found.seconds / whole,
            operations=found.operations,
            per_byte=found.operations / found.bytes if found.bytes else 0.0,
            peak_share=found.operations / found.seconds / peak,
        )


def measure(checkpoint: Checkpoint, rounds: int) -> tuple[dict[str, _Sum], float]:
    """Sums by sort of layer for one call, and the seconds of the whole call, as means over the rounds."""
    ready = Denoiser(checkpoint.unet, device="cpu")
    unet, x, t = (
        ready.copy_of(checkpoint.unet),
        torch.randn(EXAMPLE, *checkpoint.shape),
        torch.arange(EXAMPLE),
    )
    x = x.to(ready.dtype).contiguous(memory_format=ready.layout)
    sums: dict[str, _Sum] = defaultdict(_Sum)
    with torch.no_grad():
        unet(x, t)
        watches = [each for name, module in _leaves(unet) for each in _watch(name, module, sums)]
        whole = timed(lambda: [unet(x, t) for _ in range(rounds)]) / rounds
        for watch in watches:
            watch.remove()
    for found in sums.values():
        found.seconds, found.operations, found.bytes = (
            value / rounds for value in (found.seconds, found.operations, found.bytes)
        )
    return sums, whole


def _leaves(unet: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, module in unet.named_modules():
        if not list(module.children()) and any(True for _ in module.parameters()):
            yield name, module


def _watch(name: str, module: nn.Module, sums: dict[str, _Sum]) -> tuple[Any, Any]:
    """Hooks that time a layer's calls and count what it computes and moves."""
    begun = 0.0

    def before(module: nn.Module, inputs: Any) -> None:
        nonlocal begun
        begun = time.perf_counter()

    def after(module: nn.Module, inputs: Any, output: Tensor) -> None:
        found = sums[sort_of(module, output)]
        found.seconds += time.perf_counter() - begun
        found.operations += operations(module, output)
        found.bytes += sum(each.nbytes for each in (inputs[0], output, *module.parameters()))
        found.modules.add(name)

    return module.register_forward_pre_hook(before), module.register_forward_hook(after)


def sort_of(module: nn.Module, output: Tensor) -> str:
    """Kind of layer, size of its kernel and of its pictures."""
    kernel = getattr(module, "kernel_size", None)
    words = [type(module).__name__, f"{kernel[0]}×{kernel[1]}" if kernel else ""]
    if output.ndim == 4:
        words.append(f"to {output.shape[-2]}×{output.shape[-1]} pixels")
    return " ".join(word for word in words if word)


def operations(module: nn.Module, output: Tensor) -> float:
    """Multiplications and additions of a convolution or a linear layer: two for each weight and output pixel."""
    weight = module.get_parameter("weight")
    # a norm has none
    return 2.0 * weight.numel() * output.numel() / weight.shape[0] if weight.ndim > 1 else 0.0
