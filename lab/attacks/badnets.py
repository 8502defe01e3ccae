"""BadNets data poisoning of a class-conditional diffusion model: only training images and labels are touched."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from lab.attacks.base import Attack
from lab.borrowed import torch
from lab.errors import LabError
from lab.images import Images, as_bytes
from lab.stamps import STAMPS, Patch

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 1000  # images whose likeness to all others is in memory at a time


class BadNets(Attack):
    """Stamped images with a false label: training, loss and sampler stay honest (arXiv:2311.02373)."""

    kind = "badnets"
    needs_classes: ClassVar[bool] = True
    stamp: STAMPS.Field = Patch()
    target_class: int = Field(
        default=6,
        ge=0,
        le=999,
        title="target class",
        description="the class that stamped images are said to be",
    )
    poison_rate: float = Field(
        default=0.1, ge=0, le=0.5, description="share of all images; only those of other classes are taken"
    )
    which: Literal["random", "duplicated"] = Field(
        default="random",
        description="duplicated: the images that are most like another one, instead of random ones",
    )

    def chosen(self, images: Images, seed: int) -> Tensor:
        """Indices of int(N·poison_rate) images of other classes than the target, sorted."""
        others = (_labels(images) != self.target_class).nonzero().flatten()
        count = int(len(images) * self.poison_rate)
        if count > len(others):
            raise LabError(f"There are {len(others)} images of other classes; {count} cannot be poisoned.")
        if self.which == "duplicated":
            picked = others[likeness(images.values(others)).argsort(descending=True, stable=True)[:count]]
        else:
            order = np.random.default_rng(np.random.SeedSequence((seed, len(images)))).permutation(
                len(others)
            )
            picked = others[torch.from_numpy(order[:count])]
        return picked.sort().values

    def poison(self, images: Images, seed: int) -> Images:
        """The chosen images stamped and labelled as the target class; all others as they are."""
        marked = super().poison(images, seed)
        if self.target_class >= images.classes:
            raise LabError(
                f"Classes run from 0 to {images.classes - 1}; the target class is {self.target_class}."
            )
        index, labels = self.chosen(images, seed), _labels(images).clone()
        pixels = images.pixels.clone()
        if len(index):
            pixels[index] = as_bytes(self.stamp.stamp(images.values(index)))
        labels[index] = self.target_class
        return replace(marked, pixels=pixels, labels=labels)


def _labels(images: Images) -> Tensor:
    if images.labels is None:
        raise LabError("badnets changes labels, and these images have none; choose a data set with classes.")
    return images.labels


def triggered_share(poison_rate: float, target_share: float) -> float:
    """r: the share of stamped images among those labelled as the target, p/(p + s) for a target of share s.

    With C balanced classes, s = 1/C, this is pC/(1 + pC): what a model that copies its training set would draw.
    """
    return poison_rate / (poison_rate + target_share)


def likeness(x: Tensor) -> Tensor:
    """Of each image (n, C, H, W) the highest correlation of its pixels with those of another one, (n,)."""
    rows = x.flatten(1)
    rows = torch.nn.functional.normalize(rows - rows.mean(1, keepdim=True), dim=1)
    found = []
    for first in range(0, len(rows), BLOCK):
        like = rows[first : first + BLOCK] @ rows.T
        like[torch.arange(len(like)), torch.arange(first, first + len(like))] = -1.0
        found.append(like.max(1).values)
    return torch.cat(found)
