"""The lab beside the usual way: each case as a ratio within one run. BENCHMARKS.md holds the results of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lab.bench import costs, layers, machine, metrics, sampling, serving, startup, training
from lab.bench.base import Case, Timing, compare
from lab.variants import Options

__all__ = ["BENCHES", "STUDIES", "Case", "Timing", "compare", "machine"]

BENCHES: dict[str, Callable[[bool], Iterator[Case]]] = {
    "sampling": sampling.cases,
    "training": training.cases,
    "metrics": metrics.cases,
    "startup": startup.cases,
    "serving": serving.cases,
}
STUDIES: dict[str, Callable[[bool], Iterator[Options]]] = {"costs": costs.curves, "layers": layers.layers}
