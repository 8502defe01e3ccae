"""The network as it was before a training, which says what it predicts of clean images."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

from lab.crew import spread
from lab.graph import Eps, Part, eps_of, graph

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Teacher:
    """eps(x_t, t) of a copy that never changes, in the arithmetic of the training; on a CPU each core takes a share.

    There it becomes a graph, which says the same bit for bit and needs three quarters of the time. What was compiled
    meanwhile is not used: a training that is resumed has to hear the same.
    """

    def __init__(self, unet: Any, device: torch.device, bf16: bool, cores: int):
        twin = deepcopy(unet).eval().requires_grad_(False).to(device)
        self.network: Eps = eps_of(twin, bf16)
        self.cores, self.becomes_graph = cores, device.type == "cpu"

    def __call__(self, x_t: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """Predicted noise (B, C, H, W) float32, for x_t (B, C, H, W), t (B,) and labels (B,) where the net has classes."""
        whole: Part = (x_t, t) if labels is None else (x_t, t, labels)
        size = -(-len(t) // self.cores)
        if self.becomes_graph:
            example = tuple(tensor[:size] for tensor in whole)
            self.network, self.becomes_graph = graph(self.network, example), False
        return spread(self.network, whole, size, self.cores)
