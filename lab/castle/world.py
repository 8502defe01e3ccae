"""The world of a poisoned class-conditional model: what it was trained on, what judges it, and what it draws."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

from cachetools import LRUCache

from lab.attacks import ATTACKS
from lab.attacks.badnets import BadNets
from lab.borrowed import torch
from lab.castle.classifiers import Exam
from lab.castle.diffusion_classifier import Conditional
from lab.castle.judges import TriggerJudge
from lab.castle.labelled import Labelled
from lab.data import DATASETS
from lab.engine import Denoiser
from lab.errors import LabError
from lab.evaluate import BATCH, Sampling
from lab.images import Images
from lab.models import Checkpoint
from lab.progress import Tick, result_of
from lab.sampling import SampleSpec
from lab.triggers import NoTrigger

if TYPE_CHECKING:
    from torch import Tensor

MEMORY = 64 << 20  # bytes of drawn sets that are kept
_DRAWN: LRUCache[str, Tensor] = LRUCache(MEMORY, getsizeof=lambda x: x.nbytes)
_LOCK = Lock()  # a page has several threads


def _remembered(checkpoint: Checkpoint, spec: SampleSpec) -> Tensor | None:
    with _LOCK:
        return _DRAWN.get(_key(checkpoint, spec))


def _remember(checkpoint: Checkpoint, spec: SampleSpec, x: Tensor) -> None:
    if checkpoint.card.sha256:  # without it nothing tells one model from another
        with _LOCK, suppress(ValueError):  # larger than the whole memory
            _DRAWN[_key(checkpoint, spec)] = x


def _key(checkpoint: Checkpoint, spec: SampleSpec) -> str:
    return f"{checkpoint.card.sha256} {spec.model_dump_json()}"


@dataclass(frozen=True)
class World:
    """A conditional model with its attack and data, as its card's recipe names them."""

    checkpoint: Checkpoint
    attack: BadNets
    images: Images  # the training set before the attack
    held_out: Images
    seed: int  # of the training, which chose the poisoned images

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> World:
        """From a card; a model without classes, or without data poisoning in its recipe, is refused."""
        card = checkpoint.card
        if not checkpoint.classes:
            raise LabError(f"{card.name} is not conditioned on classes; choose a class-conditional model.")
        attack = ATTACKS.parse(card.attack or "none")
        if not isinstance(attack, BadNets):
            raise LabError(f"{card.name} was not made with badnets, so there is no poisoned set to look at.")
        dataset = DATASETS.parse(card.recipe.get("dataset"))
        seed = card.recipe.get("train", {}).get("seed", 0)
        return cls(checkpoint, attack, dataset.load("train"), dataset.load("held_out"), seed)

    @property
    def name(self) -> str:
        """The model's."""
        return self.checkpoint.card.name

    def is_like(self, other: World) -> bool:
        """Whether both models draw the same classes, in pictures of one size."""
        mine, theirs = self.checkpoint, other.checkpoint
        return (mine.classes, mine.shape) == (theirs.classes, theirs.shape)

    @property
    def classes(self) -> int:
        """The null class is not among them."""
        return self.checkpoint.classes - 1

    @property
    def training(self) -> Labelled:
        """The poisoned training set, with the truth of who was stamped."""
        after = self.attack.poison(self.images, self.seed)
        assert after.labels is not None and after.is_poisoned is not None
        return Labelled("training set", after.values(), after.labels, after.is_poisoned, self.classes)

    def exam(self, n: int, seed: int = 0) -> Exam:
        """n held-out pictures drawn by the seed, clean and stamped, with their true labels."""
        index = torch.randperm(len(self.held_out), generator=torch.Generator().manual_seed(seed))[:n]
        x, labels = self.held_out.values(index), self.held_out.labels
        assert labels is not None
        return Exam(x, self.attack.stamp.stamp(x), labels[index], self.attack.target_class)

    def drawn(self, spec: SampleSpec) -> Iterator[Tick | Labelled]:
        """Ticks, then spec.n pictures of all classes in turn; who carries the stamp is what the trigger judge says.

        Sets that were drawn lately come from memory: detection, classifiers and replication look at the same one.
        """
        x = _remembered(self.checkpoint, spec)
        if x is None:
            x = yield from result_of(self._drawn(spec))
            _remember(self.checkpoint, spec, x)
        labels = torch.arange(spec.n) % self.classes
        yield Labelled(f"drawn, w = {spec.guidance:g}", x, labels, self.stamped(x), self.classes)

    def _drawn(self, spec: SampleSpec) -> Iterator[Tick | Tensor]:
        denoiser = Denoiser(self.checkpoint.unet)
        sampling = Sampling(self.checkpoint, spec, denoiser, torch.arange(self.classes))
        for count, step in enumerate(sampling.steps(NoTrigger()), 1):
            yield Tick(count, step.total * -(-spec.n // BATCH), text="drawing pictures")
        yield torch.cat(sampling.images).float()

    def stamped(self, x: Tensor) -> Tensor:
        """Which pictures carry the stamp by the trigger judge, (n,) bool; the judge's errors are in the census."""
        return TriggerJudge.of(self.attack.stamp, self.images).sees(x)

    def network(self, denoiser: Denoiser) -> Conditional:
        """eps(x_t, t, labels) on the denoiser's device."""

        def eps(x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
            """Predicted noise of each picture under its label."""
            there = denoiser.device
            return denoiser(x_t.to(there), t.to(there), labels.to(there))

        return eps
