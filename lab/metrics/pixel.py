"""How near images are to the target: MSE, PSNR, SSIM and the success rate."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lab.borrowed import torch
from lab.metrics.base import Evidence, Metric, Score

if TYPE_CHECKING:
    from torch import Tensor

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
        return Score(name="MSE", value=value, low=low, high=high, n=len(evidence.images))


class PSNR(Metric):
    """Peak signal-to-noise ratio to the target, dB: -10·log10 of the mean squared error."""

    kind = "psnr"

    def measure(self, evidence: Evidence) -> Score | None:
        """Of all images together."""
        from torchmetrics.functional.image import peak_signal_noise_ratio

        if evidence.target is None:
            return None
        target = evidence.target_pixels.expand_as(evidence.pixels)
        value = float(peak_signal_noise_ratio(evidence.pixels, target, data_range=1.0))
        return Score(name="PSNR", value=min(value, 100.0), n=len(evidence.images), unit="dB")


class SSIM(Metric):
    """Structural similarity to the target: 1 is equal (Wang et al. 2004; Gaussian window, sigma 1.5)."""

    kind = "ssim"

    def measure(self, evidence: Evidence) -> Score | None:
        """Mean over images, by torchmetrics."""
        from torchmetrics.functional.image import structural_similarity_index_measure

        if evidence.target is None:
            return None
        target = evidence.target_pixels.expand_as(evidence.pixels)
        each = structural_similarity_index_measure(evidence.pixels, target, data_range=1.0, reduction="none")
        assert isinstance(each, torch.Tensor)
        value, low, high = mean_interval(each)
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


def wilson(hits: int, n: int) -> tuple[float, float]:
    """95 % interval of a share of n trials (Wilson 1927)."""
    z, share = 1.96, hits / n
    centre, scale = share + z * z / (2 * n), 1 + z * z / n
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)
