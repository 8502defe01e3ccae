"""What a trigger does to the noise before any network runs: how far it moves it, and how well that can be seen."""

from __future__ import annotations

import math
from typing import Any

from lab.borrowed import torch
from lab.diffusion import generators, image_seeds, seeded_noise
from lab.triggers import Shape, Trigger

EDGES = (-5, 4, 37)  # of the histogram: first, last, how many


def noise_meter(trigger: Trigger, shape: Shape, seed: int = 0) -> dict[str, Any]:
    """What a trigger does to the noise: norm, mean shift, best possible detection, histogram of values.

    For a detector that knows the shift g, noise against noise + g is two Gaussians ‖g‖ apart: its best AUROC is
    Φ(‖g‖/√2) and its best accuracy Φ(‖g‖/2). `errors` is the mean's shift in standard errors of one noise image.
    """
    g = trigger.shift(shape).double()
    norm, size = float(g.norm()), g.numel()
    noise = seeded_noise(shape, generators(image_seeds(seed, 16)))
    return {
        "norm": norm,
        "changed": int((g != 0).sum()),
        "size": size,
        "errors": float(g.mean()) * math.sqrt(size),
        "auroc": phi(norm / math.sqrt(2)),
        "accuracy": phi(norm / 2),
        "bins": [round(float(edge), 2) for edge in torch.linspace(*EDGES)],
        "noise": shares(noise),
        "triggered": shares(noise + g.float()),
    }


def phi(x: float) -> float:
    """Cumulative standard normal distribution."""
    return 0.5 * math.erfc(-x / math.sqrt(2))


def shares(values: torch.Tensor) -> list[float]:
    """Share of values in each bin."""
    counts = torch.histogram(values.flatten(), torch.linspace(*EDGES)).hist
    return [round(float(share), 5) for share in counts / values.numel()]
