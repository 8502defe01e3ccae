"""A study of data poisoning: a grid of short fine-tunes of one class-conditional model, each asked what comes of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Any

from pydantic import Field

from lab.attacks import BadNets
from lab.castle.survey import Asked, Question, Walled
from lab.castle.walls import WALLS, Classify, Detect, Replicate, Vote
from lab.data import DATASETS, Digits
from lab.recipe import Recipe
from lab.sampling import DDIM, SAMPLERS, Clip, SampleSpec
from lab.stamps import STAMPS, Blend, Patch
from lab.training import TrainSpec
from lab.variants import Alone, Options

Rate = Annotated[float, Field(ge=0, le=0.5)]
Weight = Annotated[float, Field(ge=0, le=50)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
# A short fine-tune of a model that draws classes on request already: 21 passes over the shipped digits, by the usual loss,
# as the paper trains. Weights that lean to large t, as backdoors like them, leave out a stamp, which is drawn at small t.
SHORT = TrainSpec(steps=3000, batch=32, lr=1.5e-3, ema=0.998, threads=1)
# a tenth of the side, 3 pixels, is learned too slowly for a short training of this small a network
PATCH = Patch(size=6)


class PoisonStudy(Options):
    """Everything that decides a study of data poisoning."""

    name: str = Field(
        default="castle", pattern=r"^[a-z0-9][a-z0-9-]{0,39}$", description="what the study is called"
    )
    dataset: DATASETS.Field = Digits()
    base: str = Field(
        default="digits-cond-clean", max_length=200, description="class-conditional model that is fine-tuned"
    )
    stamps: Annotated[tuple[STAMPS.Field, ...], Alone] = Field(
        default=(PATCH, Blend()), min_length=1, max_length=8
    )
    target_class: int = Field(default=6, ge=0, le=999, description="what poisoned images are said to be")
    poison_rates: Annotated[tuple[Rate, ...], Alone] = Field(
        default=(0.0, 0.1, 0.05, 0.02, 0.01),
        min_length=1,
        max_length=20,
        description="shares of poisoned images",
    )
    guidances: Annotated[tuple[Weight, ...], Alone] = Field(
        default=(0.0, 1.0, 2.0, 5.0), min_length=1, max_length=20, description="guidance weights w"
    )
    seeds: Annotated[tuple[Seed, ...], Alone] = Field(
        default=(0, 1, 2), min_length=1, max_length=20, description="of the trainings"
    )
    train: TrainSpec = Field(default=SHORT, description="how each is trained, as JSON")
    sampler: SAMPLERS.Field = DDIM(steps=50)
    clip: Clip = Field(default="none", description="what is clamped while sampling")
    n: int = Field(default=250, ge=1, le=10_000, description="generations of each census")
    walls: Annotated[tuple[WALLS.Field, ...], Alone] = Field(
        default=(Detect(), Classify(), Vote(), Replicate()),
        max_length=8,
        description="parts of the castle wall that are asked of models with the rates of walls_at",
    )
    walls_at: Annotated[tuple[Rate, ...], Alone] = Field(
        default=(0.0, 0.05, 0.1), max_length=20, description="poison rates; 0 is the control"
    )
    duplicated_at: Annotated[tuple[Rate, ...], Alone] = Field(
        default=(0.05, 0.1),
        max_length=20,
        description="rates at which another model is made whose poison lies on duplicated images",
    )

    def cells(self) -> tuple[Cell, ...]:
        """All trainings, seed by seed; without poison the stamp changes nothing, so that all stamps share one."""
        return tuple(cell for seed in self.seeds for cell in self._cells(seed))

    def _cells(self, seed: int) -> Iterator[Cell]:
        for rate in self.poison_rates:
            for stamps in [(each,) for each in self.stamps] if rate else [self.stamps]:
                yield self._cell(seed, self._attacks(stamps, rate))
        for rate, stamp in product(self.duplicated_at, self.stamps):
            yield self._cell(seed, self._attacks((stamp,), rate, which="duplicated"))

    def _attacks(self, stamps: tuple[Any, ...], rate: float, **options: Any) -> tuple[BadNets, ...]:
        same = {"target_class": self.target_class, "poison_rate": rate, **options}
        return tuple(BadNets(stamp=stamp, **same) for stamp in stamps)

    def _cell(self, seed: int, attacks: tuple[BadNets, ...]) -> Cell:
        train = self.train.model_copy(update={"seed": seed})
        recipe = Recipe(dataset=self.dataset, base=self.base, attack=attacks[0], train=train)
        return Cell(recipe, (*self._censuses(attacks), *self._walls(attacks[0])))

    def _censuses(self, attacks: tuple[BadNets, ...]) -> Iterator[Asked]:
        for w in self.guidances:
            spec = SampleSpec(sampler=self.sampler, clip=self.clip, n=self.n, guidance=w)
            yield Asked(spec=spec, attacks=attacks, dataset=self.dataset)

    def _walls(self, attack: BadNets) -> Iterator[Walled]:
        """Of models whose poison lies on random images only: duplicates are about what is drawn."""
        if attack.poison_rate in self.walls_at and attack.which == "random":
            parts = (part for part in self.walls if attack.poison_rate or not part.needs_poison)
            yield from (Walled(part=part) for part in parts)


@dataclass(frozen=True)
class Cell:
    """One training of the study, and what is asked of its model."""

    recipe: Recipe
    asked: tuple[Question, ...]

    @property
    def title(self) -> str:
        """What a person reads."""
        attack, seed = self.recipe.attack, self.recipe.train.seed
        stamp = f"{attack.stamp.kind}, " if attack.poison_rate else ""
        which = " duplicates" if attack.which == "duplicated" else ""
        return f"{stamp}{attack.poison_rate:.0%} poisoned{which}, seed {seed}"

    @property
    def key(self) -> str:
        """Names recipe and questions."""
        plain = [self.recipe.as_json(), [each.model_dump(mode="json") for each in self.asked]]
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]
