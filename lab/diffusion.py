"""The diffusion process: the schedule, q(x_t | x_0), seeded noise and one exact ancestral step (arXiv:2006.11239)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lab.borrowed import torch
from lab.errors import LabError

if TYPE_CHECKING:
    from torch import Tensor

BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")


@dataclass(frozen=True)
class Schedule:
    """Noise schedule in float64: how much of x_0 is left at each t.

    betas: (T,) in (0, 1). Names and configuration keys are those of diffusers' schedulers.
    """

    betas: Tensor
    config: dict[str, Any]

    @classmethod
    def linear(cls, T: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> Schedule:
        """The linear schedule of DDPM (arXiv:2006.11239, section 4): 1e-4 to 0.02 over T = 1000."""
        return cls.from_config(
            {
                "num_train_timesteps": T,
                "beta_start": beta_start,
                "beta_end": beta_end,
                "beta_schedule": "linear",
            }
        )

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Schedule:
        """From the entries of a diffusers `scheduler_config.json`; unknown schedules are refused."""
        return cls(_betas(config), dict(config))

    @property
    def T(self) -> int:
        """Number of training timesteps; t runs over 0 … T - 1."""
        return len(self.betas)

    @property
    def alphas(self) -> Tensor:
        """1 - betas, (T,) float64."""
        return 1 - self.betas

    @property
    def alphas_cumprod(self) -> Tensor:
        """Product of alphas up to and including t, (T,) float64."""
        return torch.cumprod(self.alphas, dim=0)


def _betas(config: dict[str, Any]) -> Tensor:
    T, kind = config["num_train_timesteps"], config["beta_schedule"]
    start, end = config["beta_start"], config["beta_end"]
    if kind == "linear":
        return torch.linspace(start, end, T, dtype=torch.float64)
    if kind == "scaled_linear":
        return torch.linspace(start**0.5, end**0.5, T, dtype=torch.float64) ** 2
    if kind == "squaredcos_cap_v2":
        bar = torch.cos((torch.arange(T + 1, dtype=torch.float64) / T + 0.008) / 1.008 * torch.pi / 2) ** 2
        return (1 - bar[1:] / bar[:-1]).clamp(max=0.999)
    raise LabError(f"beta_schedule {str(kind)[:60]!r} is not one of {', '.join(BETA_SCHEDULES)}.")


def at(values: Tensor, t: Tensor, like: Tensor) -> Tensor:
    """values[t] shaped to multiply images: (B,) -> (B, 1, 1, 1), in the type and on the device of `like`."""
    # type before device: an Apple GPU has no float64
    return values.to(like.dtype).to(like.device)[t].view(-1, *[1] * (like.ndim - 1))


def q_sample(schedule: Schedule, x_0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    """x_t ~ q(x_t | x_0): the image x_0 with noise of step t (arXiv:2006.11239, formula 4).

    x_0, noise: (B, C, H, W); t: (B,) integers in 0 … T - 1.
    """
    abar = schedule.alphas_cumprod
    return at(abar.sqrt(), t, x_0) * x_0 + at((1 - abar).sqrt(), t, x_0) * noise


def predict_x_0(schedule: Schedule, x_t: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    """The x_0 that a noise estimate implies (arXiv:2006.11239, formula 15 before clipping)."""
    abar = schedule.alphas_cumprod
    return (x_t - at((1 - abar).sqrt(), t, x_t) * eps) / at(abar.sqrt(), t, x_t)


def ancestral_mean(schedule: Schedule, x_t: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    """Mean of p(x_{t-1} | x_t) for a noise estimate, unclipped (arXiv:2006.11239, formula 11)."""
    alpha, abar = schedule.alphas, schedule.alphas_cumprod
    share = schedule.betas / (1 - abar).sqrt()
    return (x_t - at(share, t, x_t) * eps) / at(alpha.sqrt(), t, x_t)


def image_seeds(seed: int, n: int, start: int = 0) -> list[int]:
    """One 63-bit seed per image: image k of a seed is the same whatever n is."""
    words = (
        np.random.SeedSequence((seed, k)).generate_state(1, np.uint64)[0] for k in range(start, start + n)
    )
    return [int(word >> 1) for word in words]


def generators(seeds: Sequence[int]) -> list[torch.Generator]:
    """One CPU generator per image, so that pictures do not depend on batch size or device."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def seeded_noise(shape: Sequence[int], streams: Sequence[torch.Generator]) -> Tensor:
    """Standard normal noise (len(streams), *shape): row k comes from stream k alone."""
    return torch.stack([torch.randn(*shape, generator=stream) for stream in streams])
