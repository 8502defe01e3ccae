"""LPIPS: how far images look from the target to a network that was trained on photographs."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.borrowed import torch
from lab.metrics.base import Evidence, Metric, Score
from lab.metrics.pixel import mean_interval

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = (
    "alexnet-owt-7be5be79.pth"  # torchvision's name of the file, which ends in the beginning of its sha256
)
CHUNK = 64


class LPIPS(Metric):
    """Learned perceptual distance to the target, AlexNet (arXiv:1801.03924): 0 is equal."""

    kind = "lpips"

    def measure(self, evidence: Evidence) -> Score | None:
        """Mean over images with its normal 95 % interval, where torch's cache holds AlexNet; nothing is downloaded."""
        if evidence.target is None or weights() is None:
            return None
        target = evidence.target_pixels
        parts = [distances(part, target) for part in evidence.pixels.split(CHUNK)]
        value, low, high = mean_interval(torch.cat(parts))
        return Score(
            name="LPIPS", value=value, low=low, high=high, n=len(evidence.images), extractor="AlexNet"
        )


def weights() -> Path | None:
    """AlexNet's file in torch's cache, if it is there and is what its name says."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS
    return path if path.is_file() and _is_genuine(path, path.stat().st_mtime) else None


@lru_cache(maxsize=2)
def _is_genuine(path: Path, changed: float) -> bool:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return digest.startswith(path.stem.rpartition("-")[2])


def distances(pixels: Tensor, target: Tensor) -> Tensor:
    """LPIPS of each image (n, C, H, W) to the target (C, H, W), both 0..1; (n,)."""
    images, aim = (x.float().expand(len(pixels), 3, -1, -1) for x in (pixels, target[None]))
    return _network()(images, aim, normalize=True).flatten().double()


@lru_cache(maxsize=1)
def _network() -> Any:
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    return LearnedPerceptualImagePatchSimilarity(net_type="alex").net
