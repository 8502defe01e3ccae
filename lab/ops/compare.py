"""Models side by side: the same conditions, samplers and clips, measured with the same metrics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from lab import space
from lab.errors import LabError
from lab.evaluate import Condition, Trial, judge, level, target_of, trigger_of
from lab.metrics.inception import inception
from lab.models import Card, Checkpoint, find, read_card
from lab.models import names as known_names
from lab.ops.export import write_report
from lab.ops.sampling import open_checkpoint
from lab.pictures import uri
from lab.progress import Tick
from lab.report import Found, Measurement, best, caution, measured, nearest
from lab.sampling import DDPM, SAMPLERS, Clip, SampleSpec
from lab.triggers import TARGETS, TRIGGERS
from lab.variants import Alone, Options

MAX_CELLS = 96
Unique = AfterValidator(lambda value: tuple(dict.fromkeys(value)))


class CompareOptions(Options):
    """Which models, and under which conditions."""

    checkpoints: Annotated[tuple[str, ...], Unique, Alone] = Field(
        default=("mnist-clean", "mnist-grey-box-hat"), min_length=1, max_length=12, description="models"
    )
    conditions: Annotated[tuple[Condition, ...], Unique, Alone] = Field(
        default=("clean", "triggered"), min_length=1, description="which noise to start from"
    )
    samplers: Annotated[tuple[SAMPLERS.Field, ...], Alone] = Field(
        default=(DDPM(),), min_length=1, max_length=12, description="samplers, by name or as JSON with steps"
    )
    clips: Annotated[tuple[Clip, ...], Unique, Alone] = Field(
        default=("none",), min_length=1, description="inference-time clipping"
    )
    n: int = Field(default=64, ge=1, le=100_000, description="images of each cell")
    seed: int = Field(default=0, ge=0, lt=2**31, description="first image's noise; the same for all models")
    trigger: TRIGGERS.Field | None = Field(default=None, description="each card's own if not given")
    target: TARGETS.Field | None = Field(default=None, description="each card's own if not given")
    fid: bool = Field(
        default=False, description="also FID: Inception's weights are fetched once, 96 MB; slow without a GPU"
    )
    exact: bool = Field(default=False, description="plain float32, one image at a time: repeatable, and slow")
    out: str = Field(
        default="", max_length=4096, description="folder for the report as JSON, CSV, PNG, PDF and HTML"
    )

    @property
    def image_steps(self) -> int:
        """Of all cells."""
        cells = len(self.checkpoints) * len(self.conditions) * len(self.clips)
        return cells * self.n * sum(sampler.steps for sampler in self.samplers)


def compare(options: CompareOptions) -> Iterator[Tick | dict[str, Any]]:
    """Models side by side under the same conditions: pictures, numbers with intervals, what is best, what differs."""
    measurements, skipped = _measurements(options)
    found: list[Found] = []
    for news in measured(measurements):
        if isinstance(news, Tick):
            yield news
        else:
            found.append(news)
            yield report(found, skipped, len(measurements))
    result = report(found, skipped, len(measurements))
    if options.out:
        result["out"] = write_report(result, Path(options.out).expanduser())
    yield result


def compare_seconds(options: CompareOptions) -> int:
    """Of a GPU: each model under each condition, sampler and clip."""
    cells = len(options.checkpoints) * len(options.conditions) * len(options.clips)
    return space.seconds_for(options.n, cells * sum(sampler.steps for sampler in options.samplers))


def report(found: list[Found], skipped: list[str], planned: int) -> dict[str, Any]:
    """Plain JSON of what was found so far."""
    rows = [
        {
            **each.row.model_dump(mode="json"),
            "picture": uri(each.picture),
            "remembered": each.remembered,
        }
        for each in found
    ]
    return _whole(rows, skipped, planned)


def _is_plain(row: dict[str, Any], card: Card, condition: str) -> bool:
    asked = condition, "none", SAMPLERS.parse(card.sampler).as_json()
    return (row["condition"], row["clip"], row["sampler"]) == asked


def _whole(rows: list[dict[str, Any]], skipped: list[str], planned: int) -> dict[str, Any]:
    return {
        "rows": rows,
        "best": best(rows),
        "nearest": nearest(rows),
        "caution": caution(rows),
        "skipped": skipped,
        "planned": planned,
        "authors": _authors(dict.fromkeys(row["checkpoint"] for row in rows)),
    }


def _authors(names: Iterable[str]) -> dict[str, dict[str, float]]:
    """What the authors of models say that they measured, by the model's name; it is not checked here."""
    here = set(known_names())
    cards = {name: read_card(find(name)) for name in names if name in here}
    return {name: card.authors_scores for name, card in cards.items() if card.authors_scores}


def from_cards(names: tuple[str, ...]) -> dict[str, Any]:
    """A report of what the cards of models say already: plain sampling, with the most images that there are."""
    rows = [
        max(known, key=lambda row: row["n"])
        for card in (read_card(find(name)) for name in names)
        for condition in ("clean", "triggered")
        if (known := [row for row in card.scores if _is_plain(row, card, condition)])
    ]
    return _whole([{**row, "picture": "", "remembered": True} for row in rows], [], len(rows))


def _measurements(options: CompareOptions) -> tuple[list[Measurement], list[str]]:
    """All cells of the report that can be sampled, and a sentence for each kind that cannot."""
    checkpoints = [open_checkpoint(name) for name in options.checkpoints]
    trigger, target = _asked(options, checkpoints)
    further = (inception(),) if options.fid else ()
    cells, skipped = [], {}
    for checkpoint, sampler, clip in product(checkpoints, options.samplers, options.clips):
        if clip not in sampler.clips:
            skipped[sampler.kind, clip] = f"{sampler.kind} has no clip {clip}: {sampler.why_not(clip)}."
            continue
        spec = SampleSpec(sampler=sampler, n=options.n, seed=options.seed, clip=clip)
        own = trigger or trigger_of(checkpoint.card), target or target_of(checkpoint.card)
        trial = Trial(checkpoint, *own, spec, options.exact, level(checkpoint, *own), further)
        cells += [Measurement(trial, condition) for condition in options.conditions]
    for checkpoint in checkpoints if options.fid else ():
        if not judge(checkpoint)[1]:
            name = checkpoint.card.name
            skipped[name, "fid"] = (
                f"{name} has no FID: what its real images are is not known; `evaluate` takes them."
            )
    if len(cells) > MAX_CELLS:
        raise LabError(f"That would be {len(cells)} measurements; at most {MAX_CELLS} make one report.")
    if not cells:
        raise LabError(" ".join(skipped.values()))
    return cells, list(skipped.values())


def _asked(options: CompareOptions, checkpoints: list[Checkpoint]) -> tuple[Any, Any]:
    """Trigger and target for all models: what was asked for, else those of the first backdoored one among clean ones.

    Where several backdoors are compared, each is asked for its own.
    """
    attacked = [checkpoint.card for checkpoint in checkpoints if checkpoint.card.backdoored]
    if len({str(card.attack) for card in attacked}) != 1:
        return options.trigger, options.target
    return options.trigger or trigger_of(attacked[0]), options.target or target_of(attacked[0])
