"""Few channels on a CPU: channel by channel where pixel by pixel is slow.

With channels last a convolution is fast, but group norm and the sum with the embedding of t go over one pixel's channels
at a time. Where those are few they cost more than the convolution beside them, and more than turning the layout round.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lab.borrowed import torch

if TYPE_CHECKING:
    from torch import Tensor

NORMED = 4  # channels in a group: up to here group norm is slow (AMX, bfloat16); 8 gained nothing
SUMMED = 16  # channels of a block: up to here the sum is


def plane_by_plane(unet: Any) -> Any:
    """Let a diffusers UNet in channels last do both in planes, which changes no more than rounding; returns it."""
    for module in unet.modules():
        if isinstance(module, torch.nn.GroupNorm) and module.num_channels <= NORMED * module.num_groups:
            module.register_forward_pre_hook(_take_planes)
            module.register_forward_hook(_give_pixels)
        if (convolution := _before_the_sum(module)) and convolution.out_channels <= SUMMED:
            convolution.register_forward_hook(_give_planes)
    return unet


def _before_the_sum(module: Any) -> Any:
    """The convolution of a residual block to whose answer the embedding of t is added; None of any other module."""
    return module.conv1 if getattr(module, "time_emb_proj", None) is not None else None


def _take_planes(module: Any, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (given[0].contiguous(),)


def _give_planes(module: Any, given: Any, answer: Tensor) -> Tensor:
    return answer.contiguous()


def _give_pixels(module: Any, given: Any, answer: Tensor) -> Tensor:
    """But for the tokens of an attention, which have no rows and columns."""
    return answer.contiguous(memory_format=torch.channels_last) if answer.ndim == 4 else answer
