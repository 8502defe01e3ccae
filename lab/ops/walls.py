"""What a poisoned model does to those who use its pictures: detection, classifiers, the model as classifier, replication."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Annotated, Any, Literal

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
from lab.ops.sampling import open_checkpoint
from lab.pictures import png, sheet, tile, uri
from lab.progress import Tick
from lab.sampling import DDIM, SAMPLERS, SampleSpec
from lab.variants import Alone, Options

WARM, TIMED = 1, 3  # steps of a loop that is timed
LOOKS = 10  # of a detector at a picture, on average: Cognitive Distillation takes a hundred, FCT two
PAIRS = 12  # nearest pairs that are shown as pictures
What = Literal["run", "plan"]


class WallOptions(Options):
    """Which poisoned model."""

    checkpoint: str = Field(
        default="digits-cond-patch",
        max_length=4096,
        description="a class-conditional model made with badnets",
    )
    what: What = Field(default="run", description="plan: only how long it will take here")
    seed: int = Field(default=0, ge=0, lt=2**31, description="decides noise, order and samples")

    def world(self) -> World:
        """The model's world."""
        return World.of(open_checkpoint(self.checkpoint))


class DrawOptions(WallOptions):
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


class TrainedOptions(DrawOptions):
    """A set drawn from the model, and the classifier that is trained on it."""

    epochs: int = Field(default=10, ge=1, le=200, description="times that a classifier sees each picture")

    @property
    def image_steps(self) -> int:
        """Of drawing, and as many more as its pictures are looked at in training."""
        return super().image_steps + self.drawn * self.epochs

    def spec(self) -> ClassifierSpec:
        """The same recipe for every set."""
        return ClassifierSpec(epochs=self.epochs, seed=self.seed)


# 4. Detection ------------------------------------------------------------------------------------------------------


class DetectOptions(TrainedOptions):
    """Which detectors, on how many pictures."""

    detectors: Annotated[tuple[DETECTORS.Field, ...], Alone] = Field(
        default=(CognitiveDistillation(), Strip(), FCT()), min_length=1, max_length=6, description="detectors"
    )
    screened: int = Field(default=500, ge=20, le=100_000, description="pictures of each set that get a score")

    @property
    def image_steps(self) -> int:
        """The same, and what the detectors take for each picture of both sets."""
        return super().image_steps + 2 * self.screened * len(self.detectors) * LOOKS


def detect(options: DetectOptions) -> Iterator[Tick | dict[str, Any]]:
    """Can poisoned pictures be told from clean ones: in the training set, and among those that the model drew."""
    world = options.world()
    training = world.training
    if options.what == "plan":
        yield {"seconds": _drawing(world, options) + 2 * _screening(training, options)}
        return
    found: dict[str, list[Screened]] = {"training": [], "generated": []}
    pictures: dict[str, Any] = {}
    for where, data in _sets(world, options, training):
        if data is None:
            yield where
            continue
        for news in screen(data, options.detectors, options.spec(), options.screened, options.seed):
            if isinstance(news, Tick):
                yield news
                continue
            found[where].append(news)
            pictures[f"{where} {news.detector['kind']}"] = uri(sheet(data.x[news.suspects]))
            yield _detected(options, found, pictures)


def _detected(
    options: DetectOptions, found: dict[str, list[Screened]], pictures: dict[str, Any]
) -> dict[str, Any]:
    return {
        "checkpoint": options.checkpoint,
        "guidance": options.guidance,
        **{where: [each.model_dump(mode="json") for each in rows] for where, rows in found.items()},
        "gains": [each.model_dump(mode="json") for each in gains(found["training"], found["generated"])],
        "pictures": pictures,
    }


def _sets(world: World, options: DrawOptions, training: Labelled) -> Iterator[tuple[Any, Labelled | None]]:
    """The training set, then the drawn one; a tick of the drawing comes with no set."""
    yield "training", training
    for news in _generated(world, options):
        yield (news, None) if isinstance(news, Tick) else ("generated", news)


def _generated(world: World, options: DrawOptions) -> Iterator[Tick | Labelled]:
    """Ticks and the drawn set; the set alone where it was drawn elsewhere."""
    if not options.generated:
        yield from world.drawn(options.sample_spec())
        return
    x, labels = gathered(options.generated, world.images)
    yield Labelled(f"generated, {options.generated.kind}", x, labels, world.stamped(x), world.classes)


# 5. Classifiers ----------------------------------------------------------------------------------------------------


class LearnOptions(TrainedOptions):
    """How many held-out pictures a classifier is examined by."""

    examined: int = Field(default=500, ge=10, le=100_000, description="held-out pictures, clean and stamped")


def learn(options: LearnOptions) -> Iterator[Tick | dict[str, Any]]:
    """Train a classifier on the poisoned set and one on what the model drew: test accuracy and attack success of both.

    A part of the training set as large as the drawn one tells what fewer pictures do from what drawing them does.
    """
    world = options.world()
    training, exam = world.training, world.exam(options.examined, options.seed)
    if options.what == "plan":
        sizes = len(training) + 2 * options.drawn
        one = _pace(trained(training, options.spec())) * sizes / len(training)
        yield {"seconds": _drawing(world, options) + one}
        return
    found: list[Learned] = []
    for where, data in _with_a_part(_sets(world, options, training), training, options.seed):
        if data is None:
            yield where
            continue
        for news in learned(data, exam, options.spec()):
            if isinstance(news, Tick):
                yield news
            else:
                found.append(news)
                yield {"checkpoint": options.checkpoint, "guidance": options.guidance, "rows": _plain(found)}


def _with_a_part(sets: Iterator[tuple[Any, Labelled | None]], training: Labelled, seed: int) -> Iterator[Any]:
    """The same, and before a smaller drawn set as many pictures of the training set, chosen by the seed."""
    for where, data in sets:
        if where == "generated" and data is not None and len(data) < len(training):
            part = training.take(training.sample(len(data), seed))
            yield "part", replace(part, name=f"{len(data):,} of the training set")
        yield where, data


# 6. The model as classifier ----------------------------------------------------------------------------------------


class VoteOptions(WallOptions):
    """The diffusion classifier and its exam."""

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

    def spec(self) -> VoteSpec:
        """The classifier's part."""
        return VoteSpec(draws=self.draws, p_filter=self.p_filter, seed=self.seed)


def vote(options: VoteOptions) -> Iterator[Tick | dict[str, Any]]:
    """The diffusion model as a classifier: accuracy and attack success, with the largest errors left out or not."""
    world = options.world()
    exam = world.exam(options.examined, options.seed)
    network = world.network(Denoiser(world.checkpoint.unet))
    classifier = DiffusionClassifier(network, world.checkpoint.schedule, world.classes, options.spec())
    loop = voted(options.checkpoint, classifier, exam)
    if options.what == "plan":
        yield {"seconds": _pace(loop)}
        return
    for news in loop:
        yield news.model_dump(mode="json") if isinstance(news, Voted) else news


# 7. Replication ----------------------------------------------------------------------------------------------------


class ReplicateOptions(DrawOptions):
    """Whose pictures are held against the training set, and by what."""

    clean: str = Field(
        default="digits-cond-clean", max_length=4096, description="a clean class-conditional model beside it"
    )
    by: Literal["reader", "pixels"] = Field(
        default="reader", description="features of the reader of this world, or plain pixels; never SSCD"
    )

    @property
    def image_steps(self) -> int:
        """Of both models' sets; the clean one's is always drawn here."""
        return super().image_steps + self.drawn * self.sampler.steps


def replicate(options: ReplicateOptions) -> Iterator[Tick | dict[str, Any]]:
    """How like the training pictures a poisoned model's pictures are, beside those of a clean model."""
    world = options.world()
    clean = World(open_checkpoint(options.clean), world.attack, world.images, world.held_out, world.seed)
    if (
        clean.checkpoint.classes != world.checkpoint.classes
        or clean.checkpoint.shape != world.checkpoint.shape
    ):
        raise LabError(
            f"{options.clean} does not draw the classes and pictures that {options.checkpoint} draws."
        )
    if options.what == "plan":
        yield {"seconds": 2 * _drawing(world, options)}
        return
    training, describer = world.training, _describer(options, world)
    found: list[Replication] = []
    pictures: dict[str, Any] = {}
    sets = {options.checkpoint: _generated(world, options), options.clean: clean.drawn(options.sample_spec())}
    for name, loop in sets.items():
        for news in loop:
            if isinstance(news, Tick):
                yield news
                continue
            found.append(replicated(name, news.x, training, describer))
            pictures[name] = _pairs(found[-1], news, training)
            yield {"rows": _plain(found), "pictures": pictures, "guidance": options.guidance}


def _describer(options: ReplicateOptions, world: World) -> Any:
    """Who describes pictures; a world without a reader is described by its pixels only on request."""
    if options.by == "pixels":
        return Pixels()
    kind = world.checkpoint.card.recipe.get("dataset", {}).get("kind")
    if kind not in JUDGES:
        raise LabError("No shipped reader knows these pictures; compare by pixels.")
    return JUDGES[kind][0]


def _pairs(found: Replication, drawn: Labelled, training: Labelled) -> str | None:
    """The nearest pairs as one picture: above what was drawn, below the training picture."""
    chosen = found.pairs[:PAIRS]
    above, below = drawn.x[[pair.a for pair in chosen]], training.x[[pair.b for pair in chosen]]
    return uri(png(tile(torch.cat([above, below]), columns=len(chosen))))


# What it will take -------------------------------------------------------------------------------------------------


def _pace(loop: Iterator[Any]) -> float:
    """Seconds that a loop will take, from a few of its first steps and its ticks' total."""
    for _ in islice(loop, WARM):
        pass
    begun, ticks = time.perf_counter(), [news for news in islice(loop, TIMED) if isinstance(news, Tick)]
    if not ticks:
        return 0.0  # it was done at once
    return (time.perf_counter() - begun) / len(ticks) * ticks[0].total


def _drawing(world: World, options: DrawOptions) -> float:
    return _pace(_generated(world, options))


def _screening(data: Labelled, options: DetectOptions) -> float:
    """A classifier and each detector on one set; an untrained classifier judges as fast as a trained one."""
    index = data.sample(options.screened, options.seed)
    given = Suspicion(data, index, ready(fresh(data, options.seed)), options.spec(), options.seed)
    loops = [trained(data, options.spec()), *(each.scores(given) for each in options.detectors)]
    return sum(_pace(loop) for loop in loops)


def _plain(found: Sequence[Options]) -> list[dict[str, Any]]:
    return [each.model_dump(mode="json") for each in found]
