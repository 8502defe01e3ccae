"""Shipped readers: small CNNs that tell the pictures of one world apart and give the features of its distance."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from lab.borrowed import torch
from lab.errors import LabError, Unavailable
from lab.places import ASSETS

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import ModuleDict, Sequential

CHUNK = 256
FEATURES = 64


@dataclass(frozen=True)
class Reader:
    """A judge of one world: what it reads, and where its weights are."""

    name: str  # as a score names its extractor
    what: str  # one of the things it tells apart
    file: str
    channels: int
    classes: int

    @property
    def path(self) -> Path:
        """Where its weights are shipped."""
        return ASSETS / self.file

    @property
    def distance(self) -> str:
        """Not FID: other features."""
        return "feature distance"

    @property
    def identity(self) -> str:
        """Its name and the beginning of its weights' sha256."""
        return f"{self.name} {_digest(self.path)[:12]}"

    def fresh(self) -> ModuleDict:
        """Untrained."""
        return small_cnn(self.channels, self.classes)

    def shipped(self) -> ModuleDict:
        """As it was trained."""
        from safetensors.torch import load_file

        reader = self.fresh()
        try:
            reader.load_state_dict(load_file(self.path))
        except (OSError, SafetensorError, RuntimeError) as error:
            raise Unavailable(
                f"The {self.name} cannot be read ({error}); make it with assets/make_reader.py."
            ) from None
        return reader.eval().requires_grad_(False)

    def features(self, images: Tensor) -> Tensor:
        """Features (n, 64) float64 of images (n, C, 32, 32) in [-1, 1]; independent of order and batch size."""
        ready, images = _ready(self), self._checked(images)
        return torch.cat([features_by(ready, part).double() for part in images.split(CHUNK)])

    def read(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Class (n,) and confidence (n,) in 0..1 for images (n, C, 32, 32) in [-1, 1]."""
        ready, images = _ready(self), self._checked(images)
        shares = torch.cat([scores_by(ready, part).softmax(dim=1) for part in images.split(CHUNK)])
        confidence, found = shares.max(dim=1)
        return found, confidence

    def _checked(self, images: Tensor) -> Tensor:
        if tuple(images.shape[1:]) != (self.channels, 32, 32):
            raise LabError(
                f"The {self.name} takes images of {(self.channels, 32, 32)}; these are {tuple(images.shape[1:])}."
            )
        return images.float().contiguous(memory_format=torch.channels_last)


DIGITS = Reader("digit reader", "digit", "digit_reader.safetensors", channels=1, classes=10)
STAMPED = Reader(  # reads digits as well with a stamp of data poisoning on them, at which the plain one fails
    "stamp-proof digit reader", "digit", "stamped_reader.safetensors", channels=1, classes=10
)
FACES = Reader("face reader", "face", "face_reader.safetensors", channels=3, classes=142)


def small_cnn(channels: int, classes: int) -> ModuleDict:
    """An untrained network: its body makes 64 features of 32×32 pixels in [-1, 1], its head a score for each class."""
    nn = torch.nn

    def block(inner: int, outer: int) -> Sequential:
        convolution = nn.Conv2d(inner, outer, 3, padding=1, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(outer), nn.ReLU(), nn.MaxPool2d(2))

    blocks = block(channels, 16), block(16, 32), block(32, 64)
    body = nn.Sequential(*blocks, nn.Conv2d(64, FEATURES, 3), nn.ReLU())
    return nn.ModuleDict({"body": body, "head": nn.Linear(FEATURES, classes)})


def features_by(reader: ModuleDict, x: Tensor) -> Tensor:
    """Features (B, 64) of x (B, C, 32, 32)."""
    return reader["body"](x).mean(dim=(2, 3))


def scores_by(reader: ModuleDict, x: Tensor) -> Tensor:
    """Scores (B, classes), before softmax, of x (B, C, 32, 32)."""
    return reader["head"](features_by(reader, x))


@lru_cache(maxsize=4)
def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@lru_cache(maxsize=4)
def _ready(reader: Reader) -> ModuleDict:
    return fused(reader.shipped())


def fused(reader: ModuleDict) -> ModuleDict:
    """The same reader for judging only, in a third of the time: channels last, batch norms folded into convolutions.

    Pooling comes before the ReLU, with a quarter of the pixels; the two commute.
    """
    nn, body = torch.nn, []
    for part in reader["body"].children():
        if isinstance(part, nn.Sequential):
            convolution, norm, relu, pool = part.children()
            folded = nn.utils.fusion.fuse_conv_bn_eval(convolution, norm)  # pyright: ignore[reportArgumentType]
            body += [folded, pool, relu]
        else:
            body.append(part)
    whole = nn.ModuleDict({"body": nn.Sequential(*body), "head": reader["head"]})
    return whole.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  # missing in its stubs
