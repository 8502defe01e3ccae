"""The network as a plain function of tensors, and that as a TorchScript graph, which runs without Python."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from lab.borrowed import torch

if TYPE_CHECKING:
    from torch import Tensor

GRAPH = 0.02  # a graph makes the same calls as the network: this much of the largest value is rounding
Part: TypeAlias = "tuple[Tensor, ...]"  # x_t, t and, where the network has classes, labels of some images
Eps: TypeAlias = "Callable[..., Tensor]"  # of a Part, taken apart


def eps_of(unet: Any) -> Eps:
    """A diffusers UNet as a plain function of tensors: eps (B, C, H, W) of x (B, C, H, W), t (B,) and labels (B,)."""

    def eps(x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        return unet(x, t, class_labels=labels).sample

    return eps


def graph(network: Eps, example: Part) -> Eps:
    """The network as a TorchScript graph for any number of images, or itself, with a warning, where that fails."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # of what a trace makes constant: shapes of the network, not of the batch
        try:
            traced: Any = torch.jit.trace(network, example, check_trace=False)
            same = _agree(traced, network, tuple(whole[:1] for whole in example))
        except RuntimeError:
            same = False
    if same:
        return traced
    warnings.warn("This network cannot become a graph; it runs without one, which is slower.", stacklevel=2)
    return network


def _agree(traced: Eps, network: Eps, inputs: Part) -> bool:
    """Whether both give the same for these inputs: a trace may have made the number of images a constant."""
    found, wanted = traced(*inputs), network(*inputs)
    return bool((found - wanted).abs().max() <= GRAPH * wanted.abs().max().clamp(min=1))
