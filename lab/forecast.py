"""What a training will see and how long it will take on this device, before it starts."""

from __future__ import annotations

import time
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING

from lab.attacks import Attack, Batch
from lab.borrowed import torch
from lab.data import Images
from lab.diffusion import Schedule, seeded_noise
from lab.models import Checkpoint
from lab.recipe import Recipe
from lab.runs import start_of
from lab.training import training_loop

if TYPE_CHECKING:
    from torch import Tensor

SHOWN = 8  # images
AT = (0, 250, 500, 750, 999)  # timesteps whose x_t are shown, of 1,000
WARM, TIMED = 1, 3  # steps of a trial training


def seen(attack: Attack, schedule: Schedule, images: Images) -> dict[str, Tensor]:
    """Pictures (B, C, H, W) that the training will see: clean images, and x_t of clean and of poisoned ones.

    A grid of x_t has a row for each of the timesteps AT, as shares of the schedule.
    """
    x_0 = attack.poison(images).values(torch.arange(min(SHOWN, len(images))))
    rows = {
        "clean": torch.zeros(len(x_0), dtype=torch.bool),
        "poisoned": torch.ones(len(x_0), dtype=torch.bool),
    }
    return {
        "images": x_0,
        **{name: _noised(attack, schedule, Batch(x_0, chosen)) for name, chosen in rows.items()},
    }


def _noised(attack: Attack, schedule: Schedule, batch: Batch) -> Tensor:
    streams = [torch.Generator().manual_seed(k) for k in range(len(batch.x_0))]
    noise = seeded_noise(batch.x_0.shape[1:], streams)
    when = (t * schedule.T // 1000 for t in AT)
    return torch.cat(
        [attack.corrupt(schedule, batch, torch.full((len(noise),), t), noise)[0].clamp(-1, 1) for t in when]
    )


def seconds_for(recipe: Recipe) -> float:
    """Seconds that a training will take here, from a few steps of it; previews and start-up come on top."""
    train = recipe.train
    few = train.model_copy(update={"steps": 1_000_000, "threads": 0})
    return train.steps * _seconds_a_step(recipe.model_copy(update={"train": few}).model_dump_json())


@lru_cache(maxsize=32)
def _seconds_a_step(recipe_json: str) -> float:
    recipe = Recipe.model_validate_json(recipe_json)
    start: Checkpoint = start_of(recipe)
    images = recipe.dataset.load("train")
    loop = training_loop(start, images, recipe.attack, recipe.train)
    try:
        for _ in islice(loop, WARM):
            pass
        begun = time.perf_counter()
        for step in islice(loop, TIMED):
            step.values.get("loss")  # a GPU answers before it is done
        return (time.perf_counter() - begun) / TIMED
    finally:
        loop.close()
