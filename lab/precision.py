"""Number formats of a network: the one that this device computes it fastest in, and the layers that need float32."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from types import MethodType
from typing import TYPE_CHECKING, Any

from lab.borrowed import torch
from lab.crew import alone

if TYPE_CHECKING:
    from torch import Tensor

WORTH = 1.2  # times as fast as float32: less does not pay for bfloat16's rounding
ROUNDS = 8  # in turns; the fastest counts, since other work only ever slows one down
CHANNELS, SIDE, IMAGES = 64, 16, 8  # a convolution of about a millisecond, as small networks have
TOLERANCE = 0.02  # of the answer, root mean square: the shipped networks differ by less than a fifth of it
ASKED = 900, 500  # t at which a rounded network is asked: what is seen at one is nearly that at every other
HEAD = "conv_norm_out", "conv_out"  # of a diffusers UNet: what its answer comes from


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


def in_bfloat16(unet: Any) -> float | None:
    """Round the weights of a diffusers UNet, but not those of its last two layers; returns how much its answer differs.

    That is the root mean square of the difference over that of the answer, for noise; None for another kind of network,
    which is rounded as a whole and cannot be asked. What rounding adds to every pixel alike is taken from the last bias
    before: bias correction (arXiv:1906.04721, section 4.2).
    """
    if type(unet).__name__ != "UNet2DModel":
        unet.to(torch.bfloat16)
        return None
    said = _answer(unet)
    for name, part in unet.named_children():
        if name not in HEAD:
            torch.nn.Module.to(part, dtype=torch.bfloat16)
    difference = _answer(answer_in_float32(unet)) - said
    offset = difference.mean((0, 2, 3))
    unet.conv_out.bias -= offset
    return float((difference - offset.view(-1, 1, 1)).square().mean().sqrt() / said.square().mean().sqrt())


def _answer(unet: Any) -> Tensor:
    """What a UNet predicts of noise alone, (B, C, H, W) float32; the same noise in every call."""
    size, t = unet.config.sample_size, torch.tensor(ASKED, device=unet.device)
    sides = (size, size) if isinstance(size, int) else tuple(size)
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(len(t), unet.config.in_channels, *sides, generator=draw).to(unet.device, unet.dtype)
    labels = torch.zeros_like(t) if unet.config.num_class_embeds else None
    with torch.no_grad():
        return unet(x, t, class_labels=labels).sample.float()


def answer_in_float32(unet: Any) -> Any:
    """Let a diffusers UNet compute its last two layers in float32, whatever the others compute in; returns it.

    Rounding their weights to bfloat16 moves the predicted noise by the same few thousandths in every pixel, of every
    image and at every t. Sampling adds that up: faces came out in another colour. No other layer moves it as much.
    """
    for layer in (getattr(unet, name) for name in HEAD if hasattr(unet, name)):
        layer.forward = MethodType(_in_float32, layer)  # a deep copy binds it to its own layer
    return unet


def _in_float32(layer: Any, x: Tensor) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        return type(layer).forward(layer, x.float())
