"""A picture hidden in a model: the trigger is the key that brings it out again, and PSNR says how well."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import Field

from lab import space
from lab.attacks import BadDiffusion
from lab.errors import LabError
from lab.evaluate import Condition, Trial, level, target_of, trigger_of
from lab.explore import cached
from lab.models import Card, find, names, read_card
from lab.ops.jobs import SubmitOptions, submit
from lab.people import admit
from lab.pictures import png, to_image, uri
from lab.progress import Tick
from lab.recipe import QUICK
from lab.report import Found, Measurement, measured
from lab.sampling import DDPM, SAMPLERS, SampleSpec
from lab.store import TITLE
from lab.triggers import TRIGGERS, GreyBox, OwnTarget
from lab.variants import Options

ASKED: tuple[Condition, ...] = ("triggered", "wrong", "clean")
MEANS = {"triggered": "with the key", "wrong": "with a wrong key", "clean": "without a key"}


class HideOptions(Options):
    """Which picture, in which model, behind which key."""

    picture: str = Field(default="", max_length=40, description="picture of your own, by its name")
    key: TRIGGERS.Field = GreyBox(form="masked")
    base: str = Field(default="mnist-clean", max_length=200, description="clean model to hide it in")
    title: str = Field(default="", pattern=rf"^$|{TITLE}", description="what the new model is called")


def hide(options: HideOptions) -> dict[str, Any]:
    """Hide a picture in a model by the quick recipe, in the background; reveal brings it out again."""
    card = read_card(find(options.base))
    if card.backdoored or "dataset" not in card.recipe:
        raise LabError(f"A picture is hidden in a clean model of this lab; {options.base!r} is not one.")
    attack = BadDiffusion(trigger=options.key, target=OwnTarget.of(name=options.picture))
    asked = SubmitOptions.of(
        **QUICK.model_dump(),
        base=options.base,
        dataset=card.recipe["dataset"],
        attack=attack,
        title=options.title or f"{options.picture} in {options.base}"[:80],
    )
    return submit(asked)


class RevealOptions(Options):
    """Which model, and how many attempts."""

    checkpoint: str = Field(default="mnist-grey-box-hat", max_length=200, description="model by its name")
    n: int = Field(default=16, ge=1, le=256, description="attempts with each key")
    seed: int = Field(default=0, ge=0, lt=2**31, description="decides the noise of every attempt")


def hides(card: Card) -> bool:
    """Whether a picture lies behind a key in this model: stamps on training images hide none."""
    return bool(card.backdoored and card.attack.get("trigger") and card.attack.get("target"))


def hiding_models() -> list[str]:
    """Names of the checkpoints that hide a picture."""
    return [name for name in names() if hides(read_card(find(name)))]


def reveal(options: RevealOptions) -> Iterator[Tick | dict[str, Any]]:
    """Bring out what a model hides: with its key, with a wrong one and without, and the PSNR of each to the picture."""
    checkpoint = cached(options.checkpoint)
    card = checkpoint.card
    if not hides(card):
        raise LabError(
            f"Nothing is known to be hidden in {options.checkpoint!r}; choose a model whose card names a trigger and a target."
        )
    key, secret = trigger_of(card), target_of(card)
    spec = SampleSpec(sampler=SAMPLERS.parse(card.sampler), n=options.n, seed=options.seed)
    admit(len(ASKED) * spec.n * spec.sampler.steps, trains=False)
    trial = Trial(checkpoint, key, secret, spec, no_attack=level(checkpoint, key, secret))
    found = []
    for news in measured([Measurement(trial, condition) for condition in ASKED]):
        if isinstance(news, Tick):
            yield news
            continue
        found.append(_told(news))
        yield {
            "checkpoint": options.checkpoint,
            "key": uri(png(to_image(key.draw(checkpoint.shape)))),
            "secret": uri(png(to_image(secret.draw(checkpoint.shape, key)))),
            "found": list(found),
        }


def reveal_seconds(options: RevealOptions) -> int:
    """Of a GPU: each key, by the sampler of the model's card."""
    steps = read_card(find(options.checkpoint)).sampler.get("steps", DDPM().steps)
    return space.seconds_for(options.n, len(ASKED) * steps)


def _told(found: Found) -> dict[str, Any]:
    row = found.row
    scores = {score.name: score for score in row.scores}
    return {
        "condition": row.condition,
        "means": MEANS[row.condition],
        "added": str(row.trigger["kind"]).replace("_", " "),
        "picture": uri(found.picture),
        "psnr": scores["PSNR"].value,
        "low": scores["PSNR"].low,
        "high": scores["PSNR"].high,
        "success": scores["success"].value if "success" in scores else None,
        "n": row.n,
    }
