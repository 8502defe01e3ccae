"""The table of metrics. A new one is a class in a file here and a name in this table."""

from dataclasses import replace

from lab.metrics.base import Evidence, Extractor, Metric, Score
from lab.metrics.features import KID, FeatureDistance, FeatureMetric, Precision, Recall
from lab.metrics.perceptual import LPIPS
from lab.metrics.pixel import MSE, PSNR, SSIM, Remaining, Success
from lab.metrics.reading import Commonest, Confident
from lab.variants import Registry

METRICS: Registry[Metric] = Registry(
    "metric",
    Success,
    MSE,
    Remaining,
    PSNR,
    SSIM,
    LPIPS,
    FeatureDistance,
    KID,
    Precision,
    Recall,
    Confident,
    Commonest,
)

__all__ = ["METRICS", "Evidence", "Extractor", "Metric", "Score", "scores_of"]


def scores_of(evidence: Evidence, further: tuple[Extractor, ...] = ()) -> list[Score]:
    """Every score that this evidence allows; further extractors compare features too, as does the reader."""
    found = [metric().measure(evidence) for metric in METRICS.values()]
    for extractor in further:
        again = replace(evidence, extractor=extractor)
        found += [metric().measure(again) for metric in METRICS.values() if issubclass(metric, FeatureMetric)]
    return [score for score in found if score]
