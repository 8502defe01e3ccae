"""The network as a plain function of tensors, and that as a graph, which runs without Python: TorchScript's or CUDA's."""

from __future__ import annotations

import json
import threading
import warnings
from collections.abc import Callable
from copy import deepcopy
from typing import TYPE_CHECKING, Any, TypeAlias

from cachetools import LRUCache

from lab.borrowed import torch

if TYPE_CHECKING:
    from torch import Tensor

GRAPH = 0.02  # a graph makes the same calls as the network: this much of the largest value is rounding
Part: TypeAlias = "tuple[Tensor, ...]"  # x_t, t and, where the network has classes, labels of some images
KEPT = 4  # CUDA graphs, one for each number of images: each holds its own memory
# torch allows one recording at a time in a process, and two threads must not write into the inputs of one.
ONE_AT_A_TIME = threading.Lock()
TRACING = threading.Lock()
_TRACED: LRUCache[Any, Any] = LRUCache(16)  # graphs by architecture
Eps: TypeAlias = "Callable[..., Tensor]"  # of a Part, taken apart


def eps_of(unet: Any, autocast: bool = False) -> Any:
    """A diffusers UNet as a module of tensors: eps (B, C, H, W) of x (B, C, H, W), t (B,) and labels (B,).

    autocast: it computes in bfloat16 as a training does.
    """

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unet, self.autocast = unet, autocast

        def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
            # without autocast's cache, whose cast weights a graph would keep for constants
            with torch.autocast(x.device.type, torch.bfloat16, enabled=self.autocast, cache_enabled=False):
                return self.unet(x, t, class_labels=labels).sample

    return Network()


def graph(network: Any, example: Part) -> Eps:
    """What `eps_of` made as a TorchScript graph for any number of images, or itself, with a warning, where that fails.

    torch never frees what it traced, 10 MB each: an architecture is traced once, and each network is a copy of that with
    its own weights.
    """
    key = (_architecture(network.unet), network.autocast, len(example))
    with TRACING, torch.no_grad():
        traced = _TRACED.get(key) or _trace(network, example)
        if traced is None:
            warnings.warn(
                "This network cannot become a graph; it runs without one, which is slower.", stacklevel=2
            )
            return network
        if key[0]:
            _TRACED[key] = traced
        own = deepcopy(traced)
        own.load_state_dict(network.state_dict())
        return own


def _architecture(unet: Any) -> str:
    """What decides the graph but for its inputs; empty for what is no network of diffusers."""
    config = dict(getattr(unet, "config", {}))
    return json.dumps([type(unet).__name__, str(unet.dtype), config], sort_keys=True) if config else ""


def _trace(network: Any, example: Part) -> Any:
    """None where the graph would be another function."""
    with warnings.catch_warnings():
        # of what a trace makes constant: shapes of the network, not of the batch
        warnings.simplefilter("ignore")
        try:
            traced: Any = torch.jit.trace(network, example, check_trace=False)
            same = _agree(traced, network, tuple(whole[:1] for whole in example))
        except RuntimeError:
            same = False
    return traced if same else None


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
