"""What this machine is, and how fast it can multiply: the limit that every network runs against."""

from __future__ import annotations

import os
import platform
import statistics
from typing import TYPE_CHECKING, Any

from lab.bench.base import timed
from lab.borrowed import torch
from lab.engine import best_device
from lab.precision import is_faster_in_bf16

if TYPE_CHECKING:
    from torch import device, dtype

SIDE = 2048  # of the matrices: large enough that nothing but the multiplication counts


def describe() -> dict[str, Any]:
    """Processor, cores, device and library, as a result carries them."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": best_device(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "bf16": is_faster_in_bf16(torch.device(best_device())),
        "isa": os.environ.get("ONEDNN_MAX_CPU_ISA", ""),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def peak(where: device, kind: dtype, repeats: int = 5) -> float:
    """Measured matmul operations a second of this device in this number format: the median of some products."""
    a, b = (torch.randn(SIDE, SIDE, device=where, dtype=kind) for _ in range(2))

    def product() -> None:
        (a @ b).sum().item()  # a GPU answers before it is done; reading one number waits for it

    product()
    return 2 * SIDE**3 / statistics.median(timed(product) for _ in range(repeats))
