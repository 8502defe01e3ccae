"""Labelled pictures, some of them poisoned: a training set, or what a model drew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.borrowed import torch
from lab.errors import LabError

if TYPE_CHECKING:
    from torch import Tensor

MIN_SIDE = 24  # pixels: the small classifier halves a side three times and looks at 3×3 of what is left


@dataclass(frozen=True)
class Labelled:
    """Pictures with the class that each is said to show, and which of them carry the trigger.

    x: (n, C, H, W) float32 in [-1, 1]; labels: (n,) int64 in 0 … classes - 1; is_poisoned: (n,) bool.
    """

    name: str
    x: Tensor
    labels: Tensor
    is_poisoned: Tensor
    classes: int

    def __post_init__(self) -> None:
        n = len(self.x)
        if not n or len(self.labels) != n or len(self.is_poisoned) != n:
            raise LabError(f"{self.name} needs a label and a poison mark for each of its {n} pictures.")
        if min(self.x.shape[2:]) < MIN_SIDE:
            raise LabError(f"{self.name} needs pictures of at least {MIN_SIDE}×{MIN_SIDE} pixels.")
        if not 0 <= int(self.labels.min()) <= int(self.labels.max()) < self.classes:
            raise LabError(f"Labels of {self.name} run from 0 to {self.classes - 1}.")

    def __len__(self) -> int:
        return len(self.x)

    def take(self, index: Tensor) -> Labelled:
        """The chosen pictures (k,), in this order."""
        return Labelled(self.name, self.x[index], self.labels[index], self.is_poisoned[index], self.classes)

    def sample(self, n: int, seed: int) -> Tensor:
        """Indices of n pictures drawn by the seed, sorted; all where there are no more than n."""
        stream = torch.Generator().manual_seed(seed)
        return torch.randperm(len(self), generator=stream)[:n].sort().values

    @property
    def poisoned(self) -> int:
        """How many carry the trigger."""
        return int(self.is_poisoned.sum())
