"""Replication: how like the training pictures generated ones are, and what duplicates among them have to do with it.

The paper measures with SSCD descriptors, which no small model replaces; here a shipped reader's features or plain
pixels stand in, under their own names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from lab.borrowed import torch
from lab.castle.classifiers import share
from lab.castle.labelled import Labelled
from lab.errors import LabError
from lab.metrics.base import Score
from lab.metrics.pixel import mean_interval
from lab.variants import Options

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 1000  # pictures whose likeness to all others is in memory at a time
TOP = 200  # pairs that are drawn, as in the paper's figure 5
PERCENTILES = (50, 75, 90, 95)
STRANGE = 0.95  # share of training pictures that are less like their nearest other one than a copy is


class Describes(Protocol):
    """Whoever turns pictures into rows of numbers: a reader, or Pixels."""

    @property
    def name(self) -> str:
        """As a result names it."""
        ...

    def features(self, images: Tensor) -> Tensor:
        """(n, d) for images (n, C, H, W) in [-1, 1]."""
        ...


@dataclass(frozen=True)
class Pixels:
    """The picture itself less its mean: likeness is then the correlation of pixels."""

    name: str = "pixel correlation"

    def features(self, images: Tensor) -> Tensor:
        """(n, C·H·W) float64; every row has mean 0."""
        rows = images.double().flatten(1)
        return rows - rows.mean(1, keepdim=True)


@dataclass(frozen=True)
class Gallery:
    """Training pictures ready for comparison: units (n, d) of length 1."""

    describer: Describes
    centre: Tensor
    units: Tensor

    @classmethod
    def of(cls, training: Labelled, describer: Describes) -> Gallery:
        """Described training pictures; a reader's features are taken from their mean, or all would be alike."""
        features = describer.features(training.x).double()
        centre = torch.zeros(()) if isinstance(describer, Pixels) else features.mean(0)
        return cls(describer, centre, torch.nn.functional.normalize(features - centre, dim=1))

    def described(self, images: Tensor) -> Tensor:
        """Other pictures (n, C, H, W) in the same terms, (n, d)."""
        features = self.describer.features(images).double() - self.centre
        return torch.nn.functional.normalize(features, dim=1)

    def nearest(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Likeness to the most similar training picture, in [-1, 1], and which one it is, both (n,)."""
        parts = [(part @ self.units.T).max(dim=1) for part in self.described(images).split(BLOCK)]
        values, index = (torch.cat(each) for each in zip(*parts, strict=True))
        return values.clamp(-1, 1), index

    def twins(self) -> tuple[Tensor, Tensor]:
        """Likeness of each training picture to the most similar other one, and which one it is, both (n,)."""
        if len(self.units) < 2:
            raise LabError("A training picture has a twin only where there are at least two.")
        values, index = [], []
        for first in range(0, len(self.units), BLOCK):
            likeness = self.units[first : first + BLOCK] @ self.units.T
            rows = torch.arange(len(likeness))
            likeness[rows, rows + first] = -torch.inf  # not itself
            best = likeness.max(dim=1)
            values.append(best.values.clamp(-1, 1))
            index.append(best.indices)
        return torch.cat(values), torch.cat(index)


# Poisoning duplicates ----------------------------------------------------------------------------------------------


def most_duplicated(training: Labelled, target: int, count: int, describer: Describes) -> Tensor:
    """Indices (count,) of the pictures of other classes than the target that have the most similar twins, sorted.

    Poisoning these instead of random ones is the paper's "poison duplicate".
    """
    foreign = (training.labels != target).nonzero()[:, 0]
    if not 0 < count <= len(foreign):
        raise LabError(
            f"From 1 to {len(foreign)} pictures of other classes can be poisoned; {count} were asked for."
        )
    likeness, _ = Gallery.of(training, describer).twins()
    order = likeness[foreign].argsort(descending=True, stable=True)
    return foreign[order[:count]].sort().values


def planted(training: Labelled, index: Tensor, copies: int) -> Labelled:
    """The set with `copies` further copies of each chosen picture at its end: duplicates on purpose."""
    whole = torch.cat([torch.arange(len(training)), index.repeat(copies)])
    return replace(training.take(whole), name=f"{training.name}, {len(index)} pictures {copies + 1} times")


# What was replicated -----------------------------------------------------------------------------------------------


class Twin(Options):
    """A generated picture A, its nearest training picture B, and how like B is to A and to B's own twin C."""

    a: int
    b: int
    a_b: float
    b_c: float
    poisoned: bool  # B


class Replication(Options):
    """How like the training pictures a set of generated ones is."""

    set_name: str
    training: str
    describer: str
    n: int
    trained_on: int
    likeness: Score  # mean over generated pictures
    of_poisoned: Score | None  # of those whose nearest training picture is poisoned
    of_clean: Score | None
    percentiles: dict[int, float]
    background: dict[int, float]  # the same of training pictures and their twins
    copies: Score  # share of pictures more like a training picture than 95 % of these are like their twins
    nearest_poisoned: Score  # share of pictures whose nearest training picture is poisoned
    pairs: list[Twin]  # the most similar ones first
    distance: Score | None = None  # how good the pictures are, where a reader says


def replicated(name: str, images: Tensor, training: Labelled, describer: Describes) -> Replication:
    """Hold generated pictures (n, C, H, W) against a training set."""
    if not len(images):
        raise LabError(f"{name} holds no pictures to compare.")
    gallery = Gallery.of(training, describer)
    likeness, index = gallery.nearest(images)
    background, _ = gallery.twins()
    hit = training.is_poisoned[index]
    return Replication(
        set_name=name,
        training=training.name,
        describer=describer.name,
        n=len(images),
        trained_on=len(training),
        likeness=_mean("likeness", likeness),
        of_poisoned=_mean("likeness", likeness[hit]) if hit.any() else None,
        of_clean=_mean("likeness", likeness[~hit]) if not hit.all() else None,
        percentiles=percentiles(likeness),
        background=percentiles(background),
        copies=share("copies", likeness > background.quantile(STRANGE)),
        nearest_poisoned=share("nearest is poisoned", hit),
        pairs=_pairs(likeness, index, background, hit),
    )


def _mean(name: str, values: Tensor) -> Score:
    value, low, high = mean_interval(values)
    return Score(name=name, value=value, low=low, high=high, n=len(values))


def percentiles(values: Tensor, which: Sequence[int] = PERCENTILES) -> dict[int, float]:
    """Percentiles of values (n,)."""
    return {p: float(values.quantile(p / 100)) for p in which}


def _pairs(likeness: Tensor, index: Tensor, background: Tensor, hit: Tensor) -> list[Twin]:
    """The most similar pairs of a generated and a training picture, with the latter's own twin."""
    return [
        Twin(
            a=a,
            b=int(index[a]),
            a_b=round(float(likeness[a]), 5),
            b_c=round(float(background[index[a]]), 5),
            poisoned=bool(hit[a]),
        )
        for a in likeness.argsort(descending=True, stable=True)[:TOP].tolist()
    ]
