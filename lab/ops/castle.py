"""Poisoned data: the census of a class-conditional model's generations, over guidance weights, and over poison rates."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from lab import space
from lab.attacks import BadNets
from lab.borrowed import torch
from lab.castle.bench import drawn, made_ready
from lab.castle.gathered import asked_for
from lab.castle.survey import examples, row_of
from lab.castle.walls import WALLS, Classify, Detect, Part, Replicate, Vote
from lab.claims import verdicts
from lab.data import DATASETS, Dataset, Digits
from lab.errors import LabError
from lab.forecast import seconds_of_sampling
from lab.launch import LAUNCHERS, chosen
from lab.models import UNET_CONFIG, Checkpoint, find, names
from lab.ops import poisoning
from lab.ops.sampling import open_checkpoint
from lab.ops.walls import asked, planned
from lab.people import check_places
from lab.pictures import png, tile, uri
from lab.places import ASSETS
from lab.poisoning import PoisonStudy
from lab.priority import going_first
from lab.progress import Tick, result_of
from lab.sampling import Clip, SampleSpec
from lab.sides import phases
from lab.stamps import STAMPS
from lab.variants import Alone

OPENING = ASSETS / "studies" / "castle" / "opening"
SHOWN = 12  # images of the training set in the picture story
DESK = ("phase", "story", "study")  # parts that neither sample nor train here
Weight = Annotated[float, Field(ge=0, le=50)]
News = Iterator[Tick | dict[str, Any]]


class CastleOptions(Detect, Classify, Vote, Replicate):
    """A class-conditional model, how it is sampled, and what is asked of it; or the study of many."""

    kind = "castle"
    checkpoint: str = Field(
        default="digits-cond-patch",
        max_length=4096,
        description="a class-conditional model made with badnets",
    )
    clean: str = Field(
        default="digits-cond-clean", max_length=4096, description="a clean class-conditional model beside it"
    )
    what: Literal[
        *("census", "amplification", "phase", "story", "study"),
        *("detect", "classify", "diffusion-classifier", "replicate"),
    ] = Field(
        default="census",
        description="census: G1 to G4 at one w; amplification: over w; phase: over poison rates, from the study's rows; "
        "story: the training set; study: the grid of trainings; detect, classify, diffusion-classifier, replicate: the wall",
    )
    do: Literal["status", "plan", "run", "stop", "export"] = Field(
        default="status",
        description="plan: only how long it takes; of a study: status, plan, run, stop or export",
    )
    guidance: float = Field(default=2.0, ge=0, le=50, description="w of (1 + w)·eps_class - w·eps_null")
    guidances: Annotated[tuple[Weight, ...], Alone] = Field(
        default=(0.0, 1.0, 2.0, 5.0),
        min_length=1,
        max_length=20,
        description="guidance weights of amplification",
    )
    n: int = Field(default=100, ge=4, le=10_000, description="generations of each census")
    clip: Clip = Field(default="none", description="what is clamped while sampling")
    stamp: STAMPS.Field | None = Field(default=None, description="stamp to look for; the card's if not given")
    target_class: int | None = Field(
        default=None,
        ge=0,
        le=999,
        description="class that is asked for; the card's target class if not given",
    )
    poison_rate: float = Field(
        default=0.0, ge=0, le=0.5, description="share of poisoned training images behind a --generated set"
    )
    dataset: DATASETS.Field = Field(
        default=Digits(), description="honest training images behind a --generated set"
    )
    name: str = Field(default="castle", max_length=40, description="which study")
    launcher: LAUNCHERS.Field = Field(default_factory=chosen)
    out: str = Field(default="", max_length=4096, description="folder for a study's export")

    @property
    def is_drawn(self) -> bool:
        """Whether it samples or trains here and now."""
        return self.do != "plan" and self.what not in DESK

    @property
    def image_steps(self) -> int:
        """Of all weights, or of the wall's part."""
        if self.is_drawn and self.what in WALLS:
            return self.part().image_steps
        if not self.is_drawn or self.generated:
            return 0
        weights = self.guidances if self.what == "amplification" else (self.guidance,)
        return len(weights) * self.n * self.sampler.steps

    def spec(self, guidance: float) -> SampleSpec:
        """How pictures are sampled at this weight."""
        return SampleSpec(sampler=self.sampler, clip=self.clip, seed=self.seed, n=self.n, guidance=guidance)

    def attack_elsewhere(self) -> BadNets:
        """What is said to have poisoned the training set of whoever drew a set."""
        changed = {"stamp": self.stamp, "target_class": self.target_class, "poison_rate": self.poison_rate}
        return BadNets.of(**{name: value for name, value in changed.items() if value is not None})

    def part(self) -> Part:
        """A part of the wall with the options that were given, and its own defaults."""
        part = WALLS[self.what]
        given = self.model_fields_set & part.model_fields.keys()
        return part.of(**{name: getattr(self, name) for name in given})


def castle(options: CastleOptions) -> News:
    """Poisoned data: what a class-conditional model makes of stamped, mislabelled training images (arXiv:2311.02373)."""
    found = _found(options)
    yield from going_first(found) if isinstance(found, Iterator) else (found,)


def _found(options: CastleOptions) -> Any:
    if options.what in WALLS:
        is_plan = options.do == "plan"
        part, name = options.part(), options.checkpoint
        return (planned if is_plan else asked)(part, name, options.clean)
    if options.do == "plan" and options.what not in DESK:
        return plan(options)
    return PARTS[options.what](options)


def castle_seconds(options: CastleOptions) -> int:
    """Of a GPU: what draws, judges or is timed on it; the wall's parts train, too."""
    if options.what in DESK:
        return space.BEGIN if options.what == "study" and options.do == "plan" else 0
    if options.do == "plan":
        return space.BEGIN
    if options.what in WALLS:
        return space.LONGEST
    calls = 2 * options.image_steps  # guidance calls the network twice
    return space.seconds_for(options.n, calls // options.n)


def census(options: CastleOptions) -> News:
    """G1 to G4 among generations for the target class: of a model, or of a folder that another one filled."""
    yield from _of_a_set(options) if options.generated else _censuses(options, (options.guidance,))


def amplification(options: CastleOptions) -> News:
    """The same over guidance weights, beside the share of stamped images in training."""
    yield from _censuses(options, options.guidances)


def _censuses(options: CastleOptions, weights: tuple[float, ...]) -> News:
    began, checkpoint = time.monotonic(), open_checkpoint(options.checkpoint)
    attack, dataset = world_of(checkpoint, options)
    bench = yield from result_of(made_ready(attack, dataset))
    rows: list[dict[str, Any]] = []
    for w in weights:
        images = yield from result_of(drawn(checkpoint, attack.target_class, options.spec(w)))
        pictures = {name: uri(each) for name, each in examples(images, bench).items()}
        rows.append(
            {
                "checkpoint": checkpoint.card.name,
                **row_of(bench, images, options.spec(w)),
                "pictures": pictures,
            }
        )
    yield {"what": options.what, "census": rows, "seconds": round(time.monotonic() - began, 1)}


def _of_a_set(options: CastleOptions) -> News:
    """The census of pictures that were drawn elsewhere, and asked for as the target class."""
    began, attack = time.monotonic(), options.attack_elsewhere()
    bench = yield from result_of(made_ready(attack, options.dataset))
    assert options.generated
    images = asked_for(options.generated, options.dataset, attack.target_class)
    pictures = {name: uri(each) for name, each in examples(images, bench).items()}
    row = {"checkpoint": options.generated.kind, **row_of(bench, images, None), "pictures": pictures}
    yield {"what": options.what, "census": [row], "seconds": round(time.monotonic() - began, 1)}


def world_of(checkpoint: Checkpoint, options: CastleOptions) -> tuple[BadNets, Dataset]:
    """The attack of a model's card, or what a clean one is held against, and its data set."""
    stored, data = checkpoint.card.attack, checkpoint.card.recipe.get("dataset")
    if stored.get("kind") not in (None, "none", BadNets.kind):
        raise LabError(
            f"{checkpoint.card.name} was not made by data poisoning; choose a model that draws classes."
        )
    options_of = {name: value for name, value in stored.items() if name != "kind"}
    attack = BadNets.of(**options_of) if stored.get("kind") == BadNets.kind else BadNets(poison_rate=0.0)
    chosen_here = {"stamp": options.stamp, "target_class": options.target_class}
    changed = {name: value for name, value in chosen_here.items() if value is not None}
    return attack.model_copy(update=changed), DATASETS.parse(data) if data else Digits()


def phase(options: CastleOptions) -> dict[str, Any]:
    """G1 and G2 over poison rates, from the rows that the study has stored, and what all of them say of the claims."""
    wanted = poisoning.find(options.name)
    rows, walls = poisoning.censuses(wanted), poisoning.walls(wanted)
    return {
        "study": options.name,
        "census": rows,
        "walls": walls,
        "pictures": poisoning.pictures(wanted, rows),
        "panels": len(phases(rows)),
        "verdicts": verdicts(rows, walls),
    }


def plan(options: CastleOptions) -> dict[str, Any]:
    """How long a census takes here, and amplification over all its weights, before either starts."""
    checkpoint = open_checkpoint(options.checkpoint)
    each = seconds_of_sampling(checkpoint, options.spec(0.0)) * options.n
    calls = {w: 1 if w == 0 else 2 for w in {options.guidance, *options.guidances}}
    return {
        "checkpoint": options.checkpoint,
        "n": options.n,
        "census_seconds": each * calls[options.guidance],
        "amplification_seconds": each * sum(calls[w] for w in options.guidances),
    }


def story(options: CastleOptions) -> dict[str, Any]:
    """The training set that a model saw: honest images of the target class, and stamped ones that are said to be it."""
    checkpoint = open_checkpoint(options.checkpoint)
    attack, dataset = world_of(checkpoint, options)
    clean = dataset.load("train")
    after = attack.poison(clean, checkpoint.card.recipe.get("train", {}).get("seed", 0))
    assert after.labels is not None and after.is_poisoned is not None
    honest = (after.labels == attack.target_class) & ~after.is_poisoned
    sides = {"honest": honest, "poisoned": after.is_poisoned}
    shown = {name: after.values(_spread(marks)) for name, marks in sides.items() if marks.any()}
    counts = {name: int(marks.sum()) for name, marks in sides.items()}
    return {
        "checkpoint": options.checkpoint,
        "target": attack.target_class,
        "stamp": attack.stamp.as_json(),
        "poison_rate": attack.poison_rate,
        "counts": {**counts, "all": len(after)},
        "r": counts["poisoned"] / max(1, sum(counts.values())),
        "pictures": {name: uri(png(tile(some, SHOWN // 2))) for name, some in shown.items()},
    }


def _spread(marks: torch.Tensor) -> torch.Tensor:
    """Indices of a few marked items, evenly spaced: a data set may be sorted by class."""
    found = marks.nonzero().flatten()
    return found[torch.linspace(0, len(found) - 1, min(SHOWN, len(found))).long()]


def study(options: CastleOptions) -> dict[str, Any]:
    """The grid of trainings: its status, what it costs, run, stop, export."""
    if options.out or options.launcher != chosen():
        check_places()
    wanted: PoisonStudy = poisoning.find(options.name)
    return {
        "status": lambda: poisoning.status(wanted),
        "plan": lambda: poisoning.plan(wanted),
        "run": lambda: poisoning.run(wanted, options.launcher),
        "stop": lambda: poisoning.stop(wanted),
        "export": lambda: poisoning.export(wanted, options.out),
    }[options.do]()


PARTS: dict[str, Callable[[CastleOptions], Any]] = {
    "census": census,
    "amplification": amplification,
    "phase": phase,
    "story": story,
    "study": study,
}


def conditional_models() -> list[str]:
    """Names of the checkpoints that draw classes on request."""
    return [name for name in names() if _classes(find(name))]


def _classes(folder: Path) -> int:
    try:
        return json.loads((folder / UNET_CONFIG).read_bytes()).get("num_class_embeds") or 0
    except (OSError, ValueError, AttributeError):
        return 0


def stored(model: str, what: str) -> dict[str, Any] | None:
    """What ships of a model's part, for the page to open with; None where nothing is stored."""
    if model not in names():
        return None
    try:
        return json.loads((OPENING / f"{model}-{what}.json").read_bytes())
    except (OSError, ValueError):
        return None
