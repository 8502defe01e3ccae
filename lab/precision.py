"""The number format that a network computes fastest in on this device."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

from lab.borrowed import torch
from lab.crew import alone

if TYPE_CHECKING:
    from torch import Tensor

WORTH = 1.2  # times as fast as float32: less does not pay for bfloat16's rounding
ROUNDS = 8  # in turns; the fastest counts, since other work only ever slows one down
CHANNELS, SIDE, IMAGES = 64, 16, 8  # a convolution of about a millisecond, as small networks have


def is_faster_in_bf16(device: torch.device) -> bool:
    """Whether this device computes a network faster in bfloat16 than in float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and _has_bf16() and _cpu_is_faster()


def _has_bf16() -> bool:
    """Whether this processor has instructions for it; where it has none there is nothing to measure."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


@lru_cache(maxsize=1)
def _cpu_is_faster() -> bool:
    """Measured once a process, for having it says nothing about speed.

    A Xeon whose AMX a virtual machine hides multiplies bfloat16 half as fast as float32; and where ONEDNN_MAX_CPU_ISA
    keeps oneDNN from using the instructions, a tenth as fast.
    """
    with alone(), torch.no_grad():
        ours, theirs = _convolution(torch.bfloat16), _convolution(torch.float32)
        pairs = [(_seconds(ours), _seconds(theirs)) for _ in range(ROUNDS)]
    bf16, fp32 = map(min, zip(*pairs, strict=True))
    return fp32 >= WORTH * bf16


def _convolution(dtype: torch.dtype) -> Callable[[], Tensor]:
    """A layer at work, called once: the first call makes it ready."""
    weight = torch.zeros(CHANNELS, CHANNELS, 3, 3, dtype=dtype)
    x = torch.zeros(IMAGES, CHANNELS, SIDE, SIDE, dtype=dtype)
    x, weight = (each.contiguous(memory_format=torch.channels_last) for each in (x, weight))

    def convolve() -> Tensor:
        return torch.nn.functional.conv2d(x, weight, padding=1)

    convolve()
    return convolve


def _seconds(convolve: Callable[[], Tensor]) -> float:
    begun = time.perf_counter()
    convolve()
    return time.perf_counter() - begun
