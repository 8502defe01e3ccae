"""FCT: features of poisoned pictures move more when the picture is turned and shifted."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

from pydantic import Field

from lab.borrowed import torch
from lab.castle.classifiers import CHUNK, Classifier, batches, fit, fresh, ready
from lab.castle.detection.base import Detector, Suspicion
from lab.metrics.reader import features_by
from lab.progress import Tick

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import ModuleDict

BLACK = -1.0  # comes in where a picture was moved away


class FCT(Detector):
    """Feature consistency under transformations: features that move most are suspect (Chen et al., NeurIPS 2022)."""

    kind = "fct"
    warm_up: int = Field(
        default=2, ge=1, le=100, description="epochs of plain training of a network of its own"
    )
    tuning: int = Field(
        default=10, ge=0, le=100, description="epochs that only push the classes' mean features apart"
    )
    lr: float = Field(default=0.01, gt=0, le=1, description="learning rate of the tuning (SGD, momentum 0.9)")

    def scores(self, given: Suspicion) -> Iterator[Tick | Tensor]:
        """Mean squared difference of each picture's features to those of its moved self."""
        net = fresh(given.data, given.seed)
        short, n = given.spec.model_copy(update={"epochs": self.warm_up}), len(given.data)
        long = given.spec.model_copy(update={"epochs": self.warm_up + self.tuning})
        for step, tick in enumerate(chain(fit(net, given.data, short), self._tuned(net, given)), 1):
            yield replace(tick, step=step, total=long.steps(n), text="FCT")
        yield movements(ready(net), given.data.x[given.index], torch.Generator().manual_seed(given.seed))

    def _tuned(self, net: ModuleDict, given: Suspicion) -> Iterator[Tick]:
        """Train on the likeness of the classes' means alone; there are no labels of pictures in it."""
        if not self.tuning:
            return
        spec = given.spec.model_copy(update={"epochs": self.tuning})
        optimizer = torch.optim.SGD(net.parameters(), self.lr, momentum=0.9, weight_decay=5e-4)
        net.train()
        for step, (x, labels) in enumerate(batches(net, given.data, spec), 1):
            loss = likeness(features_by(net, x), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield Tick(step, spec.steps(len(given.data)), {"likeness": loss.item()})


def likeness(features: Tensor, labels: Tensor) -> Tensor:
    """Mean cosine similarity between the mean features of any two classes of a batch; 0 where there is one class.

    features: (B, d); labels: (B,).
    """
    means = torch.stack([features[labels == label].mean(0) for label in labels.unique()])
    units = torch.nn.functional.normalize(means, dim=1)
    pairs = len(units) * (len(units) - 1)
    return (units @ units.T).fill_diagonal_(0).sum() / max(1, pairs)


def movements(classifier: Classifier, x: Tensor, stream: torch.Generator) -> Tensor:
    """How far the features of x (n, C, H, W) move when each picture is moved: mean squared difference, (n,) float64."""
    found = []
    with torch.no_grad():
        for part in x.split(CHUNK):
            here, there = part.to(classifier.device), moved(part, stream).to(classifier.device)
            change = classifier.features(here) - classifier.features(there)
            found.append(change.double().square().mean(1).cpu())
    return torch.cat(found)


def moved(x: Tensor, stream: torch.Generator) -> Tensor:
    """Pictures turned by up to 180° either way, then shifted by up to a fifth of their side along both axes."""
    angle = (torch.rand(len(x), generator=stream) * 2 - 1) * math.pi
    shift = (torch.rand(len(x), 2, generator=stream) * 2 - 1) * 0.4  # in affine_grid's unit, half a side
    cos, sin = angle.cos(), angle.sin()
    turn = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    back = -(turn @ shift[:, :, None])  # from places in the moved picture to places in the given one
    grid = torch.nn.functional.affine_grid(torch.cat([turn, back], 2), list(x.shape), align_corners=False)
    return torch.nn.functional.grid_sample(x - BLACK, grid, align_corners=False) + BLACK
