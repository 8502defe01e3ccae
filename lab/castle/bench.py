"""Everything that a census of one poisoned world needs: the attack, what it put into the training set, and both judges."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.attacks import BadNets
from lab.attacks.badnets import triggered_share
from lab.borrowed import torch
from lab.castle.census import Census, counted, groups
from lab.castle.classifiers import Classifier, ClassifierSpec, trained
from lab.castle.judges import Errors, Reads, TriggerJudge, measured
from lab.castle.labelled import Labelled
from lab.data import Dataset
from lab.engine import Denoiser
from lab.errors import LabError
from lab.evaluate import BATCH, Sampling
from lab.images import Images
from lab.metrics.reader import STAMPED, Reader
from lab.models import Checkpoint
from lab.progress import Tick, result_of
from lab.sampling import SampleSpec
from lab.triggers import NoTrigger

if TYPE_CHECKING:
    from torch import Tensor

READ = ("digits", "mnist")  # worlds that the shipped reader reads


@dataclass(frozen=True)
class ByReader:
    """A shipped reader as a judge of classes."""

    reader: Reader

    @property
    def name(self) -> str:
        """As a result names it."""
        return self.reader.name

    def classes_of(self, x: Tensor) -> Tensor:
        """The class (n,) of each picture."""
        return self.reader.read(x)[0]


@dataclass(frozen=True)
class ByClassifier:
    """A classifier that was trained here, on clean and on stamped pictures under their true labels."""

    classifier: Classifier
    name: str = "small classifier"

    def classes_of(self, x: Tensor) -> Tensor:
        """The class (n,) of each picture."""
        return self.classifier.read(x)


@dataclass(frozen=True)
class Bench:
    """One attack on one data set, ready for any number of censuses.

    triggered: r, the share of stamped images among those that the training set calls the target.
    """

    attack: BadNets
    triggered: float
    trigger: TriggerJudge
    match: Reads
    errors: Errors

    def groups(self, x: Tensor) -> Tensor:
        """Which group, 0 for G1 to 3 for G4, each picture is in, (n,)."""
        return groups(x, self.attack.target_class, self.trigger, self.match)

    def census(self, x: Tensor) -> Census:
        """The census of pictures (n, C, H, W)."""
        return counted(self.groups(x), self.errors)


def made_ready(attack: BadNets, dataset: Dataset) -> Iterator[Tick | Bench]:
    """The bench of an attack on a data set: ticks while a judge is trained, where none is shipped, then the bench."""
    clean, held_out = dataset.load("train"), dataset.load("held_out")
    if clean.labels is None:
        raise LabError(
            f"The images of {dataset.kind} have no classes, so that no census can be taken of them."
        )
    match: Reads = ByReader(STAMPED)
    if dataset.kind not in READ:
        match = ByClassifier((yield from result_of(trained(_shown(clean, attack), ClassifierSpec()))))
    trigger = TriggerJudge.of(attack.stamp, clean)
    errors = measured(trigger, match, attack.stamp, attack.target_class, held_out)
    share = float((clean.labels == attack.target_class).double().mean())
    yield Bench(attack, triggered_share(attack.poison_rate, share), trigger, match, errors)


def _shown(clean: Images, attack: BadNets) -> Labelled:
    """Clean pictures and the same ones stamped, under their true labels: the stamp must tell a judge nothing."""
    assert clean.labels is not None
    x = clean.values()
    both, labels = torch.cat([x, attack.stamp.stamp(x)]), clean.labels.repeat(2)
    marks = torch.arange(len(both)) >= len(x)
    return Labelled("clean and stamped images", both, labels, marks, clean.classes)


def drawn(checkpoint: Checkpoint, target: int, spec: SampleSpec) -> Iterator[Tick | Tensor]:
    """Generations for one class: a tick each step, then the pictures (n, C, H, W)."""
    if not checkpoint.classes:
        raise LabError(
            "This model does not draw classes on request; choose one that does, such as digits-cond-clean."
        )
    if not 0 <= target < checkpoint.classes - 1:
        raise LabError(f"This model draws classes 0 to {checkpoint.classes - 2}; {target} is none of them.")
    sampling = Sampling(checkpoint, spec, Denoiser(checkpoint.unet), torch.tensor([target]))
    total = -(-spec.n // BATCH) * spec.sampler.steps
    for count, _ in enumerate(sampling.steps(NoTrigger()), 1):
        text = f"drawing {spec.n} of class {target}, w {spec.guidance:g}"
        yield Tick(count, max(total, count), text=text)
    yield torch.cat(sampling.images)
