"""A case: our way and a rival's way through the same work, timed in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from lab.variants import Options

Seconds: TypeAlias = "Callable[[], float]"  # of a run


def nothing() -> None:
    """Most runs need no preparation."""


@dataclass(frozen=True)
class Case:
    """The same work done twice: by the lab, and as a user of the usual library would write it."""

    name: str
    rival_name: str
    ours: Callable[[], Any]
    rival: Callable[[], Any]
    before_ours: Callable[[], None] = nothing  # outside the time of a run
    before_rival: Callable[[], None] = nothing
    work: int = 1  # units that one run does
    unit: str = "runs"
    is_cold: bool = False  # every run is a process of its own, so that there is nothing to warm up
    flops: float = 0.0  # floating-point operations of one run, where the matmul peak is its limit
    check: Callable[[], dict[str, float]] | None = None  # how far the two results are apart
    notes: dict[str, Any] = field(default_factory=dict)


class Timing(Options):
    """Medians of one case, as rates and as a ratio."""

    name: str
    rival: str
    unit: str
    ours: float  # units a second
    rivals: float
    ratio: float  # how many times as fast as the rival
    low: float  # smallest and largest ratio of a pair of runs
    high: float
    repeats: int
    peak_share: float | None = None  # of the machine's measured matmul peak
    notes: dict[str, Any] = {}


def timed(run: Callable[[], Any]) -> float:
    """Seconds of one run."""
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def compare_once(case: Case, rival: Seconds | None = None) -> tuple[float, float]:
    """Seconds of one run of each."""
    case.before_ours()
    ours = timed(case.ours)
    case.before_rival()
    return ours, rival() if rival else timed(case.rival)


def compare(case: Case, repeats: int, peak: float = 0.0, rival: Seconds | None = None) -> Timing:
    """Time both in turns, so that a noisy neighbour disturbs both alike; the first run of a process only warms up.

    peak: matmul operations a second of this machine; 0 where it is no limit of this case.
    rival: what runs the rival elsewhere; without it, it runs in this process.
    """
    if not case.is_cold:
        compare_once(case, rival)
    pairs = [compare_once(case, rival) for _ in range(repeats)]
    ours, rivals = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratios = [rival / our for our, rival in pairs]
    return Timing(
        name=case.name,
        rival=case.rival_name,
        unit=case.unit,
        ours=case.work / ours,
        rivals=case.work / rivals,
        ratio=statistics.median(ratios),
        low=min(ratios),
        high=max(ratios),
        repeats=repeats,
        peak_share=case.flops / ours / peak if case.flops and peak else None,
        notes={**case.notes, **(case.check() if case.check else {})},
    )
