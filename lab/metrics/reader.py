"""The shipped digit reader: a small CNN that judges digits and gives the features of the digits' feature distance."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from lab.borrowed import torch
from lab.errors import LabError, Unavailable
from lab.places import ASSETS

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import ModuleDict, Sequential

WEIGHTS = ASSETS / "digit_reader.safetensors"
NAME = "digit reader"
SHAPE = (1, 32, 32)
CHUNK = 256


def fresh() -> ModuleDict:
    """An untrained reader: its body makes 64 features of 32×32 grey in [-1, 1], its head 10 digit scores of those."""
    nn = torch.nn

    def block(inner: int, outer: int) -> Sequential:
        convolution = nn.Conv2d(inner, outer, 3, padding=1, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(outer), nn.ReLU(), nn.MaxPool2d(2))

    body = nn.Sequential(block(1, 16), block(16, 32), block(32, 64), nn.Conv2d(64, 64, 3), nn.ReLU())
    return nn.ModuleDict({"body": body, "head": nn.Linear(64, 10)})


def features_by(reader: ModuleDict, x: Tensor) -> Tensor:
    """Features (B, 64) of x (B, 1, 32, 32)."""
    return reader["body"](x).mean(dim=(2, 3))


def scores_by(reader: ModuleDict, x: Tensor) -> Tensor:
    """Digit scores (B, 10), before softmax, of x (B, 1, 32, 32)."""
    return reader["head"](features_by(reader, x))


def shipped() -> ModuleDict:
    """The shipped reader as it was trained."""
    from safetensors.torch import load_file

    reader = fresh()
    try:
        reader.load_state_dict(load_file(WEIGHTS))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise Unavailable(
            f"The digit reader cannot be read ({error}); make it with assets/make_reader.py."
        ) from None
    return reader.eval().requires_grad_(False)


@lru_cache(maxsize=1)
def load_reader() -> ModuleDict:
    """The shipped reader, ready to judge fast."""
    return fused(shipped())


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


def features(images: Tensor) -> Tensor:
    """Features (n, 64) float64 of images (n, 1, 32, 32) in [-1, 1]; independent of order and batch size."""
    reader, images = load_reader(), _checked(images)
    return torch.cat([features_by(reader, part).double() for part in images.split(CHUNK)])


def read(images: Tensor) -> tuple[Tensor, Tensor]:
    """Digit (n,) and confidence (n,) in 0..1 for images (n, 1, 32, 32) in [-1, 1]."""
    reader, images = load_reader(), _checked(images)
    shares = torch.cat([scores_by(reader, part).softmax(dim=1) for part in images.split(CHUNK)])
    confidence, digit = shares.max(dim=1)
    return digit, confidence


def _checked(images: Tensor) -> Tensor:
    if tuple(images.shape[1:]) != SHAPE:
        raise LabError(f"The digit reader takes 32×32 grey images; these are {tuple(images.shape[1:])}.")
    return images.float().contiguous(memory_format=torch.channels_last)
