"""How like the training pictures images are, judged by a shipped reader: feature distance, confidence, shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.borrowed import torch
from lab.metrics.base import Evidence, Metric, Score
from lab.metrics.pixel import wilson
from lab.metrics.reader import Reader

if TYPE_CHECKING:
    from torch import Tensor

    from lab.data import Images

CONFIDENT = 0.9


class FeatureDistance(Metric):
    """Fréchet distance between a reader's features of generated and held-out pictures; not FID, other features."""

    kind = "feature_distance"

    def measure(self, evidence: Evidence) -> Score | None:
        """Distance on the reader's 64 features; at least two images on each side."""
        reader, reference = evidence.reader, evidence.reference
        if reader is None or reference is None or len(evidence.images) < 2:
            return None
        found = Gaussian.of(reader.features(evidence.images))
        return Score(
            name="feature distance",
            value=frechet_distance(found, _real(reader, reference)),
            n=len(evidence.images),
            extractor=reader.name,
            reference=f"{len(reference)} images, sha256 {reference.digest()}",
        )


class Confident(Metric):
    """Share of images that the reader reads with confidence above 0.9."""

    kind = "confident"

    def measure(self, evidence: Evidence) -> Score | None:
        """Share with Wilson's 95 % interval."""
        reader = evidence.reader
        if reader is None:
            return None
        _, confidence = reader.read(evidence.images)
        hits, n = int((confidence > CONFIDENT).sum()), len(confidence)
        low, high = wilson(hits, n)
        name = f"confident {reader.what}s"
        return Score(name=name, value=hits / n, low=low, high=high, n=n, extractor=reader.name)


class Commonest(Metric):
    """Share of the commonest digit, or face: one tenth means that all ten digits are drawn equally often."""

    kind = "commonest"

    def measure(self, evidence: Evidence) -> Score | None:
        """Largest of the classes' shares."""
        reader = evidence.reader
        if reader is None:
            return None
        share, n = float(class_shares(reader, evidence.images).max()), len(evidence.images)
        return Score(name=f"commonest {reader.what}", value=share, n=n, extractor=reader.name)


def class_shares(reader: Reader, images: Tensor) -> Tensor:
    """Share of each class among images, (classes,)."""
    found, _ = reader.read(images)
    return torch.bincount(found, minlength=reader.classes).double() / len(found)


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


# The real side by reader and sha256 of its pixels: few, small, and asked for again and again.
_KNOWN: dict[tuple[str, str], Gaussian] = {}


def _real(reader: Reader, images: Images) -> Gaussian:
    key = reader.name, images.digest()
    if key not in _KNOWN:
        _KNOWN[key] = Gaussian.of(reader.features(images.values()))
    return _KNOWN[key]


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """|mean_a - mean_b|² + trace(Σ_a + Σ_b - 2·(Σ_a Σ_b)^½) of two sets' features (arXiv:1706.08500)."""
    cross = torch.linalg.eigvals(a.covariance @ b.covariance).sqrt().real.sum()
    distance = (a.mean - b.mean).square().sum() + a.covariance.trace() + b.covariance.trace() - 2 * cross
    return max(0.0, float(distance))
