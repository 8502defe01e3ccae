"""How near generated images are to real ones in an extractor's features: Fréchet distance, KID, precision, recall."""

from __future__ import annotations

import math
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

from cachetools import LRUCache, cached

from lab.borrowed import torch
from lab.metrics.base import Evidence, Metric, Score
from lab.metrics.pixel import wilson
from lab.metrics.real import named, real_features, score

if TYPE_CHECKING:
    from torch import Tensor

    from lab.images import Images
    from lab.metrics.base import Extractor

FLAT = 1e-10  # of the largest eigenvalue: below it is what float64 makes of 0
SUBSETS, SUBSET = 100, 1000  # of KID (arXiv:1801.01401)
NEIGHBOURS = 3  # of precision and recall (arXiv:1904.06991)
BLOCK = 2000  # rows whose distances to all others are in memory at a time


class FeatureMetric(Metric):
    """A metric that compares features of generated and real images."""


class FeatureDistance(FeatureMetric):
    """Fréchet distance of features to held-out pictures: FID on Inception's, feature distance on a shipped reader's."""

    kind = "feature_distance"

    def measure(self, evidence: Evidence) -> Score | None:
        """The distance, at least two images on each side; 95 % interval by the delta method.

        Few images make it larger than it is with many: its bias falls as 1/n (arXiv:1911.07023).
        """
        extractor, reference = evidence.compares_by, evidence.reference
        if extractor is None or reference is None or min(len(evidence.images), len(reference)) < 2:
            return None
        real, found = _real(extractor, reference), evidence.features
        value = float(frechet_distance(Gaussian.of(found), real))
        half = 1.96 * standard_error(found, real)
        ends = max(0.0, value - half), value + half
        return score(extractor.distance, value, *ends, len(found), extractor, reference)


class KID(FeatureMetric):
    """Kernel distance of features (arXiv:1801.01401): unbiased, so that it can be read with few images too."""

    kind = "kid"

    def measure(self, evidence: Evidence) -> Score | None:
        """Mean over 100 subsets of at most 1,000 images, from a fixed seed; the interval is their spread."""
        extractor, reference = evidence.compares_by, evidence.reference
        if extractor is None or reference is None or min(len(evidence.images), len(reference)) < 2:
            return None
        from torch_fidelity.metric_kid import kid_features_to_metric

        found, real = evidence.features, real_features(extractor, reference)
        size = min(SUBSET, len(found), len(real))
        result = kid_features_to_metric(
            found, real, kid_subsets=SUBSETS, kid_subset_size=size, rng_seed=0, verbose=False
        )
        value = result["kernel_inception_distance_mean"]
        half = 1.96 * result["kernel_inception_distance_std"]
        name = "KID" if extractor.distance == "FID" else "kernel distance"
        return score(name, value, value - half, value + half, len(found), extractor, reference)


class Precision(FeatureMetric):
    """Share of generated images that lie among real ones, by features (improved precision, arXiv:1904.06991)."""

    kind = "precision"

    def measure(self, evidence: Evidence) -> Score | None:
        """Share whose nearest real image has it within reach of its third neighbour; Wilson's interval."""
        return _share(evidence, self.kind)


class Recall(FeatureMetric):
    """Share of real images that lie among generated ones, by features (improved recall, arXiv:1904.06991)."""

    kind = "recall"

    def measure(self, evidence: Evidence) -> Score | None:
        """Share whose nearest generated image has it within reach of its third neighbour; Wilson's interval."""
        return _share(evidence, self.kind)


def _share(evidence: Evidence, kind: str) -> Score | None:
    extractor, reference = evidence.compares_by, evidence.reference
    if extractor is None or reference is None or min(len(evidence.images), len(reference)) <= NEIGHBOURS:
        return None
    found, real = evidence.features, real_features(extractor, reference)
    inside = within(found, real) if kind == "precision" else within(real, found)
    ends = wilson(int(inside.sum()), len(inside))
    return score(kind, float(inside.double().mean()), *ends, len(found), extractor, reference)


def within(points: Tensor, others: Tensor) -> Tensor:
    """Which points (n, d) lie within reach of one of the others (m, d): as near as its third neighbour is; (n,) bool."""
    nth = NEIGHBOURS + 1  # a point's nearest neighbour is itself
    reach = torch.cat([torch.cdist(part, others).kthvalue(nth).values for part in others.split(BLOCK)])
    return torch.cat([(torch.cdist(part, others) <= reach).any(dim=1) for part in points.split(BLOCK)])


@dataclass(frozen=True)
class Gaussian:
    """Mean (…, d) and covariance (…, d, d) of features."""

    mean: Tensor
    covariance: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Gaussian:
        """The Gaussian that fits features (…, n, d)."""
        features = features.double()
        mean = features.mean(-2)
        centred = features - mean.unsqueeze(-2)
        return cls(mean, centred.mT @ centred / (features.shape[-2] - 1))


@cached(LRUCache(8), key=named, lock=Lock())
def _real(extractor: Extractor, images: Images) -> Gaussian:
    return Gaussian.of(real_features(extractor, images))


def frechet_distance(a: Gaussian, b: Gaussian) -> Tensor:
    """|mean_a - mean_b|² + trace(Σ_a + Σ_b - 2·(Σ_a Σ_b)^½) (arXiv:1706.08500), (…) for many a and one b.

    The trace of the root is taken of Σ_b^½ Σ_a Σ_b^½, which has the same eigenvalues and is symmetric.
    """
    values, vectors = torch.linalg.eigh(b.covariance)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.mT
    cross = torch.linalg.eigvalsh(root @ a.covariance @ root).clamp(min=0).sqrt().sum(-1)
    traces = (c.diagonal(dim1=-2, dim2=-1).sum(-1) for c in (a.covariance, b.covariance))
    return ((a.mean - b.mean).square().sum(-1) + sum(traces) - 2 * cross).clamp(min=0)


def standard_error(features: Tensor, real: Gaussian) -> float:
    """Standard error of the Fréchet distance of features (n, d) to the real side, by the delta method.

    The distance is a smooth function of mean and covariance, and each image moves both a little: the deviation of these
    influences over √n. The derivative by Σ is I - Σ_r^½ (Σ_r^½ Σ Σ_r^½)^-½ Σ_r^½, on the space where Σ is not zero.
    """
    ours = Gaussian.of(features)
    values, vectors = torch.linalg.eigh(real.covariance)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.mT
    values, vectors = torch.linalg.eigh(root @ ours.covariance @ root)
    kept = values > values.max() * FLAT
    inverse = vectors[:, kept] * values[kept].rsqrt() @ vectors[:, kept].mT
    slope = torch.eye(len(root), dtype=root.dtype) - root @ inverse @ root
    centred = features - ours.mean
    influence = centred @ (2 * (ours.mean - real.mean)) + ((centred @ slope) * centred).sum(1)
    return float(influence.std()) / math.sqrt(len(features))
