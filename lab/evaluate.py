"""Measure a checkpoint: sample each condition once, then every metric on the same pictures."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field
from safetensors import SafetensorError

from lab.borrowed import torch
from lab.data import Dataset, Digits, EmojiFaces
from lab.engine import Denoiser
from lab.errors import LabError
from lab.images import Images
from lab.metrics import Evidence, Extractor, Score, scores_of
from lab.metrics.reader import DIGITS, FACES, Reader
from lab.models import Card, Checkpoint, find
from lab.progress import Tick
from lab.sampling import Denoised, SampleSpec, Start, network_of, p_sample_loop
from lab.triggers import TARGETS, TRIGGERS, Blank, GreyBox, NoTrigger, StopSign, Target, Trigger
from lab.variants import Options

if TYPE_CHECKING:
    from torch import Tensor

Condition = Literal["clean", "triggered", "blank", "wrong"]
CONDITIONS: tuple[Condition, ...] = ("clean", "triggered", "blank", "wrong")
BATCH = 126  # images sampled together: two calls of compiled code; the rest waits, so that memory is bounded


class Row(Options):
    """Scores of one condition with everything that decides them."""

    checkpoint: str
    condition: Condition
    trigger: dict[str, Any]  # what was added to the noise: of a wrong one, the wrong one
    target: dict[str, Any] = {}  # what the samples are held against
    sampler: dict[str, Any]
    scheduler: str
    clip: str
    seed: int
    n: int
    exact: bool
    no_attack: float | None
    scores: list[Score] = Field(default_factory=list)

    def score(self, name: str) -> float | None:
        """Value of a score by name, None where it was not measured."""
        return next((score.value for score in self.scores if score.name == name), None)


@dataclass
class Sampling:
    """Sampling of one checkpoint under one spec: any condition, in batches, step by step."""

    checkpoint: Checkpoint
    spec: SampleSpec
    denoiser: Denoiser  # one for all samplings of a checkpoint: to make one takes a moment
    labels: Tensor | None = (
        None  # in turn; of a network with classes every class but the null one if not given
    )
    images: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        # refused before trainings pause for it
        self.spec.sampler.build(self.checkpoint.schedule, self.spec.clip)

    def steps(self, trigger: Trigger) -> Generator[Denoised, None, None]:
        """Sample spec.n images from noise plus the trigger's shift; pictures gather in `images`, batch by batch."""
        self.images = []
        for first in range(0, self.spec.n, BATCH):
            start = Start.of(self.checkpoint.shape, self.spec.seed, min(BATCH, self.spec.n - first), first)
            x_T = (start.noise + trigger.shift(self.checkpoint.shape)).to(self.denoiser.device)
            yield from self._sampled(self._network(first, len(x_T)), start, x_T)

    def together(self, asked: Sequence[tuple[Trigger, int]]) -> Generator[Denoised, None, None]:
        """Sample the first images of several conditions as one batch, in this order; they gather in `images`, one batch.

        Image k of each starts from the same noise and is given the same noise on its way. asked: what is added, and how many.
        """
        shape = self.checkpoint.shape
        start = Start.joined([Start.of(shape, self.spec.seed, count) for _, count in asked])
        shifts = [trigger.shift(shape).expand(count, *shape) for trigger, count in asked]
        x_T = (start.noise + torch.cat(shifts)).to(self.denoiser.device)
        self.images = []
        yield from self._sampled(self._network(0, len(x_T)), start, x_T)

    def _sampled(self, network: Any, start: Start, x_T: Tensor) -> Generator[Denoised, None, None]:
        last = None
        for last in p_sample_loop(network, self.checkpoint.schedule, self.spec, start, x_T):
            yield last
        assert last is not None
        self.images.append(finite(last.x_t).cpu().clamp(-1, 1))

    def _network(self, first: int, count: int) -> Any:
        if not self.checkpoint.classes:
            return self.denoiser
        known = torch.arange(self.checkpoint.classes - 1) if self.labels is None else self.labels
        labels = known[torch.arange(first, first + count) % len(known)].to(self.denoiser.device)
        return network_of(self.denoiser, labels, self.checkpoint.classes - 1, self.spec.guidance)


def finite(images: Tensor) -> Tensor:
    """The images, or a sentence where sampling ran away."""
    if not torch.isfinite(images).all():
        raise LabError("Sampling ran away to infinity; choose more steps or another sampler.")
    return images


def conditions(trigger: Trigger) -> dict[Condition, Trigger]:
    """What each condition adds to the noise; the wrong trigger has the same form but another drawing."""
    form = "masked" if getattr(trigger, "form", "") == "masked" else "authors"
    wrong = GreyBox(form=form) if isinstance(trigger, StopSign) else StopSign(form=form)
    return {"clean": NoTrigger(), "triggered": trigger, "blank": Blank(), "wrong": wrong}


def no_attack_level(samples: Tensor, target: Tensor) -> float:
    """Mean MSE (0..1 scale) of a clean model's own samples (n, C, H, W) to a target: what no attack looks like."""
    return float(Evidence(samples, target).errors.mean())


def reference_samples(card: Card) -> Tensor | None:
    """Stored clean-noise samples (n, C, H, W) in [-1, 1] of the clean model behind a checkpoint, where there are any."""
    from safetensors.torch import load_file

    name = card.base if card.backdoored else card.name
    try:
        path = find(name) / "samples.safetensors"
        return load_file(path)["images"].float() / 127.5 - 1
    except (LabError, OSError, SafetensorError, KeyError):
        return None


def target_of(card: Card) -> Target:
    """The target of a card's attack, else the hat."""
    stored = card.attack.get("target")
    return TARGETS.parse(stored) if stored else TARGETS.parse("hat")


def trigger_of(card: Card) -> Trigger:
    """The trigger of a card's attack, else the grey box."""
    stored = card.attack.get("trigger")
    return TRIGGERS.parse(stored) if stored else TRIGGERS.parse("grey_box")


def level(checkpoint: Checkpoint, trigger: Trigger, target: Target, card: Card | None = None) -> float | None:
    """No-attack level of a target, from stored samples of the clean model behind a checkpoint (or behind a card).

    None where no such samples are stored for this image shape.
    """
    samples = reference_samples(card or checkpoint.card)
    if samples is None or tuple(samples.shape[1:]) != checkpoint.shape:
        return None
    return no_attack_level(samples, target.draw(checkpoint.shape, trigger))


# Who judges a model trained on a dataset, and whose held-out pictures it is held against.
JUDGES: dict[str, tuple[Reader, Dataset]] = {
    "digits": (DIGITS, Digits()),
    "mnist": (DIGITS, Digits()),
    "emoji": (FACES, EmojiFaces()),
}


def judge(checkpoint: Checkpoint) -> tuple[Reader | None, Images | None]:
    """Reader and real images for what a checkpoint was trained on, by its card; neither where that is not known."""
    dataset = checkpoint.card.recipe.get("dataset")
    kind = dataset.get("kind") if isinstance(dataset, dict) else None
    if not isinstance(kind, str) or kind not in JUDGES or JUDGES[kind][1].shape != checkpoint.shape:
        return None, None
    reader, world = JUDGES[kind]
    return reader, world.load("held_out")


@dataclass(frozen=True)
class Trial:
    """What is measured: one checkpoint, the trigger and target it is held against, and how it is sampled.

    further: extractors that compare features besides the reader's; reference: real images other than the reader's own.
    """

    checkpoint: Checkpoint
    trigger: Trigger
    target: Target
    spec: SampleSpec
    exact: bool = False
    no_attack: float | None = None
    further: tuple[Extractor, ...] = ()
    reference: Images | None = None

    def measure(self, chosen: tuple[Condition, ...] = CONDITIONS) -> Iterator[Tick | Row]:
        """A tick per sampling step and a row per condition."""
        sampling = Sampling(self.checkpoint, self.spec, Denoiser(self.checkpoint.unet, self.exact))
        triggers = conditions(self.trigger)
        for condition in chosen:
            batches = -(-self.spec.n // BATCH)
            for count, step in enumerate(sampling.steps(triggers[condition])):
                yield Tick(
                    count + 1, batches * step.total, text=f"{condition}: step {step.step} of {step.total}"
                )
            yield self.row(condition, triggers[condition], torch.cat(sampling.images))

    def row(self, condition: Condition, added: Trigger, images: Tensor) -> Row:
        """Every metric on the pictures of one condition."""
        target = self.target.draw(self.checkpoint.shape, self.trigger)
        reader, own = judge(self.checkpoint)
        evidence = Evidence(images, target, self.reference or own, self.no_attack, reader)
        return Row(
            checkpoint=self.checkpoint.card.name,
            condition=condition,
            trigger=added.as_json(),
            target=self.target.as_json(),
            sampler=self.spec.sampler.as_json(),
            scheduler=self.spec.sampler.scheduler,
            clip=self.spec.clip,
            seed=self.spec.seed,
            n=len(images),
            exact=self.exact,
            no_attack=self.no_attack,
            scores=scores_of(evidence, self.further),
        )
