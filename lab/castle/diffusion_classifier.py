"""A class-conditional diffusion model as a classifier: the class under which it denoises a picture best."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TypeAlias

from pydantic import Field

from lab.borrowed import torch
from lab.castle.classifiers import Exam, accuracy, attack_success
from lab.diffusion import Schedule, generators, image_seeds, q_sample, seeded_noise
from lab.errors import LabError
from lab.metrics.base import Score
from lab.progress import Tick
from lab.variants import Alone, Options

if TYPE_CHECKING:
    from torch import Tensor

Conditional: TypeAlias = (
    "Callable[[Tensor, Tensor, Tensor], Tensor]"  # eps(x_t, t, labels), all of B pictures
)
ROUNDED = 1e-6  # 10·(1 - 0.9) is a little less than 1
Share = Annotated[float, Field(ge=0, lt=1)]


class VoteSpec(Options):
    """How the denoising error of a class is measured (arXiv:2303.16203; filtered: arXiv:2311.02373, section 5)."""

    draws: int = Field(
        default=24, ge=1, le=1000, description="timesteps, evenly spaced, each with its own noise"
    )
    p_filter: Annotated[tuple[Share, ...], Alone] = Field(
        default=(0.0, 0.01, 0.05, 0.1),
        min_length=1,
        max_length=12,
        description="shares of a picture's values, those with the largest errors, that are left out in each draw",
    )
    batch: int = Field(
        default=16, ge=1, le=1024, description="pictures looked at together, under all classes"
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="decides the noise")


@dataclass(frozen=True)
class DiffusionClassifier:
    """Predicts argmin_c of the mean squared error of eps under class c, over fixed timesteps and shared noise."""

    network: Conditional
    schedule: Schedule
    classes: int  # the null class not among them
    spec: VoteSpec

    @property
    def timesteps(self) -> Tensor:
        """The middles of `draws` equal parts of 0 … T - 1, (draws,) int64."""
        if self.spec.draws > self.schedule.T:
            raise LabError(
                f"This model's schedule has {self.schedule.T} steps; {self.spec.draws} draws are too many."
            )
        return ((torch.arange(self.spec.draws) + 0.5) * self.schedule.T / self.spec.draws).long()

    def read(self, x: Tensor) -> Iterator[Tick | Tensor]:
        """Ticks, then the class of each picture for each p_filter, (filters, n) int64."""
        for news in self.errors(x):
            yield news if isinstance(news, Tick) else news.argmin(2)

    def errors(self, x: Tensor) -> Iterator[Tick | Tensor]:
        """Ticks, then the mean error of each picture under each class, (filters, n, classes), for x (n, C, H, W).

        Picture k has the same noise whatever stands beside it, and under every class.
        """
        seeds, parts = image_seeds(self.spec.seed, len(x)), x.split(self.spec.batch)
        found, total = [], len(parts) * self.spec.draws
        for k, part in enumerate(parts):
            streams = generators(seeds[k * self.spec.batch :][: len(part)])
            sums = torch.zeros(())
            for draw, t in enumerate(self.timesteps, 1):
                noise = seeded_noise(part.shape[1:], streams)
                sums = sums + self._draw(part, t.expand(len(part)), noise)
                yield Tick(k * self.spec.draws + draw, total, text="diffusion classifier")
            found.append(sums / self.spec.draws)
        yield torch.cat(found, dim=1)

    def _draw(self, x: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Filtered errors of one draw, (filters, B, classes)."""
        n, under = len(x), self.classes
        x_t = q_sample(self.schedule, x, t, noise).repeat_interleave(under, dim=0)
        with torch.no_grad():
            eps = self.network(x_t, t.repeat_interleave(under), torch.arange(under).repeat(n)).cpu()
        squares = (eps - noise.repeat_interleave(under, dim=0)).square().flatten(1)
        return torch.stack([each.view(n, under) for each in filtered(squares, self.spec.p_filter)])


def filtered(squares: Tensor, p_filter: Sequence[float]) -> Iterator[Tensor]:
    """Means of squared errors (B, d) without the largest share of each row, (B,) for each share.

    Of d values int(d·(1 - p)) stay. What is left out are values of a picture, not timesteps.
    """
    d = squares.shape[1]
    sums = squares.double().sort(dim=1).values.cumsum(1)
    for p in p_filter:
        kept = max(1, int(d * (1 - p) + ROUNDED))
        yield sums[:, kept - 1] / kept


class Vote(Options):
    """How well the diffusion classifier does with one p_filter."""

    p_filter: float
    test_accuracy: Score
    attack_success: Score


class Voted(Options):
    """What the diffusion classifier made of an exam."""

    model: str
    spec: VoteSpec
    votes: list[Vote]


def voted(name: str, classifier: DiffusionClassifier, exam: Exam) -> Iterator[Tick | Voted]:
    """Ticks, then test accuracy on clean and attack success on triggered pictures of other classes, by p_filter."""
    foreign = exam.triggered[exam.foreign]
    shown = torch.cat([exam.clean, foreign])
    for news in classifier.read(shown):
        if isinstance(news, Tick):
            yield news
        else:
            clean, triggered = news.split([len(exam.clean), len(foreign)], dim=1)
            yield Voted(
                model=name, spec=classifier.spec, votes=_votes(classifier.spec, clean, triggered, exam)
            )


def _votes(spec: VoteSpec, clean: Tensor, triggered: Tensor, exam: Exam) -> list[Vote]:
    whole = torch.full((len(triggered), len(exam.labels)), -1)
    whole[:, exam.foreign] = triggered
    return [
        Vote(
            p_filter=p, test_accuracy=accuracy(clean[k], exam), attack_success=attack_success(whole[k], exam)
        )
        for k, p in enumerate(spec.p_filter)
    ]
