"""Measure the lab's speed beside the usual way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from lab.bench import BENCHES, STUDIES, Case, compare, machine
from lab.bench.apart import rivals
from lab.bench.base import Seconds
from lab.borrowed import torch
from lab.engine import best_device
from lab.precision import is_faster_in_bf16
from lab.progress import Tick
from lab.variants import Options

REPEATS = 3


class BenchOptions(Options):
    """Which speeds to measure, and how thoroughly."""

    what: Literal["all", "sampling", "training", "metrics", "startup", "serving", "costs", "layers"] = Field(
        default="all", description="which part"
    )
    quick: bool = Field(default=False, description="less work in each case: minutes instead of an hour")
    repeats: int = Field(default=REPEATS, ge=1, le=100, description="timed runs of each way; medians count")


def bench(options: BenchOptions) -> Iterator[Tick | dict[str, Any]]:
    """Measure speed beside diffusers' pipelines, a plain training loop and torchmetrics, as ratios of one run.

    costs: how sampling grows with images, steps, pixels and parameters. layers: where the time of one call goes.
    """
    device = torch.device(best_device())
    peak = machine.peak(device, torch.bfloat16 if is_faster_in_bf16(device) else torch.float32)
    found: dict[str, list[dict[str, Any]]] = {"timings": [], **{name: [] for name in STUDIES}}
    names = [*BENCHES, *STUDIES] if options.what == "all" else [options.what]
    for k, name in enumerate(names):
        for case, rival in _cases(name, options.quick) if name in BENCHES else ():
            yield Tick(k, len(names), text=case.name)
            found["timings"].append(compare(case, options.repeats, peak, rival).model_dump(mode="json"))
        for row in STUDIES[name](options.quick) if name in STUDIES else ():
            yield Tick(k, len(names), text=f"{name}: {row.model_dump()['name']}")
            found[name].append(row.model_dump(mode="json"))
    yield {"machine": {**machine.describe(), "matmul GF/s": round(peak / 1e9, 1)}, **found}


def _cases(part: str, quick: bool) -> Iterator[tuple[Case, Seconds | None]]:
    """Each with what runs its rival in a process of its own, where it has one."""
    with rivals(part, quick) as apart:
        for k, case in enumerate(BENCHES[part](quick)):
            yield case, apart.of(k) if apart else None
