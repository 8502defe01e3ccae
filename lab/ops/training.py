"""Train or fine-tune a checkpoint in a resumable run folder."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from lab.attacks import ATTACKS, NoAttack
from lab.data import DATASETS, Digits
from lab.errors import LabError
from lab.models import Net, names, roots
from lab.places import home
from lab.presets import Preset, filled
from lab.progress import Tick
from lab.ranks import is_main_process
from lab.recipe import Classes, Recipe
from lab.runs import Run
from lab.training import TrainSpec


class TrainOptions(TrainSpec):
    """Train or fine-tune a checkpoint, honestly or with a backdoor."""

    preset: Preset = Field(
        default="usual",
        description="training options that are not given; quick: a backdoor in minutes; shipped: as the shipped ones; "
        "poisoned_data: as the shipped models of poisoned data; usual: honest training",
    )
    name: str = Field(
        default="",
        pattern=r"^[a-z0-9][a-z0-9-]{0,59}$",
        description="name of the new checkpoint",
        validate_default=False,
    )
    dataset: DATASETS.Field = Digits()
    attack: ATTACKS.Field = NoAttack()
    base: str = Field(
        default="",
        max_length=4096,
        description="checkpoint to fine-tune: name or path; empty trains from scratch",
    )
    net: Net = Field(default=Net(), title="network", description="shape of a fresh network, as JSON")
    classes: int = Classes
    epochs: float = Field(
        default=0.0, ge=0, le=100_000, description="length as passes over the images; 0 counts in steps"
    )
    out: str = Field(
        default="",
        max_length=4096,
        description="run folder; an unfinished run of this recipe there is continued",
    )

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, values: dict[str, Any]) -> dict[str, Any]:
        return filled(values)

    def recipe(self) -> Recipe:
        """The recipe of this training; a length in epochs is one in steps there."""
        spec = TrainSpec(**{name: getattr(self, name) for name in TrainSpec.model_fields})
        if self.epochs:
            images = len(self.dataset.load("train"))
            spec = TrainSpec.of(**{**dict(spec), "steps": math.ceil(self.epochs * images / spec.batch)})
        classes = self.classes if self.base else 0  # a fresh network has them in its shape
        return Recipe(
            dataset=self.dataset,
            attack=self.attack,
            base=self.base,
            classes=classes,
            net=self._net(),
            train=spec,
        )

    def _net(self) -> Net:
        """Of the dataset's shape, unless the network's own was given."""
        if self.base:
            return self.net
        channels, side, _ = self.dataset.shape
        shape = (
            {} if {"side", "channels"} & self.net.model_fields_set else {"side": side, "channels": channels}
        )
        return self.net.model_copy(update={**shape, **({"classes": self.classes} if self.classes else {})})


def train(options: TrainOptions) -> Iterator[Tick | dict[str, Any]]:
    """Train or fine-tune a checkpoint; stopping loses nothing, the same command continues."""
    recipe = options.recipe()
    name = options.name or f"{recipe.attack.kind}-{recipe.signature}"
    if name in names():
        raise LabError(f"There is already a checkpoint called {name!r}; choose another --name.")
    run = Run.open(Path(options.out).expanduser() if options.out else home() / "runs" / name, recipe)
    last = None
    try:
        for tick in run.train(name):
            last = tick
            yield tick
    except LabError:  # no such base, images of another shape, a trigger that does not fit
        run.remove_if_refused()
        raise
    final = roots()[1] / name
    if is_main_process():
        final.parent.mkdir(parents=True, exist_ok=True)
        run.checkpoint.rename(final)
    yield {
        "checkpoint": name,
        "folder": str(final),
        "run": str(run.folder),
        "last": dict(last.values) if last else {},
    }
