"""How well scores tell poisoned pictures from clean ones: the ROC curve, the area under it, and its interval."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.borrowed import torch
from lab.errors import LabError
from lab.metrics.base import Score
from lab.metrics.pixel import wilson

if TYPE_CHECKING:
    from torch import Tensor

CURVE = 101  # points of a curve that are kept
MOST = 3  # times the smaller group: what the area is worth at chance, and never taken to be worth more


def auroc(scores: Tensor, positive: Tensor) -> Score:
    """Share of pairs of a positive and a negative in which the positive's score is higher, ties count half.

    scores: (n,); positive: (n,) bool, some of each. The 95 % interval is Wilson's for a share with DeLong's variance
    (doi:10.2307/2531595): it stays within 0..1, and is no point where all pairs are right. Near there, the variance
    comes out too small, so the share is taken to stand on at most three times as many trials as the smaller group has.
    """
    value, variance = delong(scores, positive)
    fewer = min(int(positive.sum()), int((~positive).sum()))
    spread = value * (1 - value)
    trials = min(MOST * fewer, spread / variance) if spread and variance else fewer
    low, high = wilson(value * trials, trials)
    return Score(name="AUROC", value=value, low=low, high=high, n=len(scores))


def delong(scores: Tensor, positive: Tensor) -> tuple[float, float]:
    """The area under the ROC curve and DeLong's variance of it, by midranks (Sun and Xu 2014)."""
    _check(scores, positive)
    m, n = int(positive.sum()), int((~positive).sum())
    ranks = midranks(scores)
    above = (ranks[positive] - midranks(scores[positive])) / n  # share of negatives below each positive
    below = 1 - (ranks[~positive] - midranks(scores[~positive])) / m  # share of positives above each negative
    variance = sum(float(part.var()) / len(part) if len(part) > 1 else 0.0 for part in (above, below))
    return float(above.mean()), variance


def midranks(scores: Tensor) -> Tensor:
    """Ranks from 1 on, (n,) float64; equal scores share the mean of theirs."""
    _, inverse, counts = scores.unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    return (last - (counts.double() - 1) / 2)[inverse]


def curve(scores: Tensor, positive: Tensor) -> list[tuple[float, float]]:
    """False and true positive rates from (0, 0) to (1, 1), at most 101 of the curve's points, evenly chosen."""
    from torchmetrics.functional.classification import binary_roc

    _check(scores, positive)
    # the order alone matters; torchmetrics squeezes what is beyond 0..1
    ranks = midranks(scores) / (len(scores) + 1)
    false, true, _ = binary_roc(ranks, positive.long())
    kept = torch.linspace(0, len(false) - 1, min(CURVE, len(false))).round().long()
    return [(round(float(x), 5), round(float(y), 5)) for x, y in zip(false[kept], true[kept], strict=True)]


def _check(scores: Tensor, positive: Tensor) -> None:
    if not 0 < int(positive.sum()) < len(positive):
        raise LabError("An AUROC needs poisoned pictures and clean ones; here are only one kind.")
    if not torch.isfinite(scores).all():
        raise LabError("A detector gave scores that are no numbers; it was not measured.")
