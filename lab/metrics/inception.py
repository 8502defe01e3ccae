"""The extractor of FID: Inception v3, pool3, with the weights that the field agreed on."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.borrowed import torch
from lab.errors import LabError, Unavailable
from lab.places import home

if TYPE_CHECKING:
    from torch import Tensor

SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
SIZE = 95_628_359  # bytes
ADDRESS = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
NAMES = ("weights-inception-2015-12-05-6726825d.pth", "pt_inception-2015-12-05-6726825d.pth")
CHUNK = 32  # images of 299×299 at a time, whatever their number: the result does not depend on it


@dataclass(frozen=True)
class Inception:
    """Inception v3 of the FID code (arXiv:1706.08500), 2,048 features; torch-fidelity's, as torchmetrics uses it."""

    path: Path
    sha256: str = SHA256
    name: str = "Inception pool3"
    distance: str = "FID"

    @property
    def identity(self) -> str:
        """Its name and the beginning of its weights' sha256."""
        return f"{self.name} {self.sha256[:12]}"

    def features(self, images: Tensor) -> Tensor:
        """Features (n, 2048) float64 of images (n, C, H, W) in [-1, 1], brought to 8 bits; grey becomes three channels."""
        if images.shape[1] not in (1, 3):
            raise LabError(f"FID is measured on 1 or 3 channels; these images have {images.shape[1]}.")
        network, device = _network(self.path, self.sha256), _device()
        network.to(device)
        parts = (part.expand(-1, 3, -1, -1) for part in images.split(CHUNK))
        bytes_ = (((part.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8) for part in parts)
        with torch.inference_mode():
            return torch.cat([network(part.to(device))[0].cpu().double() for part in bytes_])


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def inception(download: bool = True) -> Inception:
    """FID's extractor with its weights: from LAB_INCEPTION, torch's cache or the lab's folder, else downloaded once.

    Raises Unavailable where they are nowhere and cannot be fetched, LabError where a named file is another one.
    """
    if named := os.environ.get("LAB_INCEPTION"):
        return Inception(Path(named))
    kept = Path(torch.hub.get_dir()) / "checkpoints", home() / "weights"
    for path in (folder / name for folder in kept for name in NAMES):
        if path.is_file():
            return Inception(path)
    if not download:
        raise Unavailable(
            f"FID needs Inception's weights ({SIZE >> 20} MB), which are not on this machine yet."
        )
    return Inception(_downloaded(kept[1] / NAMES[0]))


def _downloaded(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:  # written beside and renamed by torch, if its sha256 is the right one
        torch.hub.download_url_to_file(ADDRESS, str(path), hash_prefix=SHA256, progress=False)
    except (OSError, RuntimeError) as error:
        raise Unavailable(
            f"Inception's weights could not be downloaded ({str(error)[:120]}); "
            f"put {NAMES[0]} into {path.parent}, or name it in LAB_INCEPTION. The reader's distance needs none."
        ) from None
    return path


@lru_cache(maxsize=1)
def _network(path: Path, sha256: str) -> Any:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    check(path, sha256)  # the file is a pickle: nothing of it is read before it is known to be the right one
    return FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=str(path))


def check(path: Path, sha256: str) -> None:
    """Raise LabError where a file is missing or is not the one with this sha256."""
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise Unavailable(f"Inception's weights cannot be read ({error.strerror}): {path.name}.") from None
    if found != sha256:
        raise LabError(
            f"{path.name} is not FID's Inception: its sha256 begins {found[:12]}, not {sha256[:12]}."
        )
