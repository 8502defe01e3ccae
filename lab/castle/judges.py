"""Two judges of a picture: is the stamp on it, and is it the class that was asked for. Both err; how often is measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from lab.borrowed import torch
from lab.errors import LabError
from lab.images import Images
from lab.metrics.pixel import wilson
from lab.stamps import Stamp
from lab.triggers import shape_of
from lab.variants import Options

if TYPE_CHECKING:
    from torch import Tensor

NOISE = 0.02  # variance of a pixel that a generated picture may be off by; real ones are never off, and would mislead
CONTRAST = 0.5  # white of a patch above its black, on the 0..1 scale: between no patch, 0, and a clean one, 1
SHOWN_TO = 2000  # training pictures that a discriminant learns from


class Rate(Options):
    """A share of held-out pictures on which a judge did something, with Wilson's 95 % interval."""

    hits: int
    n: int
    value: float
    low: float
    high: float

    @classmethod
    def of(cls, marks: Tensor) -> Rate:
        """Of marks (n,) bool."""
        hits, n = int(marks.sum()), len(marks)
        low, high = wilson(hits, n)
        return cls(hits=hits, n=n, value=hits / n, low=low, high=high)


class Reads(Protocol):
    """Whoever tells the classes apart."""

    @property
    def name(self) -> str:
        """As a result names it."""
        ...

    def classes_of(self, x: Tensor) -> Tensor:
        """The class (n,) of each picture (n, C, H, W) in [-1, 1]."""
        ...


@dataclass(frozen=True)
class TriggerJudge:
    """Whether a stamp is on a picture: a weighted sum of its pixels above a threshold."""

    name: str
    weights: Tensor  # (C, H, W)
    threshold: float

    @classmethod
    def of(cls, stamp: Stamp, clean: Images) -> TriggerJudge:
        """Pixel matching for an opaque patch, a linear discriminant learned from clean training pictures for a blend."""
        if bool((stamp.opacity(clean.shape) == 1).any()):
            return cls("pixel matching", _contrast(stamp, clean.shape), CONTRAST)
        return _discriminant(stamp, clean.values(_spread(len(clean))))

    def sees(self, x: Tensor) -> Tensor:
        """(n,) bool for pictures (n, C, H, W) in [-1, 1]."""
        return self.scores(x) > self.threshold

    def scores(self, x: Tensor) -> Tensor:
        """(n,) for pictures (n, C, H, W) in [-1, 1]."""
        return x.flatten(1).double() @ self.weights.flatten().double()


def _contrast(stamp: Stamp, shape: tuple[int, int, int]) -> Tensor:
    """Mean of the patch's white pixels less that of its black ones, on the 0..1 scale."""
    covered, pattern = stamp.opacity(shape).expand(shape) == 1, stamp.draw(shape)
    white, black = covered & (pattern > 0), covered & (pattern <= 0)
    return (white / white.sum() - black / black.sum().clamp(min=1)) / 2


def _discriminant(stamp: Stamp, clean: Tensor) -> TriggerJudge:
    """Fisher's linear discriminant between pictures and the same ones stamped, at equal error in the middle.

    weights = (Σ + noise)⁻¹·(difference of means), Σ the mean covariance of both (Fisher 1936, Annals of Eugenics 7:179).
    """
    sides = [side.flatten(1).double() for side in (clean, stamp.stamp(clean))]
    means = [side.mean(0) for side in sides]
    spread = torch.stack([torch.cov(side.T) for side in sides]).mean(0)
    noise = NOISE * torch.eye(len(spread), dtype=torch.float64)
    weights = torch.linalg.solve(spread + noise, means[1] - means[0])
    return TriggerJudge(
        "linear discriminant", weights.view(shape_of(clean)), float(weights @ (means[0] + means[1]) / 2)
    )


def _spread(n: int) -> Tensor:
    """Indices of at most SHOWN_TO of n pictures, evenly spaced: a data set may be sorted."""
    return torch.linspace(0, n - 1, min(n, SHOWN_TO)).long()


class Errors(Options):
    """How often both judges are right and wrong, on held-out real pictures, plain and stamped.

    sees_stamped, sees_plain: the trigger judge's true and false positive rate. reads_*: of pictures of each class, how
    often that class is read (pooled over the classes). mistakes_*: how often a picture of another class is read as the
    target. A generated picture is not a real one, so that true errors may be larger.
    """

    trigger_judge: str
    match_judge: str
    sees_stamped: Rate
    sees_plain: Rate
    reads_stamped: Rate
    reads_plain: Rate
    mistakes_stamped: Rate
    mistakes_plain: Rate


def measured(trigger: TriggerJudge, match: Reads, stamp: Stamp, target: int, held_out: Images) -> Errors:
    """Both judges on held-out pictures with their true labels, plain and with the stamp on."""
    if held_out.labels is None:
        raise LabError("Judges are measured on pictures with classes; these have none.")
    plain = held_out.values()
    stamped, foreign = stamp.stamp(plain), held_out.labels != target
    found = {"plain": match.classes_of(plain), "stamped": match.classes_of(stamped)}
    return Errors(
        trigger_judge=trigger.name,
        match_judge=match.name,
        sees_stamped=Rate.of(trigger.sees(stamped)),
        sees_plain=Rate.of(trigger.sees(plain)),
        **{f"reads_{how}": Rate.of(read == held_out.labels) for how, read in found.items()},
        **{f"mistakes_{how}": Rate.of(read[foreign] == target) for how, read in found.items()},
    )
