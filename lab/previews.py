"""What a training looks like on the way: samples of clean and triggered noise from fixed seeds, and the share of hits."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lab.borrowed import torch
from lab.engine import Denoiser
from lab.evaluate import Condition, Row, Sampling, Trial, conditions, level, target_of, trigger_of
from lab.models import Card, Checkpoint
from lab.pictures import png, tile, write_atomically
from lab.priority import let_pass
from lab.progress import Tick
from lab.recipe import Recipe
from lab.runs import default_sampler, start_of
from lab.sampling import SAMPLERS, SampleSpec
from lab.training import Step

N = 8  # images of each kind, one row of a grid
SHOWN: tuple[Condition, ...] = ("clean", "triggered")


def is_due(tick: Tick, times: int) -> bool:
    """Whether a preview is made after this step, if there are so many of the whole training."""
    return times > 0 and tick.step % max(1, tick.total // times) == 0


@dataclass
class Previews:
    """Makes the previews of one run, in its folder: `samples/*.png` and a line of `previews.jsonl` each time."""

    folder: Path
    recipe: Recipe

    @cached_property
    def _checkpoint(self) -> Checkpoint:
        """The network to be filled with the weights of the moment, under the card that the finished one will have."""
        start, attack = start_of(self.recipe), self.recipe.attack
        card = Card(base=self.recipe.base, recipe=self.recipe.as_json(), backdoored=attack.poison_rate > 0)
        return Checkpoint(start.unet, start.schedule, card)

    def make(self, step: Step) -> dict[str, Any]:
        """Sample both kinds with the weights of this step, and write pictures and scores."""
        checkpoint = self._checkpoint
        checkpoint.unet.load_state_dict(step.kept())
        spec = SampleSpec(sampler=SAMPLERS.parse(default_sampler(self.recipe)), n=N)
        line: dict[str, Any] = {"step": step.step}
        sampling = Sampling(checkpoint, spec, Denoiser(checkpoint.unet))
        for condition in SHOWN:
            row = self._row(sampling, condition)
            picture = png(tile(torch.cat(sampling.images), N))
            write_atomically(self.folder / "samples" / f"{step.step:08d}-{condition}.png", picture)
            line[condition] = row.model_dump(mode="json")
        with (self.folder / "previews.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        return line

    def _row(self, sampling: Sampling, condition: Condition) -> Row:
        card = sampling.checkpoint.card
        trigger, target = trigger_of(card), target_of(card)
        added = conditions(trigger)[condition]
        for _ in sampling.steps(added):
            let_pass()
        no_attack = level(sampling.checkpoint, trigger, target)
        trial = Trial(sampling.checkpoint, trigger, target, sampling.spec, no_attack=no_attack)
        return trial.row(condition, added, torch.cat(sampling.images))
