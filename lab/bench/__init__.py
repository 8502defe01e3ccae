"""The lab beside the usual way: each case as a ratio within one run. BENCHMARKS.md holds the results of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lab.bench import machine, metrics, sampling, startup, training
from lab.bench.base import Case, Timing, compare

__all__ = ["BENCHES", "Case", "Timing", "compare", "machine"]

BENCHES: dict[str, Callable[[bool], Iterator[Case]]] = {
    "sampling": sampling.cases,
    "training": training.cases,
    "metrics": metrics.cases,
    "startup": startup.cases,
}
