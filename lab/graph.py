"""The network as a plain function of tensors, and that as a graph, which runs without Python: TorchScript's or CUDA's."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from lab.borrowed import torch

if TYPE_CHECKING:
    from torch import Tensor

GRAPH = 0.02  # a graph makes the same calls as the network: this much of the largest value is rounding
Part: TypeAlias = "tuple[Tensor, ...]"  # x_t, t and, where the network has classes, labels of some images
KEPT = 4  # CUDA graphs, one for each number of images: each holds its own memory
# torch allows one recording at a time in a process, and two threads must not write into the inputs of one.
ONE_AT_A_TIME = threading.Lock()
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


class CudaGraph:
    """The network's kernels recorded once for a number of images, and replayed in one launch.

    A small network leaves a GPU waiting for Python in every layer; inputs are copied to where the recording reads them.
    """

    def __init__(self, network: Eps):
        self.network = network
        self.recorded: dict[int, tuple[torch.cuda.CUDAGraph, Part, Tensor]] = {}

    def __call__(self, *part: Tensor) -> Tensor:
        """eps of the images, as the network itself gives it."""
        with ONE_AT_A_TIME:
            return self._replayed(part)

    def _replayed(self, part: Part) -> Tensor:
        n = len(part[0])
        if n not in self.recorded:
            if len(self.recorded) == KEPT:
                self.recorded.clear()
            self.recorded[n] = self._record(part)
        recording, inputs, output = self.recorded[n]
        for kept, new in zip(inputs, part, strict=True):
            kept.copy_(new)
        recording.replay()
        return output.clone()

    def _record(self, part: Part) -> tuple[torch.cuda.CUDAGraph, Part, Tensor]:
        inputs = tuple(whole.clone() for whole in part)
        here, aside = torch.cuda.current_stream(), torch.cuda.Stream()
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            self.network(*inputs)  # kernels choose their algorithms before they are recorded
        here.wait_stream(aside)
        recording = torch.cuda.CUDAGraph()
        # memory that other threads take meanwhile is none of this recording's business, and would break a global one
        with torch.cuda.graph(recording, capture_error_mode="thread_local"):
            output = self.network(*inputs)
        return recording, inputs, output
