"""STRIP: a trigger decides, whatever else is laid over the picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from pydantic import Field

from lab.borrowed import torch
from lab.castle.detection.base import Detector, Suspicion
from lab.progress import Tick

if TYPE_CHECKING:
    from torch import Tensor

CHUNK = 100  # pictures that one overlay is laid over at a time


class Strip(Detector):
    """STRIP: answers that stay certain under other pictures laid on top are suspect (arXiv:1902.06531)."""

    kind = "strip"
    overlays: int = Field(
        default=100, ge=1, le=1000, description="pictures of the set laid over each, one at a time"
    )

    def scores(self, given: Suspicion) -> Iterator[Tick | Tensor]:
        """Minus the mean entropy of the answers, nats; the same overlays for every picture, drawn by the seed."""
        data, classifier, found = given.data, given.classifier, []
        overlays = data.x[data.sample(self.overlays, given.seed)].to(classifier.device)
        parts = given.index.split(CHUNK)
        for k, part in enumerate(parts, 1):
            found.append(-entropy(classifier.logits, data.x[part].to(classifier.device), overlays).cpu())
            yield Tick(k, len(parts), text="STRIP")
        yield torch.cat(found)


def entropy(logits: Callable[[Tensor], Tensor], x: Tensor, overlays: Tensor) -> Tensor:
    """Mean entropy of the answers to x (B, C, H, W) under each overlay (m, C, H, W), nats, (B,) float64.

    On the 0..1 scale the two pictures are added, weights 1 and 1, and clamped.
    """
    total = torch.zeros(len(x), dtype=torch.float64)
    with torch.no_grad():
        for overlay in overlays:
            log_p = logits((x + overlay + 1).clamp(-1, 1)).double().log_softmax(1)
            total += torch.special.entr(log_p.exp()).sum(1).cpu()
    return total / len(overlays)
