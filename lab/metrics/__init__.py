"""The table of metrics. A new one is a class in a file here and a name in this table."""

from lab.metrics.base import Evidence, Metric, Score
from lab.metrics.pixel import MSE, PSNR, SSIM, Success
from lab.metrics.reading import Commonest, Confident, FeatureDistance
from lab.variants import Registry

METRICS: Registry[Metric] = Registry(
    "metric", Success, MSE, PSNR, SSIM, FeatureDistance, Confident, Commonest
)

__all__ = ["METRICS", "Evidence", "Metric", "Score"]
