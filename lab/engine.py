"""The network made ready for this device: number format, layout, graph, cores, and the reason in one line."""

from __future__ import annotations

import copy
import time
from typing import TYPE_CHECKING, Any

from lab import compiling
from lab.borrowed import torch
from lab.compiling import LARGEST, WORKSHOP, Blueprint
from lab.crew import cores, spread
from lab.graph import CudaGraph, Eps, Part, eps_of, graph
from lab.heap import keep
from lab.planes import plane_by_plane
from lab.precision import TOLERANCE, in_bfloat16, is_faster_in_bf16

if TYPE_CHECKING:
    from torch import Tensor

CHUNK = 64  # images a call of the network on a GPU
CPU_CHUNK = 32  # more does not fit the caches of a small CPU


class Denoiser:
    """eps(x_t, t) on this device.

    exact: plain float32, one image at a time, so that picture k is bit for bit the same whatever stands beside it. A GPU
    convolves float32 with TF32's ten bits unless it is told not to.
    Otherwise channels last, in bfloat16 where the device is fast at it and the answer stays within TOLERANCE, in chunks, so
    that memory is bounded. On a CPU the network becomes a graph, which runs without Python, and each core takes a share of
    the images, since cores that meet once a step wait less than cores that meet in every layer. What was compiled of it
    while nobody waited has fewer meetings; all cores work on one call of it, where that was measured to be faster.
    """

    def __init__(self, unet: Any, exact: bool = False, device: str | torch.device | None = None):
        self.device = torch.device(device or best_device())
        self.exact = exact
        self.bf16 = not exact and is_faster_in_bf16(self.device)
        self.rounding: float | None = None  # what bfloat16 changes of the predicted noise, where it was asked
        # MPS has no kernels for it; elsewhere convolutions would turn the layout round in every call
        self.layout = torch.contiguous_format if exact or self.device.type == "mps" else torch.channels_last
        self.cores = cores() if self.device.type == "cpu" and not exact else 1
        ready = unet.to(self.device) if exact else self.copy_of(unet)
        self.becomes_graph = self.device.type == "cpu" and not exact
        self.network: Eps = eps_of(ready)
        self.blueprint = Blueprint.drawn_from(ready, self.dtype, self.cores) if self.becomes_graph else None
        self.compiled = ""  # what came of compiling this network
        self.is_compiled = False
        if self.blueprint:
            self._take_compiled(ready, self.blueprint)
        if self.device.type == "cuda" and not exact:
            self.network = CudaGraph(self.network)

    def copy_of(self, unet: Any) -> Any:
        """Weights cast once, and not in every call as autocast does; the given network stays as it is."""
        ready = self._in_float32(unet)
        if not self.bf16:
            return ready
        self.rounding = in_bfloat16(ready)
        if self.rounding is not None and not self.rounding <= TOLERANCE:  # nor for what is no number
            self.bf16 = False
            return self._in_float32(unet)
        return plane_by_plane(ready) if self.device.type == "cpu" else ready

    def _in_float32(self, unet: Any) -> Any:
        ready = copy.deepcopy(unet).eval().requires_grad_(False)
        # Module.to, since diffusers' own complains about every cast that is not part of its loading
        torch.nn.Module.to(ready, dtype=torch.float32, memory_format=self.layout)  # pyright: ignore[reportCallIssue]  # missing in its stubs
        return torch.nn.Module.to(ready, self.device)

    def _take_compiled(self, ready: Any, blueprint: Blueprint) -> None:
        verdict = compiling.verdict(blueprint)
        if verdict is None:
            WORKSHOP.ask(blueprint)
            self.compiled = "not compiled yet"
        else:
            self.compiled = verdict.reason
            if verdict.used:
                self.network, self.becomes_graph = compiling.load(ready, blueprint), False
                self.is_compiled = True

    @property
    def dtype(self) -> torch.dtype:
        """What the network computes in."""
        return torch.bfloat16 if self.bf16 else torch.float32

    @property
    def reason(self) -> str:
        """One line on what runs and why, for the page's header."""
        where = {"cuda": "GPU", "mps": "Apple GPU", "cpu": "CPU"}[self.device.type]
        if self.exact:
            return f"{where}, exact: float32, one image at a time"
        cores = f", {self.cores} core{'s' * (self.cores > 1)}" if self.device.type == "cpu" else ""
        compiled = f"; {self.compiled}" if self.compiled else ""
        return f"{where}{cores}, {self._format()}{compiled}"

    def _format(self) -> str:
        """The number format, and why."""
        off = f"{self.rounding:.1%}" if self.rounding is not None else ""
        if self.bf16:
            return "bfloat16, which this device has" + f" (within {off} of float32)" * bool(off)
        if off:
            return f"float32, since this network in bfloat16 is {off} off, more than {TOLERANCE:.0%}"
        return "float32, since this device has no fast bfloat16"

    def __call__(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """Predicted noise (B, C, H, W) float32, for x (B, C, H, W), t (B,) and labels (B,) where the net has classes."""
        whole, size = self._inputs(x, t, labels), self._size(len(x))
        if self.becomes_graph:
            example = tuple(tensor[:size] for tensor in whole)
            self.network, self.becomes_graph = graph(self.network, example), False
        WORKSHOP.called = time.monotonic()
        keep()
        if self.exact:
            with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
                return spread(self.network, whole, size, self.cores)
        if not self.is_compiled:
            return spread(self.network, whole, size, self.cores)
        torch.set_num_threads(self.cores)  # a crew in this process makes one the number for new threads
        return spread(self.network, whole, size, 1)

    def _inputs(self, x: Tensor, t: Tensor, labels: Tensor | None) -> Part:
        x = x.to(self.dtype).contiguous(memory_format=self.layout)
        return (x, t) if labels is None else (x, t, labels)

    def _size(self, n: int) -> int:
        if self.exact:
            return 1
        if self.device.type != "cpu":
            return CHUNK
        if self.is_compiled:
            return -(-n // -(-n // LARGEST))  # equal calls
        return min(CPU_CHUNK, -(-n // self.cores))


def best_device() -> str:
    """cuda, mps or cpu: the fastest that is here."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
