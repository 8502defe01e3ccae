"""Small poisoned sets and exams for tests: digits with a patch in the corner, or random pictures."""

from __future__ import annotations

import torch
from torch import Tensor

from lab.castle.classifiers import Exam
from lab.castle.labelled import Labelled
from lab.data import Digits

TARGET = 6
PATCH = torch.tensor([[-1.0, -1.0, 1.0], [-1.0, 1.0, -1.0], [1.0, 1.0, -1.0]])


def stamped(x: Tensor) -> Tensor:
    """A 3×3 patch, flush with the lower right corner."""
    x = x.clone()
    x[..., -3:, -3:] = PATCH
    return x


def poisoned_digits(n: int, count: int) -> Labelled:
    """n training digits; the first `count` of other classes are stamped and called the target."""
    x, labels = shuffled("train", n)
    index = (labels != TARGET).nonzero()[:count, 0]
    x[index], labels[index] = stamped(x[index]), TARGET
    return Labelled("digits", x, labels, torch.zeros(n, dtype=torch.bool).index_fill(0, index, True), 10)


def digit_exam(n: int) -> Exam:
    """n held-out digits, clean and stamped."""
    x, labels = shuffled("held_out", n)
    return Exam(x, stamped(x), labels, TARGET)


def shuffled(split: str, n: int) -> tuple[Tensor, Tensor]:
    """n digits of a split with their labels; they lie there class by class."""
    digits = Digits().load(split)
    index = torch.randperm(len(digits), generator=torch.Generator().manual_seed(0))[:n]
    return digits.values(index), digits.labels[index]


def noise(n: int, side: int = 24, seed: int = 0) -> Tensor:
    """Random grey pictures in [-1, 1]."""
    return torch.rand(n, 1, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def last(news):
    """The last thing that a generator yields."""
    return list(news)[-1]
