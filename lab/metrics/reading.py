"""How like the training pictures images are, as a shipped reader reads them: confidence, and shares of the classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.borrowed import torch
from lab.metrics.base import Evidence, Metric, Score
from lab.metrics.pixel import wilson
from lab.metrics.reader import Reader

if TYPE_CHECKING:
    from torch import Tensor

CONFIDENT = 0.9


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
        """Largest of the classes' shares, with Wilson's 95 % interval."""
        reader = evidence.reader
        if reader is None:
            return None
        share, n = float(class_shares(reader, evidence.images).max()), len(evidence.images)
        low, high = wilson(round(share * n), n)
        name = f"commonest {reader.what}"
        return Score(name=name, value=share, low=low, high=high, n=n, extractor=reader.name)


def class_shares(reader: Reader, images: Tensor) -> Tensor:
    """Share of each class among images, (classes,)."""
    found, _ = reader.read(images)
    return torch.bincount(found, minlength=reader.classes).double() / len(found)
