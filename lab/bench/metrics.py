"""Feature distance beside torchmetrics' FID with the same extractor, fed image batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lab.bench.base import Case
from lab.borrowed import torch
from lab.data import Digits
from lab.metrics.base import Evidence
from lab.metrics.features import FeatureDistance
from lab.metrics.reader import DIGITS, features_by

if TYPE_CHECKING:
    from torch import Tensor

BATCH = 100


def cases(quick: bool) -> Iterator[Case]:
    """Ten thousand images against the held-out digits."""
    n = 2_000 if quick else 10_000
    digits, held_out = Digits().load("train"), Digits().load("held_out")
    draw = torch.Generator().manual_seed(0)
    picks = digits.values(torch.randint(len(digits), (n,), generator=draw))
    images = (picks + 0.05 * torch.randn(picks.shape, generator=draw)).clamp(-1, 1)
    real = held_out.values()

    def ours() -> float:
        """With evidence of its own each time: it keeps the features of its images."""
        score = FeatureDistance().measure(Evidence(images, reference=held_out, reader=DIGITS))
        assert score is not None
        return score.value

    yield Case(
        name=f"feature distance, {n:,} images",
        rival_name="torchmetrics FrechetInceptionDistance, same extractor",
        ours=ours,
        rival=lambda: by_torchmetrics(images, real),
        work=n,
        unit="images",
        check=lambda: {"difference of the two distances": abs(ours() - by_torchmetrics(images, real))},
    )


def by_torchmetrics(images: Tensor, real: Tensor) -> float:
    """The same distance as torchmetrics computes it."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    fid = FrechetInceptionDistance(feature=extractor())
    for side, whole in ((True, real), (False, images)):
        for batch in whole.split(BATCH):
            fid.update(batch, real=side)
    return float(fid.compute())


def extractor() -> torch.nn.Module:
    """The digit reader's features as a module of its own, in the form that torchmetrics takes."""

    class Features(torch.nn.Module):
        num_features = 64

        def __init__(self) -> None:
            super().__init__()
            self.reader = DIGITS.shipped()

        def train(self, mode: bool = True) -> Features:
            return super().train(False)  # torchmetrics leaves it in training mode, where batch norms drift

        def forward(self, images: Tensor) -> Tensor:
            return features_by(self.reader, images)

    return Features()
