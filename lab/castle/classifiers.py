"""Small classifiers trained on a poisoned set, or on what a model drew: what they learn of classes and of the trigger."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field

from lab.borrowed import torch
from lab.castle.labelled import Labelled
from lab.engine import best_device
from lab.errors import LabError
from lab.metrics.base import Score
from lab.metrics.pixel import wilson
from lab.metrics.reader import features_by, fused, scores_by, small_cnn
from lab.progress import Tick, result_of
from lab.variants import Options

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import ModuleDict

CHUNK = 256  # pictures judged at a time


class ClassifierSpec(Options):
    """How a classifier is trained: the same recipe for every set, and its last state is what is measured."""

    epochs: int = Field(default=10, ge=1, le=200, description="times that it sees each picture")
    batch: int = Field(default=64, ge=2, le=1024, description="pictures of a training step")
    lr: float = Field(default=3e-3, gt=0, le=1, description="largest learning rate (one cycle, AdamW)")
    seed: int = Field(default=0, ge=0, lt=2**31, description="decides weights and order")

    def steps(self, n: int) -> int:
        """Training steps on n pictures; what does not fill a batch is left for the next epoch's order."""
        return self.epochs * max(1, n // self.batch)


@dataclass(frozen=True)
class Classifier:
    """A trained classifier, ready to judge: x (B, C, H, W) in [-1, 1]; gradients reach x, not the weights."""

    net: ModuleDict

    def features(self, x: Tensor) -> Tensor:
        """What its head looks at, (B, 64)."""
        return features_by(self.net, x)

    def logits(self, x: Tensor) -> Tensor:
        """A score for each class, (B, classes)."""
        return scores_by(self.net, x)

    def read(self, x: Tensor) -> Tensor:
        """The class it sees in each picture, (n,), for any number of them."""
        parts = x.split(CHUNK)
        with torch.no_grad():
            return torch.cat([self.logits(part.to(self.device)).argmax(1).cpu() for part in parts])

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.net.parameters()).device


def trained(data: Labelled, spec: ClassifierSpec) -> Iterator[Tick | Classifier]:
    """Train a classifier on a set: a tick each step, the classifier at the end."""
    net = fresh(data, spec.seed)
    yield from fit(net, data, spec)
    yield ready(net)


def fresh(data: Labelled, seed: int) -> ModuleDict:
    """An untrained network for the pictures and classes of a set; nobody else's random numbers are touched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return small_cnn(data.x.shape[1], data.classes).to(best_device())


def ready(net: ModuleDict) -> Classifier:
    """A classifier of a trained network: frozen, its batch norms folded in."""
    return Classifier(fused(net.eval().requires_grad_(False)))


def fit(net: ModuleDict, data: Labelled, spec: ClassifierSpec) -> Iterator[Tick]:
    """Cross-entropy on the given labels, without augmentation; the network is trained in place."""
    optimizer = torch.optim.AdamW(net.parameters(), spec.lr, weight_decay=1e-2)
    total = spec.steps(len(data))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, spec.lr, total_steps=total)
    net.train()
    for step, (x, labels) in enumerate(batches(net, data, spec), 1):
        loss = torch.nn.functional.cross_entropy(scores_by(net, x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        yield Tick(step, total, {"loss": loss.item()}, text=f"classifier of {data.name}")


def batches(net: ModuleDict, data: Labelled, spec: ClassifierSpec) -> Iterator[tuple[Tensor, Tensor]]:
    """Pictures and labels of each training step, on the network's device, in an order that the seed decides."""
    device = next(net.parameters()).device
    stream = torch.Generator().manual_seed(spec.seed)
    size = min(spec.batch, len(data))
    for _ in range(spec.epochs):
        order = torch.randperm(len(data), generator=stream)
        for index in order[: len(data) // size * size].view(-1, size):
            yield data.x[index].to(device), data.labels[index].to(device)


# What a classifier has learned -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Exam:
    """Held-out pictures, clean and with the trigger: what a classifier is judged by.

    clean, triggered: (n, C, H, W) in [-1, 1], the same pictures; labels: (n,) what they really show.
    """

    clean: Tensor
    triggered: Tensor
    labels: Tensor
    target: int

    def __post_init__(self) -> None:
        if not len(self.clean) == len(self.triggered) == len(self.labels) > 0:
            raise LabError("An exam needs each held-out picture twice, clean and triggered, with its label.")
        if bool((self.labels == self.target).all()):
            raise LabError(
                "An exam needs pictures of other classes than the target, to see if the trigger turns them."
            )

    @property
    def foreign(self) -> Tensor:
        """Which pictures are not of the target class, (n,) bool: only they can be turned."""
        return self.labels != self.target


def accuracy(found: Tensor, exam: Exam) -> Score:
    """Test accuracy (TA): share of clean held-out pictures that are read rightly, with Wilson's 95 % interval."""
    return share("test accuracy", found == exam.labels)


def attack_success(found: Tensor, exam: Exam) -> Score:
    """Attack success rate (ASR): share of triggered pictures of other classes that are read as the target; Wilson's."""
    return share("attack success", found[exam.foreign] == exam.target)


def share(name: str, hits: Tensor) -> Score:
    """The share of a bool tensor (n,) that is true, with Wilson's 95 % interval."""
    count, n = int(hits.sum()), len(hits)
    low, high = wilson(count, n)
    return Score(name=name, value=count / n, low=low, high=high, n=n)


class Learned(Options):
    """What a classifier learned from a set: the classes, and the trigger."""

    set_name: str
    n: int
    poisoned: int
    spec: ClassifierSpec
    test_accuracy: Score
    attack_success: Score


def learned(data: Labelled, exam: Exam, spec: ClassifierSpec) -> Iterator[Tick | Learned]:
    """Train a classifier on a set and examine it: ticks, then test accuracy and attack success of its last state."""
    classifier = yield from result_of(trained(data, spec))
    yield Learned(
        set_name=data.name,
        n=len(data),
        poisoned=data.poisoned,
        spec=spec,
        test_accuracy=accuracy(classifier.read(exam.clean), exam),
        attack_success=attack_success(classifier.read(exam.triggered), exam),
    )
