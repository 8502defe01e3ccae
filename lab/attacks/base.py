"""What an attack may tamper with: honest defaults, which an attack overrides only where it tampers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from lab.data import Images
from lab.diffusion import Schedule, q_sample
from lab.triggers import Target, Trigger
from lab.variants import Variant

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """What one training step sees before noise: x_0 (B, C, H, W) in [-1, 1] and is_poisoned (B,) bool."""

    x_0: Tensor
    is_poisoned: Tensor


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

    def poison(self, images: Images) -> Images:
        """The training set after the attacker touched it."""
        return images

    def corrupt(self, schedule: Schedule, batch: Batch, t: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """x_t and what the network must predict from it, both (B, C, H, W); t: (B,), noise: (B, C, H, W)."""
        return q_sample(schedule, batch.x_0, t, noise), noise

    def activate(self, noise: Tensor) -> Tensor:
        """The x_T that wakes the backdoor, from plain noise (B, C, H, W)."""
        return noise

    @classmethod
    def tampers(cls) -> dict[str, str]:
        """Hook → what it touches, for each hook that this attack overrides: its threat model."""
        return {
            hook: text for hook, text in cls.HOOKS.items() if getattr(cls, hook) is not getattr(Attack, hook)
        }


class NoAttack(Attack):
    """Honest training of a DDPM (arXiv:2006.11239)."""

    kind = "none"
