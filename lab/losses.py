"""What a training step is taught, and how its errors are weighed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from lab.borrowed import torch
from lab.diffusion import Schedule

if TYPE_CHECKING:
    from torch import Tensor


def mse(error: Tensor) -> Tensor:
    """Mean square of each image's error, (B, C, H, W) to (B,) (arXiv:2006.11239, formula 14)."""
    return error.square().mean(dim=(1, 2, 3))


def multiscale(error: Tensor) -> Tensor:
    """Mean square of the error averaged over 1, 2, 4, … pixels a side, the coarser the heavier (arXiv:2301.11093, 3.3).

    The best prediction is the same as for `mse`. What changes is how soon the mean of x_t is learned: it is one of H·W
    directions of the error, and a backdoor is decided by it, since a trigger's background moves every pixel alike.
    """
    total, scale = mse(error), 1
    while error.shape[-1] > 1 and error.shape[-1] % 2 == 0 == error.shape[-2] % 2:
        error, scale = torch.nn.functional.avg_pool2d(error, 2), scale * 2
        total = total + scale * mse(error)
    return total


def loss_of(error: Tensor, is_poisoned: Tensor, loss: str) -> Tensor:
    """Each image's loss (B,), for errors (B, C, H, W); is_poisoned (B,) bool."""
    chosen = torch.full_like(is_poisoned, loss == "multiscale") | (is_poisoned & (loss != "mse"))
    return torch.where(chosen, multiscale(error), mse(error))


def snr_weight(schedule: Schedule, t: Tensor, gamma: float) -> Tensor:
    """min(SNR, γ)/SNR of each t (B,), where SNR = ᾱ_t/(1 - ᾱ_t); 1 for γ = 0 (arXiv:2303.09556, section 3.4).

    The last strokes of a picture, at small t, have large errors that no training removes. Counting them less leaves
    the gradient to the steps that decide which digit, or which backdoor, it will be.
    """
    abar = schedule.alphas_cumprod
    weights = (gamma * (1 - abar) / abar).clamp(max=1) if gamma else torch.ones_like(abar)
    return weights.float().to(t.device)[t]


class Lesson(NamedTuple):
    """Noised images with what is to be predicted of them; one row an image."""

    x_t: Tensor  # (B, C, H, W)
    t: Tensor  # (B,)
    expected: Tensor  # (B, C, H, W)
    aim: Tensor  # (B, C, H, W): what it learns to predict; for clean images a teacher may say something else
    weight: Tensor  # (B,)
    is_poisoned: Tensor  # (B,) bool
    labels: Tensor | None = None  # (B,)

    def split(self, count: int) -> list[Lesson]:
        """At most `count` lessons of about equal size."""
        size = -(-len(self.t) // count)
        parts = (slice(first, first + size) for first in range(0, len(self.t), size))
        return [self._part(part) for part in parts]

    def _part(self, part: slice) -> Lesson:
        rows: Any = (whole if whole is None else whole[part] for whole in self)
        return Lesson(*rows)


class Losses(Mapping[str, float]):
    """Mean losses of a step, of all images, the clean and the poisoned ones; read from the device when looked at.

    To read a number waits for everything that the device was given before: a loop that reads in every step leaves a
    GPU idle between them.
    """

    def __init__(self, errors: Tensor, is_poisoned: Tensor):
        self._errors, self._is_poisoned = errors, is_poisoned

    @cached_property
    def _values(self) -> dict[str, float]:
        errors, is_poisoned = self._errors, self._is_poisoned
        values = {"loss": errors.mean()}
        if (~is_poisoned).any():
            values["loss_clean"] = errors[~is_poisoned].mean()
        if is_poisoned.any():
            values["loss_poisoned"] = errors[is_poisoned].mean()
        return {name: float(value) for name, value in values.items()}

    def __getitem__(self, name: str) -> float:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)
