"""What an attack may tamper with: honest defaults, which an attack overrides only where it tampers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from lab.borrowed import torch
from lab.diffusion import Schedule, q_sample
from lab.images import Images, poisoned_indices
from lab.triggers import Target, Trigger
from lab.variants import Variant

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """What one training step sees before noise: x_0 (B, C, H, W) in [-1, 1] and is_poisoned (B,) bool.

    labels: (B,) what a class-conditional network is told, the null class where it is hidden; None for other networks.
    """

    x_0: Tensor
    is_poisoned: Tensor
    labels: Tensor | None = None


class Attack(Variant):
    """A way to train; this one is honest."""

    HOOKS: ClassVar[dict[str, str]] = {
        "poison": "the training images",
        "corrupt": "the forward process and the loss",
        "activate": "the noise that sampling starts from",
    }
    trigger: Trigger | None = None
    target: Target | None = None
    poison_rate: float = 0.0
    needs_classes: ClassVar[bool] = (
        False  # whether it makes sense only for a network that draws classes on request
    )

    def poison(self, images: Images, seed: int) -> Images:
        """The training set after the attacker touched it; here nothing but the marks of the chosen items is new."""
        marks = torch.zeros(len(images), dtype=torch.bool)
        marks[self.chosen(images, seed)] = True
        return replace(images, is_poisoned=marks)

    def chosen(self, images: Images, seed: int) -> Tensor:
        """Indices of the poisoned items, sorted: the same ones for a seed."""
        return poisoned_indices(len(images), self.poison_rate, seed)

    def corrupt(self, schedule: Schedule, batch: Batch, t: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """x_t and what the network must predict from it, both (B, C, H, W); t: (B,), noise: (B, C, H, W)."""
        return q_sample(schedule, batch.x_0, t, noise), noise

    def activate(self, noise: Tensor) -> Tensor:
        """The x_T that wakes the backdoor, from plain noise (B, C, H, W)."""
        return noise

    def doubts(self, images: Images) -> str:
        """Why it may fail on these images, in one sentence that says what to do; empty where nothing is known."""
        return ""

    @classmethod
    def tampers(cls) -> dict[str, str]:
        """Hook → what it touches, for each hook that this attack overrides: its threat model."""
        return {
            hook: text for hook, text in cls.HOOKS.items() if getattr(cls, hook) is not getattr(Attack, hook)
        }


class NoAttack(Attack):
    """Honest training of a DDPM (arXiv:2006.11239)."""

    kind = "none"
