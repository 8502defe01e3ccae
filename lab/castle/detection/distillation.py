"""Cognitive Distillation: the smallest part of a picture that a classifier needs to answer as before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from lab.borrowed import torch
from lab.castle.detection.base import Detector, Suspicion
from lab.progress import Tick

if TYPE_CHECKING:
    from torch import Tensor

CHUNK = 250  # pictures whose masks are learned together


class CognitiveDistillation(Detector):
    """Cognitive Distillation: a trigger is a small reason for an answer, so a small mask is suspect (arXiv:2301.10908)."""

    kind = "cognitive_distillation"
    outputs: Literal["softmax", "logits"] = Field(
        default="softmax",
        description="what must stay as it was; logits are the authors' choice and fail on digits",
    )
    gamma: float = Field(default=1e-4, ge=0, le=10, description="weight of the mask's size, its L1 norm")
    beta: float = Field(
        default=1.0, ge=0, le=1000, description="weight of the mask's roughness, its total variation"
    )
    lr: float = Field(default=0.1, gt=0, le=10, description="learning rate of Adam, betas (0.1, 0.1)")
    steps: int = Field(default=100, ge=1, le=1000, description="steps that each mask is learned for")

    def scores(self, given: Suspicion) -> Iterator[Tick | Tensor]:
        """Minus the L1 norm of each mask."""
        classifier, parts = given.classifier, given.index.split(CHUNK)
        stream = torch.Generator().manual_seed(given.seed)
        found = []
        for k, part in enumerate(parts):
            x = given.data.x[part].to(classifier.device)
            m = torch.ones_like(x[:, :1])
            for step, m in enumerate(self.masks(self.answers(classifier.logits), x, stream), 1):  # noqa: B007
                yield Tick(k * self.steps + step, len(parts) * self.steps, text="cognitive distillation")
            found.append(-m.flatten(1).sum(1).double().cpu())
        yield torch.cat(found)

    def answers(self, logits: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """What of the classifier's answer must stay."""
        return (lambda x: logits(x).softmax(1)) if self.outputs == "softmax" else logits

    def masks(
        self, answers: Callable[[Tensor], Tensor], x: Tensor, stream: torch.Generator
    ) -> Iterator[Tensor]:
        """The masks (B, 1, H, W) in 0..1 for x (B, C, H, W) after each step of learning.

        m = (tanh θ + 1)/2 from θ = 1; x' = x·m + (1 - m)·u with a new random colour u for each picture and step. What is
        made small: mean_k |f(x')_k - f(x)_k| + γ·‖m‖₁ + β·TV(m), each picture for itself.
        """
        with torch.no_grad():
            wanted = answers(x)
        theta = torch.ones_like(x[:, :1], requires_grad=True)
        optimizer = torch.optim.Adam([theta], self.lr, betas=(0.1, 0.1))
        for _ in range(self.steps):
            m = (theta.tanh() + 1) / 2
            u = torch.rand(*x.shape[:2], 1, 1, generator=stream).to(x) * 2 - 1
            kept = (answers(x * m + (1 - m) * u) - wanted).abs().mean(1)
            loss = (kept + self.gamma * m.flatten(1).sum(1) + self.beta * roughness(m)).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield (theta.detach().tanh() + 1) / 2


def roughness(m: Tensor) -> Tensor:
    """Total variation of masks (B, 1, H, W): squared differences of neighbours, summed, by number of pixels; (B,)."""
    across, down = m.diff(dim=3).square(), m.diff(dim=2).square()
    return (across.flatten(1).sum(1) + down.flatten(1).sum(1)) / m[0].numel()
