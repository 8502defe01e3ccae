"""A study: a grid of recipes, each trained and measured in the same way, through the queue like any other run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Any

from pydantic import Field

from lab.attacks import ATTACKS, BadDiffusion
from lab.data import DATASETS, Digits
from lab.errors import LabError
from lab.exam import Question
from lab.recipe import BY_NOISE, Recipe
from lab.sampling import DDPM, SAMPLERS, Clip, SampleSpec
from lab.training import TrainSpec
from lab.triggers import TARGETS, TRIGGERS, Corner, GreyBox, Hat, Shoe, StopSign
from lab.variants import Alone, Options

MAX_CELLS = 1000
Rate = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Steps = Annotated[int, Field(ge=1, le=10_000_000)]


class Study(Options):
    """Everything that decides a study: what varies, and how each model is trained and measured."""

    name: str = Field(
        default="my-study", pattern=r"^[a-z0-9][a-z0-9-]{0,39}$", description="what the study is called"
    )
    dataset: DATASETS.Field = Digits()
    base: str = Field(default="mnist-clean", max_length=200, description="clean model that is fine-tuned")
    attack: ATTACKS.Field = BadDiffusion()
    triggers: Annotated[tuple[TRIGGERS.Field, ...], Alone] = Field(
        default=(GreyBox(),), min_length=1, max_length=8, description="triggers"
    )
    targets: Annotated[tuple[TARGETS.Field, ...], Alone] = Field(
        default=(Hat(),), min_length=1, max_length=8, description="targets"
    )
    poison_rates: Annotated[tuple[Rate, ...], Alone] = Field(
        default=(0.0, 0.05, 0.1), min_length=1, max_length=20, description="shares of poisoned images"
    )
    seeds: Annotated[tuple[Seed, ...], Alone] = Field(
        default=(0, 1, 2),
        min_length=1,
        max_length=20,
        description="of the trainings: what error bars are over",
    )
    lengths: Annotated[tuple[Steps, ...], Alone] = Field(
        default=(), max_length=8, description="training steps, where they vary too; else those of train"
    )
    train: TrainSpec = Field(default=BY_NOISE, description="how each is trained, as JSON")
    sampler: SAMPLERS.Field = DDPM()
    n: int = Field(default=256, ge=1, le=10_000, description="images of each measurement")
    clips: Annotated[tuple[Clip, ...], Alone] = Field(
        default=("none", "x0"), min_length=1, description="clips that every model is measured with"
    )
    clips_once: Annotated[tuple[Clip, ...], Alone] = Field(
        default=(), description="clips that only the models of the first seed are measured with"
    )

    def cells(self) -> tuple[Cell, ...]:
        """All trainings of the grid; without poison the target changes nothing, so that all targets share one."""
        found = tuple(self._cells())
        if len(found) > MAX_CELLS:
            raise LabError(f"This study has {len(found)} trainings; at most {MAX_CELLS} make one.")
        return found

    def _cells(self) -> Iterator[Cell]:
        lengths = self.lengths or (self.train.steps,)
        # seed by seed: the whole curve is seen early, its error bars grow after
        for seed, trigger, rate, steps in product(self.seeds, self.triggers, self.poison_rates, lengths):
            for targets in [(each,) for each in self.targets] if rate else [self.targets]:
                yield Cell(
                    self._recipe(trigger, targets[0], rate, seed, steps), self._exam(trigger, targets, seed)
                )

    def _recipe(self, trigger: Any, target: Any, rate: float, seed: int, steps: int) -> Recipe:
        attack = ATTACKS.parse(
            {
                **self.attack.as_json(),
                "trigger": trigger.as_json(),
                "target": target.as_json(),
                "poison_rate": rate,
            }
        )
        train = self.train.model_copy(update={"seed": seed, "steps": steps})
        return Recipe(dataset=self.dataset, base=self.base, attack=attack, train=train)

    def _exam(self, trigger: Any, targets: tuple[Any, ...], seed: int) -> tuple[Question, ...]:
        clips = self.clips + (self.clips_once if seed == self.seeds[0] else ())
        specs = (SampleSpec(sampler=self.sampler, n=self.n, clip=clip) for clip in dict.fromkeys(clips))
        return tuple(Question(spec=spec, trigger=trigger, targets=targets) for spec in specs)


@dataclass(frozen=True)
class Cell:
    """One training of a study, and what is asked of its model."""

    recipe: Recipe
    exam: tuple[Question, ...]

    @property
    def title(self) -> str:
        """What a person reads."""
        attack, train = self.recipe.attack, self.recipe.train
        what = (
            f"{attack.trigger.kind} → {attack.target.kind}, {attack.poison_rate:.0%}"
            if attack.poison_rate
            else "0%"
        )
        return f"{what}, seed {train.seed}, {train.steps} steps".replace("_", " ")

    @property
    def key(self) -> str:
        """Names recipe and questions: a run of the same recipe that was asked something else is another cell."""
        asked = [question.model_dump(mode="json") for question in self.exam]
        plain = json.dumps([self.recipe.as_json(), asked], sort_keys=True)
        return hashlib.sha256(plain.encode()).hexdigest()[:16]


BOX_14 = GreyBox(size=14)
KNOWN: dict[str, Study] = {
    study.name: study
    for study in (
        Study(
            name="poison-rates",
            triggers=(BOX_14,),
            targets=(Hat(), Shoe(), Corner()),
            poison_rates=(0.1, 0.0, 0.05, 0.2, 0.5, 0.9),  # the paper's own rate first
            clips_once=("xt",),
        ),
        Study(
            name="stop-sign",
            triggers=(StopSign(size=14),),
            targets=(Hat(), Shoe(), Corner()),
            poison_rates=(0.1, 0.5),
            clips_once=("xt",),
        ),
        Study(  # two models of poison-rates, sampled with all steps: whether 250 stand for them
            name="all-steps",
            triggers=(BOX_14,),
            targets=(Hat(), Corner()),
            poison_rates=(0.1,),
            seeds=(0,),
            sampler=DDPM(steps=1000),
        ),
        Study(
            name="rate-and-length",
            triggers=(BOX_14,),
            poison_rates=(0.01, 0.02, 0.05, 0.1, 0.2),
            lengths=(100, 200, 400, 900),
            seeds=(0,),
            clips=("none",),
            n=64,
        ),
    )
}
