"""What a poisoned model does to those who use its pictures: detection, classifiers, the model as classifier, replication."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import Field

from lab.borrowed import torch
from lab.castle.classifiers import ClassifierSpec, Learned, fresh, learned, ready, trained
from lab.castle.detection import DETECTORS, FCT, CognitiveDistillation, Strip
from lab.castle.detection.base import Suspicion
from lab.castle.detection.screening import Screened, gains, screen
from lab.castle.diffusion_classifier import DiffusionClassifier, Voted, VoteSpec, voted
from lab.castle.gathered import gathered
from lab.castle.labelled import Labelled
from lab.castle.replication import Pixels, Replication, replicated
from lab.castle.world import World
from lab.data import DATASETS
from lab.engine import Denoiser
from lab.errors import LabError
from lab.evaluate import JUDGES
from lab.metrics.base import Evidence, Score
from lab.metrics.features import FeatureDistance
from lab.pictures import png, sheet, tile, uri
from lab.progress import Tick
from lab.sampling import DDIM, SAMPLERS, SampleSpec
from lab.variants import Alone, Options, Registry, Variant

WARM, TIMED = 1, 3  # steps of a loop that is timed
LOOKS = 10  # of a detector at a picture, on average: Cognitive Distillation takes a hundred, FCT two
PAIRS = 12  # nearest pairs that are shown as pictures
News: TypeAlias = Iterator[Tick | dict[str, Any]]


class Part(Variant):
    """Something that is asked of a poisoned model's world."""

    needs_poison: ClassVar[bool] = False  # whether it says nothing where no training image carries the stamp
    seed: int = Field(default=0, ge=0, lt=2**31, description="decides noise, order and samples")

    @abstractmethod
    def run(self, world: World, beside: World | None = None) -> News:
        """Ticks, and what is known so far; the last of these is the whole.

        beside: the same world with an honest model, for what compares.
        """

    @abstractmethod
    def seconds(self, world: World, beside: World | None = None) -> float:
        """How long that will take here, from a few steps of it."""


class DrawPart(Part):
    """How a set is drawn from the model."""

    drawn: int = Field(default=1000, ge=20, le=100_000, description="pictures drawn, of all classes in turn")
    guidance: float = Field(default=5.0, ge=0, le=50, description="w of (1 + w)·eps_class - w·eps_null")
    sampler: SAMPLERS.Field = DDIM(steps=50)
    generated: DATASETS.Field | None = Field(
        default=None,
        description="folder or uploaded: pictures that were drawn elsewhere, instead of drawing a set here",
    )

    @property
    def image_steps(self) -> int:
        """Of the set that is drawn."""
        return 0 if self.generated else self.drawn * self.sampler.steps

    def sample_spec(self) -> SampleSpec:
        """All classes in turn, without a clip: clamped, DDIM and guidance draw other digits than were asked for."""
        return SampleSpec(
            sampler=self.sampler, clip="none", seed=self.seed, n=self.drawn, guidance=self.guidance
        )

    def made(self, world: World) -> Iterator[Tick | Labelled]:
        """Ticks and the drawn set; the set alone where it was drawn elsewhere."""
        if not self.generated:
            yield from world.drawn(self.sample_spec())
            return
        x, labels = gathered(self.generated, world.images)
        yield Labelled(f"generated, {self.generated.kind}", x, labels, world.stamped(x), world.classes)

    def sets(self, world: World, training: Labelled) -> Iterator[tuple[Any, Labelled | None]]:
        """The training set, then the drawn one; a tick of the drawing comes with no set."""
        yield "training", training
        for news in self.made(world):
            yield (news, None) if isinstance(news, Tick) else ("generated", news)


class TrainPart(DrawPart):
    """A set drawn from the model, and the classifier that is trained on it."""

    epochs: int = Field(default=10, ge=1, le=200, description="times that a classifier sees each picture")

    @property
    def image_steps(self) -> int:
        """Of drawing, and as many more as its pictures are looked at in training."""
        return super().image_steps + self.drawn * self.epochs

    def spec(self) -> ClassifierSpec:
        """The same recipe for every set."""
        return ClassifierSpec(epochs=self.epochs, seed=self.seed)


class Detect(TrainPart):
    """Can poisoned pictures be told from clean ones: in the training set, and among those that the model drew."""

    kind = "detect"
    needs_poison: ClassVar[bool] = True
    detectors: Annotated[tuple[DETECTORS.Field, ...], Alone] = Field(
        default=(CognitiveDistillation(), Strip(), FCT()), min_length=1, max_length=6, description="detectors"
    )
    screened: int = Field(default=500, ge=20, le=100_000, description="pictures of each set that get a score")

    @property
    def image_steps(self) -> int:
        """The same, and what the detectors take for each picture of both sets."""
        return super().image_steps + 2 * self.screened * len(self.detectors) * LOOKS

    def run(self, world: World, beside: World | None = None) -> News:
        """AUROC of each detector on each set, as they come, and what the drawn set gains."""
        found: dict[str, list[Screened]] = {"training": [], "generated": []}
        pictures: dict[str, Any] = {}
        for where, data in self.sets(world, world.training):
            if data is None:
                yield where
                continue
            for news in screen(data, self.detectors, self.spec(), self.screened, self.seed):
                if isinstance(news, Tick):
                    yield news
                    continue
                found[where].append(news)
                pictures[f"{where} {news.detector['kind']}"] = uri(sheet(data.x[news.suspects]))
                yield self._found(world, found, pictures)

    def _found(
        self, world: World, found: dict[str, list[Screened]], pictures: dict[str, Any]
    ) -> dict[str, Any]:
        return {
            "checkpoint": world.name,
            "guidance": self.guidance,
            **{where: _plain(rows) for where, rows in found.items()},
            "gains": _plain(gains(found["training"], found["generated"])),
            "pictures": dict(pictures),
        }

    def seconds(self, world: World, beside: World | None = None) -> float:
        """Drawing, then a classifier and each detector on both sets."""
        return pace(self.made(world)) + 2 * self._screening(world.training)

    def _screening(self, data: Labelled) -> float:
        """On one set; an untrained classifier judges as fast as a trained one."""
        index = data.sample(self.screened, self.seed)
        given = Suspicion(data, index, ready(fresh(data, self.seed)), self.spec(), self.seed)
        loops = [trained(data, self.spec()), *(each.scores(given) for each in self.detectors)]
        return sum(pace(loop) for loop in loops)


class Classify(TrainPart):
    """Train a classifier on the poisoned set and one on what the model drew: test accuracy and attack success of both.

    A part of the training set as large as the drawn one tells what fewer pictures do from what drawing them does.
    """

    kind = "classify"
    examined: int = Field(default=500, ge=10, le=100_000, description="held-out pictures, clean and stamped")

    def run(self, world: World, beside: World | None = None) -> News:
        """What a classifier learned from each set, as they come."""
        exam = world.exam(self.examined, self.seed)
        found: list[Learned] = []
        for where, data in self._with_a_part(world, world.training):
            if data is None:
                yield where
                continue
            for news in learned(data, exam, self.spec()):
                if isinstance(news, Tick):
                    yield news
                else:
                    found.append(news)
                    yield {"checkpoint": world.name, "guidance": self.guidance, "rows": _plain(found)}

    def _with_a_part(self, world: World, training: Labelled) -> Iterator[tuple[Any, Labelled | None]]:
        """The sets, and before a smaller drawn one as many pictures of the training set, chosen by the seed."""
        for where, data in self.sets(world, training):
            if where == "generated" and data is not None and len(data) < len(training):
                part = training.take(training.sample(len(data), self.seed))
                yield "part", replace(part, name=f"{len(data):,} of the training set")
            yield where, data

    def seconds(self, world: World, beside: World | None = None) -> float:
        """Drawing, then training on the whole set, a part of it, and the drawn one."""
        training = world.training
        share = (len(training) + 2 * self.drawn) / len(training)
        return pace(self.made(world)) + pace(trained(training, self.spec())) * share


class Vote(Part):
    """The diffusion model as a classifier: accuracy and attack success, with the largest errors left out or not."""

    kind = "diffusion-classifier"
    examined: int = Field(default=100, ge=10, le=100_000, description="held-out pictures, clean and stamped")
    draws: int = Field(default=24, ge=1, le=1000, description="evenly spaced timesteps")
    p_filter: Annotated[tuple[Annotated[float, Field(ge=0, lt=1)], ...], Alone] = Field(
        default=(0.0, 0.01, 0.05, 0.1),
        min_length=1,
        max_length=12,
        description="shares of largest errors left out",
    )

    @property
    def image_steps(self) -> int:
        """Each picture, clean and stamped, at each timestep, as each class; how many there are is the model's to say."""
        return 2 * self.examined * self.draws

    def run(self, world: World, beside: World | None = None) -> News:
        """All votes at the end."""
        for news in self._voted(world):
            yield news.model_dump(mode="json") if isinstance(news, Voted) else news

    def _voted(self, world: World) -> Iterator[Tick | Voted]:
        network = world.network(Denoiser(world.checkpoint.unet))
        spec = VoteSpec(draws=self.draws, p_filter=self.p_filter, seed=self.seed)
        classifier = DiffusionClassifier(network, world.checkpoint.schedule, world.classes, spec)
        return voted(world.name, classifier, world.exam(self.examined, self.seed))

    def seconds(self, world: World, beside: World | None = None) -> float:
        """Of all draws."""
        return pace(self._voted(world))


class Replicate(DrawPart):
    """How like the training pictures a poisoned model's pictures are, beside those of an honest model if one is given."""

    kind = "replicate"
    by: Literal["reader", "pixels"] = Field(
        default="reader", description="features of the reader of this world, or plain pixels; never SSCD"
    )

    @property
    def image_steps(self) -> int:
        """Of both models' sets; the honest one's is always drawn here."""
        return super().image_steps + self.drawn * self.sampler.steps

    def run(self, world: World, beside: World | None = None) -> News:
        """Likeness of each model's pictures to the training set, as they come, and the nearest pairs."""
        training, describer = world.training, self._describer(world)
        found: list[Replication] = []
        pictures: dict[str, Any] = {}
        for name, loop in self._loops(world, beside):
            for news in loop:
                if isinstance(news, Tick):
                    yield news
                    continue
                alike = replicated(name, news.x, training, describer)
                found.append(alike.model_copy(update={"distance": _distance(news, world, describer)}))
                pictures[name] = _pairs(found[-1], news, training)
                yield {"rows": _plain(found), "pictures": dict(pictures), "guidance": self.guidance}

    def _loops(self, world: World, beside: World | None) -> Iterator[tuple[str, Iterator[Tick | Labelled]]]:
        yield world.name, self.made(world)
        if beside is None:
            return
        if not beside.is_like(world):
            raise LabError(f"{beside.name} does not draw the classes and pictures that {world.name} draws.")
        yield beside.name, beside.drawn(self.sample_spec())

    def _describer(self, world: World) -> Any:
        """Who describes pictures; a world without a reader is described by its pixels only on request."""
        if self.by == "pixels":
            return Pixels()
        kind = world.checkpoint.card.recipe.get("dataset", {}).get("kind")
        if kind not in JUDGES:
            raise LabError("No shipped reader knows these pictures; compare by pixels.")
        return JUDGES[kind][0]

    def seconds(self, world: World, beside: World | None = None) -> float:
        """Drawing each model's pictures that are not remembered."""
        return sum(pace(loop) for _, loop in self._loops(world, beside))


WALLS: Registry[Part] = Registry("part", Detect, Classify, Vote, Replicate)


def _distance(drawn: Labelled, world: World, describer: Any) -> Score | None:
    """From held-out pictures, none of which is poisoned; pixels say nothing about quality."""
    if isinstance(describer, Pixels):
        return None
    evidence = Evidence(images=drawn.x, reference=world.held_out, reader=describer)
    return FeatureDistance().measure(evidence)


def _pairs(found: Replication, drawn: Labelled, training: Labelled) -> str | None:
    """The nearest pairs as one picture: above what was drawn, below the training picture."""
    chosen = found.pairs[:PAIRS]
    above, below = drawn.x[[pair.a for pair in chosen]], training.x[[pair.b for pair in chosen]]
    return uri(png(tile(torch.cat([above, below]), columns=len(chosen))))


def pace(loop: Iterator[Any]) -> float:
    """Seconds that a loop will take, from a few of its first steps and its ticks' total."""
    for _ in islice(loop, WARM):
        pass
    begun, ticks = time.perf_counter(), [news for news in islice(loop, TIMED) if isinstance(news, Tick)]
    if not ticks:
        return 0.0  # it was done at once
    return (time.perf_counter() - begun) / len(ticks) * ticks[0].total


def _plain(found: Sequence[Options]) -> list[dict[str, Any]]:
    return [each.model_dump(mode="json") for each in found]
