"""How digit-like images are, judged by the shipped digit reader: feature distance, confidence, shares of digits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.borrowed import torch
from lab.data import Images
from lab.metrics import reader
from lab.metrics.base import Evidence, Metric, Score
from lab.metrics.pixel import wilson

if TYPE_CHECKING:
    from torch import Tensor

CONFIDENT = 0.9


class FeatureDistance(Metric):
    """Fréchet distance between digit-reader features of generated and held-out digits; not FID, other features."""

    kind = "feature_distance"

    def measure(self, evidence: Evidence) -> Score | None:
        """Distance on the reader's 64 features; at least two images on each side."""
        if not _are_digits(evidence) or evidence.reference is None or len(evidence.images) < 2:
            return None
        real = _real(evidence.reference)
        value = frechet_distance(Gaussian.of(reader.features(evidence.images)), real)
        reference = f"{len(evidence.reference)} images, sha256 {evidence.reference.digest()}"
        return Score(
            name="feature distance",
            value=value,
            n=len(evidence.images),
            extractor=reader.NAME,
            reference=reference,
        )


class Confident(Metric):
    """Share of images that the digit reader reads with confidence above 0.9."""

    kind = "confident"

    def measure(self, evidence: Evidence) -> Score | None:
        """Share with Wilson's 95 % interval."""
        if not _are_digits(evidence):
            return None
        _, confidence = reader.read(evidence.images)
        hits, n = int((confidence > CONFIDENT).sum()), len(confidence)
        low, high = wilson(hits, n)
        return Score(name="confident digits", value=hits / n, low=low, high=high, n=n, extractor=reader.NAME)


class Commonest(Metric):
    """Share of the commonest digit: one tenth means that all ten are drawn equally often."""

    kind = "commonest"

    def measure(self, evidence: Evidence) -> Score | None:
        """Largest of the ten shares."""
        if not _are_digits(evidence):
            return None
        share = digit_shares(evidence.images).max()
        return Score(
            name="commonest digit", value=float(share), n=len(evidence.images), extractor=reader.NAME
        )


def _are_digits(evidence: Evidence) -> bool:
    return tuple(evidence.images.shape[1:]) == reader.SHAPE


def digit_shares(images: Tensor) -> Tensor:
    """Share of each digit among images, (10,)."""
    digit, _ = reader.read(images)
    return torch.bincount(digit, minlength=10).double() / len(digit)


@dataclass(frozen=True)
class Gaussian:
    """Mean (d,) and covariance (d, d) of features."""

    mean: Tensor
    covariance: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Gaussian:
        """The Gaussian that fits features (n, d)."""
        features = features.double()
        return cls(features.mean(0), torch.cov(features.T))


_KNOWN: dict[
    str, Gaussian
] = {}  # the real side by the sha256 of its pixels: few, small, and asked for again and again


def _real(images: Images) -> Gaussian:
    name = images.digest()
    if name not in _KNOWN:
        _KNOWN[name] = Gaussian.of(reader.features(images.values()))
    return _KNOWN[name]


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """|mean_a - mean_b|² + trace(Σ_a + Σ_b - 2·(Σ_a Σ_b)^½) of two sets' features (arXiv:1706.08500)."""
    cross = torch.linalg.eigvals(a.covariance @ b.covariance).sqrt().real.sum()
    distance = (a.mean - b.mean).square().sum() + a.covariance.trace() + b.covariance.trace() - 2 * cross
    return max(0.0, float(distance))
