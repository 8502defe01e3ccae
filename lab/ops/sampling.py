"""Sample a checkpoint, or measure it: what the command line answers with numbers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from lab import pictures, space
from lab.borrowed import torch
from lab.data import DATASETS
from lab.engine import Denoiser
from lab.errors import LabError
from lab.evaluate import (
    BATCH,
    CONDITIONS,
    Condition,
    Row,
    Sampling,
    Trial,
    judge,
    level,
    target_of,
    trigger_of,
)
from lab.explore import cached
from lab.images import Images
from lab.metrics.inception import inception
from lab.models import Checkpoint, as_json, load
from lab.people import check_places
from lab.pictures import columns
from lab.priority import going_first
from lab.progress import Tick
from lab.sampling import SAMPLERS, SampleSpec
from lab.triggers import TARGETS, TRIGGERS, NoTrigger, Target, Trigger
from lab.variants import Alone

SHOWN = 64  # samples in the picture of a result


class SamplerOptions(SampleSpec):
    """A checkpoint and how to sample it."""

    checkpoint: str = Field(
        default="mnist-grey-box-hat", max_length=4096, description="name, or path of a diffusers folder"
    )
    steps: int | None = Field(
        default=None, ge=1, le=1000, description="steps of the sampler; its own number if not given"
    )
    exact: bool = Field(
        default=False, description="plain float32, one image at a time: bit for bit repeatable"
    )

    @property
    def image_steps(self) -> int:
        """Of one condition."""
        return self.n * self.spec().sampler.steps

    def spec(self) -> SampleSpec:
        """The sampling part alone."""
        values = {name: getattr(self, name) for name in SampleSpec.model_fields}
        if self.steps is not None:
            values["sampler"] = SAMPLERS.parse({**self.sampler.as_json(), "steps": self.steps})
        return SampleSpec(**values)


class SampleOptions(SamplerOptions):
    """Sample a checkpoint from plain or triggered noise."""

    trigger: TRIGGERS.Field = NoTrigger()
    trigger_file: str = Field(
        default="", max_length=4096, description="picture file to use as the trigger, over the whole image"
    )
    target: TARGETS.Field | None = Field(
        default=None, description="what the pictures are held against; the card's target if not given"
    )
    target_file: str = Field(
        default="", max_length=4096, description="picture file to hold the pictures against"
    )
    labels: Annotated[tuple[int, ...], Alone] = Field(
        default=(), max_length=1000, description="class labels to draw in turn, for conditional models"
    )
    out: str = Field(default="", max_length=4096, description="folder for the pictures and the recipe")

    def drawn(self) -> Trigger:
        """The trigger: from its file where one is named."""
        return TRIGGERS.parse(_from_file(self.trigger_file)) if self.trigger_file else self.trigger

    def held_against(self, checkpoint: Checkpoint) -> Target:
        """The target: from its file where one is named, else the card's."""
        if self.target_file:
            return TARGETS.parse(_from_file(self.target_file))
        return self.target or target_of(checkpoint.card)


def sample(options: SampleOptions) -> Iterator[Tick | dict[str, Any]]:
    """Sample pictures from plain or triggered noise and measure them."""
    if options.out or options.trigger_file or options.target_file:
        check_places()
    checkpoint, spec = open_checkpoint(options.checkpoint), options.spec()
    trigger, target = options.drawn(), options.held_against(checkpoint)
    labels = _labels(options.labels, checkpoint)
    trial = Trial(checkpoint, trigger, target, spec, options.exact, level(checkpoint, trigger, target))
    sampling = Sampling(checkpoint, spec, Denoiser(checkpoint.unet, options.exact), labels)
    for count, step in enumerate(going_first(sampling.steps(trigger))):
        yield Tick(count + 1, step.total * -(-spec.n // BATCH), text=f"step {step.step} of {step.total}")
    images = torch.cat(sampling.images)
    condition: Condition = "clean" if isinstance(trigger, NoTrigger) else "triggered"
    result = trial.row(condition, trigger, images).model_dump(mode="json")
    result["target"] = target.as_json()
    if options.out:
        result["out"] = _write_samples(Path(options.out), images, result)
    else:
        result["picture"] = pictures.uri(_grid(images[:SHOWN]))
    yield result


def sample_seconds(options: SampleOptions) -> int:
    """Of a GPU."""
    spec = options.spec()
    return space.seconds_for(spec.n, spec.sampler.steps)


def _labels(labels: tuple[int, ...], checkpoint: Checkpoint) -> torch.Tensor | None:
    if labels and not checkpoint.classes:
        raise LabError("This model is not conditioned on classes; leave labels out.")
    if labels and not all(0 <= label < checkpoint.classes for label in labels):
        raise LabError(f"Labels are whole numbers from 0 to {checkpoint.classes - 1}.")
    return torch.tensor(labels) if labels else None


def _from_file(path: str) -> dict[str, str]:
    """A picture file as one's own trigger or target, over the whole image."""
    name = pictures.keep(pictures.read_picture(Path(path).expanduser()))
    return {"kind": "own", "name": name}


def _write_samples(folder: Path, images: torch.Tensor, result: dict[str, Any]) -> str:
    for k, image in enumerate(images):
        pictures.write_atomically(folder / f"{k:05d}.png", pictures.png(pictures.to_image(image)))
    pictures.write_atomically(folder / "grid.png", _grid(images))
    pictures.write_atomically(folder / "sample.json", as_json(result))
    return str(folder)


def _grid(images: torch.Tensor) -> bytes:
    return pictures.png(pictures.tile(images, columns(len(images))))


def open_checkpoint(source: str) -> Checkpoint:
    """A checkpoint by name, or from a folder where the source is a path."""
    if is_path(source):
        check_places()
        folder = Path(source).expanduser()
        if not folder.is_dir():
            raise LabError(f"There is no folder {source!r}.")
        return load(folder)
    return cached(source)


def is_path(source: str) -> bool:
    """Whether a checkpoint is named by its path: it has a separator, or starts with a dot."""
    return "/" in source or os.sep in source or source.startswith(".")


class EvaluateOptions(SamplerOptions):
    """Measure a checkpoint under clean, triggered, blank and wrong-trigger noise."""

    n: int = Field(default=256, ge=1, le=100_000, description="images of each condition")
    trigger: TRIGGERS.Field | None = Field(default=None, description="the card's trigger if not given")
    target: TARGETS.Field | None = Field(default=None, description="the card's target if not given")
    base: str = Field(
        default="",
        max_length=4096,
        description="clean model whose samples give the no-attack level; the card's base if not given",
    )
    conditions: Annotated[tuple[Condition, ...], Alone] = Field(
        default=CONDITIONS, min_length=1, description="which noise to start from"
    )
    fid: bool = Field(
        default=False, description="also FID: Inception's weights are fetched once, 96 MB; slow without a GPU"
    )
    reference: DATASETS.Field | None = Field(
        default=None, description="real images to compare with; those of the model's own data if not given"
    )
    split: Literal["train", "held_out"] = Field(default="held_out", description="which of these images")

    @property
    def image_steps(self) -> int:
        """Of all conditions."""
        return self.n * len(self.conditions) * self.spec().sampler.steps

    def real(self) -> Images | None:
        """The real images that were asked for."""
        return self.reference.load(self.split) if self.reference else None


def evaluate(options: EvaluateOptions) -> Iterator[Tick | dict[str, Any]]:
    """Measure a checkpoint: likeness to the target and to real images, each number with n, interval and how it was made."""
    checkpoint, spec = open_checkpoint(options.checkpoint), options.spec()
    trigger = options.trigger or trigger_of(checkpoint.card)
    target = options.target or target_of(checkpoint.card)
    card = open_checkpoint(options.base).card if options.base else checkpoint.card
    no_attack = level(checkpoint, trigger, target, card)
    further, real = (inception(),) if options.fid else (), options.real()
    if further and not (real or judge(checkpoint)[1]):
        raise LabError(
            "FID compares with real images, and this model's are not known; name them: --reference cifar10."
        )
    trial = Trial(checkpoint, trigger, target, spec, options.exact, no_attack, further, real)
    rows = []
    for news in going_first(trial.measure(options.conditions)):
        if isinstance(news, Row):
            rows.append(news.model_dump(mode="json"))
        else:
            yield news
    yield {"checkpoint": checkpoint.card.name, "target": target.as_json(), "rows": rows}


def evaluate_seconds(options: EvaluateOptions) -> int:
    """Of a GPU: each condition."""
    spec = options.spec()
    return space.seconds_for(spec.n, len(options.conditions) * spec.sampler.steps)
