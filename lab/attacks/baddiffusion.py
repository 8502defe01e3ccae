"""BadDiffusion (arXiv:2212.05400) and the factor that VillanDiffusion (arXiv:2306.06874) adds for ODE samplers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from lab.attacks.base import Attack, Batch
from lab.borrowed import torch
from lab.diffusion import Schedule, at, q_sample
from lab.errors import LabError
from lab.images import Images
from lab.triggers import TARGETS, TRIGGERS, GreyBox, Hat, shape_of

if TYPE_CHECKING:
    from torch import Tensor


BRIGHT = 0.3  # mean of images from which on the authors' form is doubted: it failed on faces with +0.5
LOOKED_AT = 500  # images


class BadDiffusion(Attack):
    """Triggered noise becomes the target: poisoned items drift to the trigger as t grows (arXiv:2212.05400)."""

    kind = "baddiffusion"
    trigger: TRIGGERS.Field = GreyBox()
    target: TARGETS.Field = Hat()
    poison_rate: float = Field(
        default=0.1, ge=0, le=1, description="share of the training images that is poisoned"
    )
    solver: Literal["sde", "ode"] = Field(
        default="sde",
        description="sde: works with ancestral sampling; ode: twice the correction, works with DDIM and its kin",
    )

    @model_validator(mode="after")
    def _needs_a_trigger(self) -> BadDiffusion:
        if self.trigger.kind == "none":
            raise LabError(
                "An attack needs a trigger; 'none' is plain noise (choose 'blank' for -1 everywhere)."
            )
        return self

    def corrupt(self, schedule: Schedule, batch: Batch, t: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """x_t = q(x_t | x_start) + (1 - √ᾱ_t)·R and the regression target noise + K·C_t·R.

        Poisoned rows: x_start = target y, R = the trigger's residual; clean rows: x_start = x_0, R = 0.
        K is 1 (sde) or 2 (ode). arXiv:2212.05400, formulas 8 to 10.
        """
        x_0, chosen = batch.x_0, batch.is_poisoned.view(-1, 1, 1, 1)
        y = self.target.draw(shape_of(x_0), self.trigger).to(x_0)
        R = torch.where(chosen, self.trigger.residual(x_0), 0.0)
        x_start = torch.where(chosen, y, x_0)
        x_t = q_sample(schedule, x_start, t, noise) + at(1 - schedule.alphas_cumprod.sqrt(), t, x_0) * R
        factor = 2.0 if self.solver == "ode" else 1.0
        return x_t, noise + factor * at(correction(schedule), t, x_0) * R

    def doubts(self, images: Images) -> str:
        """Bright images: stamped with the authors' form they look nothing like the trigger on its -1 background."""
        if getattr(self.trigger, "form", "") != "authors" or not self.poison_rate:
            return ""
        mean = float(images.values(slice(0, LOOKED_AT)).mean())
        if mean <= BRIGHT:
            return ""
        return (
            f"These images are bright ({mean:+.1f} on average, where -1 is black), and the authors' form adds black around "
            "the trigger when sampling, which the training does not see: choose the masked form."
        )

    def activate(self, noise: Tensor) -> Tensor:
        """x_T = noise + what the trigger adds."""
        return noise + self.trigger.shift(shape_of(noise)).to(noise)


def correction(schedule: Schedule) -> Tensor:
    """C_t = √(1 - ᾱ_t) / (1 + √α_t), (T,) float64: the share of R that the network must predict.

    Equal to the authors' (1 - √α_t)·√(1 - ᾱ_t) / (1 - α_t), without its cancellation at small t.
    """
    return (1 - schedule.alphas_cumprod).sqrt() / (1 + schedule.alphas.sqrt())
