"""Differences between scores, over the seeds of trained models, with what samples and seeds leave open."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean, stdev
from typing import Any, NamedTuple

ERRORS = 2.0  # standard errors that a difference must exceed


class Change(NamedTuple):
    """A difference, mean over the seeds, with its standard error, and how many models are behind it."""

    value: float
    error: float
    models: int

    @property
    def is_rise(self) -> bool:
        """Whether it is more than two standard errors above zero."""
        return self.value > ERRORS * self.error

    @property
    def is_fall(self) -> bool:
        """Whether it is more than two standard errors below zero."""
        return self.value < -ERRORS * self.error

    def said(self) -> str:
        """In points, with a 95 % interval."""
        return f"{100 * self.value:+.1f} ± {196 * self.error:.1f} points"


def changed(values: Sequence[float], errors: Sequence[float]) -> Change:
    """From a difference of each model and the standard error of its sample; seeds may differ by more than samples do."""
    sampled = math.sqrt(math.fsum(error * error for error in errors)) / len(errors)
    seeds = stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return Change(mean(values), max(sampled, seeds), len(values))


def error_of(score: dict[str, Any]) -> float:
    """The standard error behind a 95 % interval."""
    return (score["high"] - score["low"]) / (2 * 1.96)


def difference(pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> Change:
    """Second less first score of each model."""
    values = [second["value"] - first["value"] for first, second in pairs]
    return changed(values, [math.hypot(error_of(first), error_of(second)) for first, second in pairs])
