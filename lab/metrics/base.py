"""A metric looks at evidence and gives a score that says how it was measured."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from lab.images import Images
from lab.metrics.reader import Reader
from lab.variants import Options, Variant

if TYPE_CHECKING:
    from torch import Tensor


class Score(Options):
    """A measured number with what it takes to read and repeat it."""

    name: str
    value: float
    n: int
    unit: str = ""
    low: float | None = None
    high: float | None = None
    extractor: str = ""
    reference: str = ""


class Extractor(Protocol):
    """A network whose features say how like one another two sets of images are."""

    @property
    def name(self) -> str:
        """As a score names it."""
        ...

    @property
    def distance(self) -> str:
        """What the Fréchet distance of its features is called: FID is that of one extractor only."""
        ...

    @property
    def identity(self) -> str:
        """Name and weights in a few letters: what was computed with other weights is never mistaken for it."""
        ...

    def features(self, images: Tensor) -> Tensor:
        """Features (n, d) float64 of images (n, C, H, W) in [-1, 1]; independent of order and batch size."""
        ...


@dataclass(frozen=True)
class Evidence:
    """Generated images and what they are held against.

    images: (n, C, H, W) in [-1, 1]; target: (C, H, W) in [-1, 1]; reference: real images to judge by;
    no_attack: mean MSE of the clean model's own samples to the target, 0..1 scale; reader: who reads this world;
    extractor: whose features are compared, the reader's own where none is named.
    """

    images: Tensor
    target: Tensor | None = None
    reference: Images | None = None
    no_attack: float | None = None
    reader: Reader | None = None
    extractor: Extractor | None = None

    @cached_property
    def pixels(self) -> Tensor:
        """Images on the 0..1 scale after rounding to 8 bits, float64: what a saved file holds."""
        return ((self.images.double().clamp(-1, 1) + 1) * 127.5).round() / 255

    @cached_property
    def target_pixels(self) -> Tensor:
        """Target on the 0..1 scale, not rounded, as the authors' code does."""
        assert self.target is not None
        return (self.target.double() / 2 + 0.5).clamp(0, 1)

    @cached_property
    def errors(self) -> Tensor:
        """Mean squared error of each image to the target, (n,) on the 0..1 scale."""
        return (self.pixels - self.target_pixels).square().flatten(1).mean(1)

    @property
    def compares_by(self) -> Extractor | None:
        """Whose features tell how near the images are to real ones; None where nobody can or nothing is there."""
        return (self.extractor or self.reader) if self.reference is not None else None

    @cached_property
    def features(self) -> Tensor:
        """Features of the images, (n, d); computed once for all metrics that look at them."""
        assert self.compares_by is not None
        return self.compares_by.features(self.images)


class Metric(Variant):
    """A number measured on generated images."""

    def measure(self, evidence: Evidence) -> Score | None:
        """The score, or None where this evidence does not allow it (no target, other images than digits)."""
        raise NotImplementedError
