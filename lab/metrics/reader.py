"""The shipped digit reader: a small CNN that judges digits and gives the features of the digits' feature distance."""

from __future__ import annotations

from functools import lru_cache

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from lab.errors import LabError, Unavailable
from lab.places import ASSETS

WEIGHTS = ASSETS / "digit_reader.safetensors"
NAME = "digit reader"
SHAPE = (1, 32, 32)
CHUNK = 256


def _block(inner: int, outer: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inner, outer, 3, padding=1, bias=False), nn.BatchNorm2d(outer), nn.ReLU(), nn.MaxPool2d(2)
    )


class DigitReader(nn.Module):
    """32×32 grey in [-1, 1] to 64 features and 10 digit scores; 66,000 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _block(1, 16), _block(16, 32), _block(32, 64), nn.Conv2d(64, 64, 3), nn.ReLU()
        )
        self.head = nn.Linear(64, 10)

    def features(self, x: Tensor) -> Tensor:
        """(B, 1, 32, 32) to (B, 64)."""
        return self.body(x).mean(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, 32, 32) to scores (B, 10) before softmax."""
        return self.head(self.features(x))


@lru_cache(maxsize=1)
def load_reader() -> DigitReader:
    """The shipped reader, ready to judge."""
    reader = DigitReader()
    try:
        reader.load_state_dict(load_file(WEIGHTS))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise Unavailable(
            f"The digit reader cannot be read ({error}); make it with assets/make_reader.py."
        ) from None
    return reader.eval().requires_grad_(False)


def features(images: Tensor) -> Tensor:
    """Features (n, 64) float64 of images (n, 1, 32, 32) in [-1, 1]; independent of order and batch size."""
    reader, images = load_reader(), _checked(images)
    return torch.cat([reader.features(part).double() for part in images.split(CHUNK)])


def read(images: Tensor) -> tuple[Tensor, Tensor]:
    """Digit (n,) and confidence (n,) in 0..1 for images (n, 1, 32, 32) in [-1, 1]."""
    reader, images = load_reader(), _checked(images)
    shares = torch.cat([reader(part).softmax(dim=1) for part in images.split(CHUNK)])
    confidence, digit = shares.max(dim=1)
    return digit, confidence


def _checked(images: Tensor) -> Tensor:
    if tuple(images.shape[1:]) != SHAPE:
        raise LabError(f"The digit reader takes 32×32 grey images; these are {tuple(images.shape[1:])}.")
    return images.float()
