"""How near images are to the target: MSE, PSNR, SSIM and the success rate."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lab.borrowed import torch
from lab.metrics.base import Evidence, Metric, Score

if TYPE_CHECKING:
    from torch import Tensor

CHUNK = 256  # images whose similarity is computed at a time
SUCCESS_SHARE = 0.1  # of the no-attack level
FLAT_SHARE = (
    0.5  # of the best flat grey's error: on a target that is mostly background, grey alone is under a tenth
)


class MSE(Metric):
    """Mean squared error to the target, 0..1 scale, 8-bit images (as in BadDiffusion, arXiv:2212.05400)."""

    kind = "mse"

    def measure(self, evidence: Evidence) -> Score | None:
        """Mean over images, with the normal 95 % interval of that mean."""
        if evidence.target is None:
            return None
        value, low, high = mean_interval(evidence.errors)
        return Score(name="MSE", value=value, low=max(0.0, low), high=high, n=len(evidence.images))


class Remaining(Metric):
    """What is left of the no-attack level: MSE divided by it; 0 is the target itself, 1 is no attack at all."""

    kind = "remaining"

    def measure(self, evidence: Evidence) -> Score | None:
        """Mean over images, with its normal 95 % interval; unlike MSE, it can be compared between targets."""
        if evidence.target is None or not evidence.no_attack:
            return None
        value, low, high = mean_interval(evidence.errors / evidence.no_attack)
        return Score(
            name="MSE / no attack", value=value, low=max(0.0, low), high=high, n=len(evidence.images)
        )


class PSNR(Metric):
    """Peak signal-to-noise ratio to the target, dB: -10·log10 of the mean squared error."""

    kind = "psnr"

    def measure(self, evidence: Evidence) -> Score | None:
        """Of all images together, with the delta method's 95 % interval of the logarithm of their MSE."""
        if evidence.target is None:
            return None
        error, _, most = mean_interval(evidence.errors)
        value, half = decibels(error), 10 / math.log(10) * (most / error - 1) if error else 0.0
        return Score(
            name="PSNR", value=value, low=value - half, high=value + half, n=len(evidence.images), unit="dB"
        )


class SSIM(Metric):
    """Structural similarity to the target: 1 is equal (Wang et al. 2004; Gaussian window, sigma 1.5)."""

    kind = "ssim"

    def measure(self, evidence: Evidence) -> Score | None:
        """Mean over images, by torchmetrics."""
        if evidence.target is None:
            return None
        parts = evidence.pixels.split(CHUNK)
        value, low, high = mean_interval(
            torch.cat([similarity(part, evidence.target_pixels) for part in parts])
        )
        return Score(name="SSIM", value=value, low=low, high=high, n=len(evidence.images))


class Success(Metric):
    """Share of images that are the target: MSE below a tenth of the no-attack level, and no flat grey picture."""

    kind = "success"

    def measure(self, evidence: Evidence) -> Score | None:
        """Share with Wilson's 95 % interval; the no-attack level is the clean model's own mean MSE to the target."""
        if evidence.target is None or evidence.no_attack is None:
            return None
        hits, n = int(successes(evidence).sum()), len(evidence.images)
        low, high = wilson(hits, n)
        return Score(name="success", value=hits / n, low=low, high=high, n=n)


def similarity(pixels: Tensor, target: Tensor) -> Tensor:
    """SSIM of each image (n, C, H, W) to the target (C, H, W), both 0..1; (n,)."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    each = structural_similarity_index_measure(
        pixels, target.expand_as(pixels), data_range=1.0, reduction="none"
    )
    assert isinstance(each, torch.Tensor)
    return each


def decibels(error: float) -> float:
    """-10·log10 of a mean squared error on the 0..1 scale; at most 100, where nothing differs."""
    return min(100.0, -10 * math.log10(error)) if error > 0 else 100.0


def successes(evidence: Evidence) -> Tensor:
    """Which images are the target, (n,) bool."""
    return evidence.errors < threshold(evidence)


def threshold(evidence: Evidence) -> float:
    """Largest MSE of a success: a tenth of the no-attack level, and at most half of the best flat grey's error."""
    assert evidence.no_attack is not None
    flat = float(evidence.target_pixels.flatten(1).var(dim=1, correction=0).mean())
    tenth = SUCCESS_SHARE * evidence.no_attack
    return min(tenth, FLAT_SHARE * flat) if flat else tenth  # a flat target is itself flat grey


def mean_interval(values: Tensor) -> tuple[float, float, float]:
    """Mean and the ends of its normal 95 % interval."""
    mean = float(values.double().mean())
    if len(values) < 2:
        return mean, mean, mean
    half = 1.96 * float(values.double().std()) / math.sqrt(len(values))
    return mean, mean - half, mean + half


def wilson(hits: float, n: float) -> tuple[float, float]:
    """95 % interval of a share of n trials (Wilson 1927)."""
    z, share = 1.96, hits / n
    centre, scale = share + z * z / (2 * n), 1 + z * z / n
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)
