"""Images in memory with their labels and marks, and which of them are trained on, judged by, poisoned."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from lab.borrowed import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Images:
    """Images in memory: uint8 (N, C, H, W), labels (N,) or None, and whether a mirror image is one of them too.

    is_poisoned: (N,) bool, which of them an attacker chose; None before one had them. names: of the classes, where they
    have any.
    """

    pixels: Tensor
    labels: Tensor | None = None
    flip: bool = False
    is_poisoned: Tensor | None = None
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        c, h, w = self.pixels.shape[1:]
        return c, h, w

    def values(self, index: Tensor | slice = slice(None)) -> Tensor:
        """Chosen images as float32 in [-1, 1], with the authors' normalisation 2·(u/255)/(1 + 1e-5) - 1."""
        return 2 * (self.pixels[index].float() / 255) / (1 + 1e-5) - 1

    @property
    def classes(self) -> int:
        """Number of classes that the labels tell apart; 0 where there are none."""
        return 0 if self.labels is None else int(self.labels.max()) + 1

    @property
    def class_names(self) -> tuple[str, ...]:
        """A name for each class; its number where it has no other."""
        return self.names or tuple(map(str, range(self.classes)))

    def digest(self) -> str:
        """sha256 of the pixels, first 16 digits: names a reference set in a score."""
        return hashlib.sha256(self.pixels.contiguous().numpy().tobytes()).hexdigest()[:16]


def split_indices(n: int, held_out: float, split: str) -> Tensor:
    """Indices of a split of n images: the same ones each time, held_out at least one and at most n - 1."""
    order = np.random.default_rng(0).permutation(n)
    count = min(max(1, round(n * held_out)), n - 1)
    chosen = order[:count] if split == "held_out" else order[count:]
    return torch.from_numpy(np.sort(chosen))


def take(images: Images, index: Tensor) -> Images:
    """The chosen images with their labels and marks."""
    beside = {"labels": images.labels, "is_poisoned": images.is_poisoned}
    chosen = {name: None if each is None else each[index] for name, each in beside.items()}
    return replace(images, pixels=images.pixels[index], **chosen)


def as_bytes(values: Tensor) -> Tensor:
    """Values in [-1, 1] as uint8, the reverse of `Images.values`."""
    return ((values.clamp(-1, 1) + 1) * 127.5).round().byte()


def poisoned_indices(n: int, poison_rate: float, seed: int) -> Tensor:
    """Which int(n·poison_rate) of n images are poisoned: chosen by the seed, sorted, the same each time.

    poison_rate in [0, 1]. The authors draw the set without a seed and anew on resume; here it is part of the run.
    """
    count = int(n * poison_rate)
    order = np.random.default_rng(np.random.SeedSequence((seed, n))).permutation(n)
    return torch.from_numpy(np.sort(order[:count]))
