"""What a training will see and how long it will take on this device, before it starts."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING

from lab.attacks import Attack, Batch
from lab.borrowed import torch
from lab.diffusion import Schedule, seeded_noise
from lab.engine import Denoiser
from lab.evaluate import Sampling
from lab.images import Images
from lab.models import Checkpoint
from lab.recipe import Recipe
from lab.runs import start_of
from lab.sampling import SampleSpec
from lab.training import training_loop
from lab.triggers import NoTrigger

if TYPE_CHECKING:
    from torch import Tensor

SHOWN = 8  # images
AT = (0, 250, 500, 750, 999)  # timesteps whose x_t are shown, of 1,000
WARM, TIMED = 1, 3  # steps of a trial training or sampling
SAMPLED = 32  # images of a trial sampling


def seen(attack: Attack, schedule: Schedule, images: Images) -> dict[str, Tensor]:
    """Pictures (B, C, H, W) that the training will see: clean images, and x_t of clean and of poisoned ones.

    A grid of x_t has a row for each of the timesteps AT, as shares of the schedule.
    """
    clean, poisoned = images.values(slice(0, SHOWN)), _poisoned(attack, images)
    batches = {
        "clean": Batch(clean, torch.zeros(len(clean), dtype=torch.bool)),
        "poisoned": Batch(poisoned, torch.ones(len(poisoned), dtype=torch.bool)),
    }
    pictures = {name: _noised(attack, schedule, batch) for name, batch in batches.items()}
    return {"images": poisoned, **pictures}


def _poisoned(attack: Attack, images: Images) -> Tensor:
    """The first images that carry the poison in their pixels, else the first of all."""
    after = attack.poison(images, seed=0)
    assert after.is_poisoned is not None
    chosen = after.is_poisoned.nonzero().flatten() if "poison" in attack.tampers() else torch.arange(0)
    return after.values(chosen[:SHOWN] if len(chosen) else slice(0, SHOWN))


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


def seconds_of_sampling(checkpoint: Checkpoint, spec: SampleSpec) -> float:
    """Seconds that one image takes here with this sampler, from a few steps of a few images."""
    sampling = Sampling(checkpoint, spec.model_copy(update={"n": SAMPLED}), Denoiser(checkpoint.unet))
    steps = sampling.steps(NoTrigger())
    _followed(step.x_t for step in islice(steps, WARM))
    begun = time.perf_counter()
    taken = _followed(step.x_t for step in islice(steps, TIMED))
    steps.close()
    return (time.perf_counter() - begun) / max(1, taken) / SAMPLED * spec.sampler.steps


def _followed(results: Iterable[Tensor]) -> int:
    """How many there are, once all of them are computed: a GPU answers before it is done."""
    return sum(1 for result in results if result.cpu() is not None)


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
