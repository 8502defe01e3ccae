"""Stamps: what a data poisoner puts on training images (BadNets, arXiv:1708.06733; as used in arXiv:2311.02373).

Unlike a trigger of the noise, a stamp replaces or mixes pixels of pictures, and may be black.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from pydantic import Field

from lab import pictures
from lab.borrowed import torch
from lab.errors import LabError
from lab.triggers import Shape, shape_of
from lab.variants import Registry, Variant

if TYPE_CHECKING:
    from torch import Tensor

TENTH = 10  # a patch is this part of the image's side
LEAST = 3  # pixels: a smaller patch shows no diagonal


class Stamp(Variant):
    """What is put on an image of the training set."""

    def draw(self, shape: Shape) -> Tensor:
        """The pattern p: (C, H, W) in [-1, 1]."""
        raise NotImplementedError

    def opacity(self, shape: Shape) -> Tensor:
        """How much of each pixel the pattern covers: (1, H, W) in 0..1."""
        raise NotImplementedError

    def stamp(self, x: Tensor) -> Tensor:
        """Images (…, C, H, W) in [-1, 1] with the stamp on them: (1 - a)·x + a·p."""
        shape = shape_of(x)
        a = self.opacity(shape).to(x)
        return (1 - a) * x + a * self.draw(shape).to(x)


class Patch(Stamp):
    """BadNets-1: a black square with a white anti-diagonal, flush in the lower right corner (arXiv:2311.02373)."""

    kind = "patch"
    size: int = Field(default=0, ge=0, le=128, description="side in pixels; 0 is a tenth of the image's side")

    def side(self, shape: Shape) -> int:
        """Side in pixels; a patch that covers more than half of the image's side is refused."""
        side = self.size or max(LEAST, min(shape[1:]) // TENTH)
        if 2 * side > min(shape[1:]):
            raise LabError(f"A patch of {side} pixels is too large for {shape[2]}×{shape[1]} pixels.")
        return side

    def draw(self, shape: Shape) -> Tensor:
        """Black; the diagonal from lower left to upper right is white, half a side wide where there is room for it."""
        side = self.side(shape)
        rows, columns = torch.arange(side)[:, None], torch.arange(side)
        white = (columns - (side - 1 - rows)).abs() <= side // 4
        pattern = torch.full(shape, -1.0)
        pattern[:, -side:, -side:] = torch.where(white, 1.0, -1.0)
        return pattern

    def opacity(self, shape: Shape) -> Tensor:
        """1 on the square, 0 elsewhere."""
        side = self.side(shape)
        covered = torch.zeros(1, *shape[1:])
        covered[:, -side:, -side:] = 1.0
        return covered


class Blend(Stamp):
    """BadNets-2: a picture mixed into the whole image, faintly (arXiv:2311.02373); here our own drawing of a cat."""

    kind = "blend"
    alpha: float = Field(default=0.2, gt=0, le=1, description="share of the picture in each pixel")

    def draw(self, shape: Shape) -> Tensor:
        """The cat on white, over the whole image: bright and full of contrast, as the authors' picture is."""
        return _cat(shape).clone()

    def opacity(self, shape: Shape) -> Tensor:
        """alpha everywhere."""
        return torch.full((1, *shape[1:]), self.alpha)


@lru_cache(maxsize=8)
def _cat(shape: Shape) -> Tensor:
    drawing = np.asarray(pictures.shipped("cat").convert("RGB"))
    # its surroundings alone are quite black
    whole = np.where(drawing.max(-1, keepdims=True) == 0, 255, drawing)
    small = Image.fromarray(whole.astype(np.uint8)).resize((shape[2], shape[1]), Image.Resampling.BILINEAR)
    return pictures.to_values(small, shape[0])


STAMPS: Registry[Stamp] = Registry("stamp", Patch, Blend)
