"""A report: models measured under the same conditions, side by side; what was measured once is remembered."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lab import __version__
from lab.borrowed import torch
from lab.engine import Denoiser
from lab.evaluate import Condition, Row, Sampling, Trial, conditions, judge
from lab.metrics.real import described
from lab.models import as_json
from lab.pictures import sheet, write_atomically
from lab.places import home
from lab.priority import going_first
from lab.progress import Tick

SHOWN = 16  # images of a measurement that are kept as a picture
# Which way is better, of the scores that say how good pictures are; those that are about the target are neither good
# nor bad: nearer means that the backdoor works.
BETTER = {
    "FID": min,
    "KID": min,
    "feature distance": min,
    "kernel distance": min,
    "precision": max,
    "recall": max,
    "confident digits": max,
    "confident faces": max,
    "commonest digit": min,
    "commonest face": min,
}
NEARER = {"success": max, "MSE": min, "MSE / no attack": min, "PSNR": max, "SSIM": max, "LPIPS": min}
SMALL = 1000  # images below which a distance is mostly its own bias and noise


@dataclass(frozen=True)
class Found:
    """What came of a measurement: its row, a picture of its first images, and whether it was known before."""

    row: Row
    picture: bytes
    remembered: bool


@dataclass(frozen=True)
class Measurement:
    """A trial under one condition."""

    trial: Trial
    condition: Condition

    @property
    def title(self) -> str:
        """What a person reads."""
        spec = self.trial.spec
        return f"{self.trial.checkpoint.card.name}, {self.condition}, {spec.sampler.title}, clip {spec.clip}"

    @property
    def key(self) -> str:
        """Names everything that decides the row: weights, noise, target by its pixels, sampling, judges, version."""
        trial = self.trial
        target = trial.target.draw(trial.checkpoint.shape, trial.trigger)
        added = conditions(trial.trigger)[self.condition].shift(trial.checkpoint.shape)
        reader, own = judge(trial.checkpoint)
        real = trial.reference or own
        decides = {
            "weights": _digest(*trial.checkpoint.unet.state_dict().values()),  # a card's word may be wrong
            "schedule": trial.checkpoint.schedule.config,
            "added": _digest(added),
            "target": _digest(target),
            "spec": trial.spec.model_dump(mode="json"),
            "exact": trial.exact,
            "no_attack": trial.no_attack,
            "judges": [each.identity for each in ((reader, *trial.further) if reader else trial.further)],
            "reference": described(real) if real else "",
            "version": __version__,
        }
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:24]

    @cached_property
    def folder(self) -> Path:
        """Where it is remembered."""
        return home() / "measured" / self.key

    def known(self) -> Found | None:
        """What was found before, if it lies there whole."""
        try:
            row = Row(**json.loads((self.folder / "row.json").read_bytes()))
            return Found(row, (self.folder / "images.png").read_bytes(), remembered=True)
        except (OSError, ValueError, TypeError, ValidationError):
            return None

    def made(self, denoiser: Denoiser) -> Iterator[Tick | Found]:
        """Sample and score it; a tick each step, what was found at the end, which is remembered from then on."""
        trial, added = self.trial, conditions(self.trial.trigger)[self.condition]
        sampling = Sampling(trial.checkpoint, trial.spec, denoiser)
        for step in going_first(sampling.steps(added)):
            yield Tick(step.step, step.total, text=self.title)
        images = torch.cat(sampling.images)
        row, picture = trial.row(self.condition, added, images), sheet(images[:SHOWN])
        write_atomically(self.folder / "images.png", picture)
        write_atomically(self.folder / "row.json", as_json(row.model_dump(mode="json")))
        yield Found(row, picture, remembered=False)


def _digest(*tensors: torch.Tensor) -> str:
    parts = (tensor.detach().cpu().contiguous().numpy().tobytes() for tensor in tensors)
    return hashlib.sha256(b"".join(parts)).hexdigest()


def measured(measurements: list[Measurement]) -> Iterator[Tick | Found]:
    """Each measurement, remembered or made; ticks count the steps of all that are left to make."""
    found = [measurement.known() for measurement in measurements]
    denoisers: dict[int, Denoiser] = {}
    left = [k for k, known in enumerate(found) if known is None]
    for k, (measurement, known) in enumerate(zip(measurements, found, strict=True)):
        if known:
            yield known
            continue
        trial = measurement.trial
        denoiser = denoisers.setdefault(id(trial.checkpoint), Denoiser(trial.checkpoint.unet, trial.exact))
        for news in measurement.made(denoiser):
            yield _counted(news, left.index(k), len(left)) if isinstance(news, Tick) else news


def _counted(tick: Tick, before: int, of: int) -> Tick:
    return Tick(before * tick.total + tick.step, of * tick.total, text=f"{before + 1} of {of}: {tick.text}")


# Reading a report ------------------------------------------------------------------------------------------------


def best(rows: list[dict[str, Any]]) -> dict[str, int]:
    """Which row has the best value of each score that says how good pictures are: only where clean noise was drawn."""
    return {name: index for name, way in BETTER.items() if (index := _extreme(rows, name, way)) is not None}


def nearest(rows: list[dict[str, Any]]) -> dict[str, int]:
    """Which row is nearest to the target by each score that is about it."""
    return {name: index for name, way in NEARER.items() if (index := _extreme(rows, name, way)) is not None}


def _extreme(rows: list[dict[str, Any]], name: str, way: Any) -> int | None:
    """The row with the extreme value; None where fewer than two have one, or the two first are equal."""
    clean_only = name in BETTER
    values = {
        k: score["value"]
        for k, row in enumerate(rows)
        if (score := score_of(row, name)) and (row["condition"] == "clean" or not clean_only)
    }
    if len(values) < 2 or len(set(values.values())) == 1:
        return None
    return way(values, key=values.__getitem__)


def score_of(row: dict[str, Any], name: str) -> dict[str, Any] | None:
    """A row's score by name."""
    return next((score for score in row["scores"] if score["name"] == name), None)


def difference(one: dict[str, Any], other: dict[str, Any]) -> tuple[float, float, float] | None:
    """other - one with its 95 % interval, from the two intervals (MOVER, doi:10.1002/sim.3095); None without them."""
    ends = [one.get("low"), one.get("high"), other.get("low"), other.get("high")]
    if any(end is None for end in ends):
        return None
    low_1, high_1, low_2, high_2 = ends
    a, b = one["value"], other["value"]
    below = math.hypot(b - low_2, high_1 - a)
    above = math.hypot(high_2 - b, a - low_1)
    return b - a, b - a - below, b - a + above


def caution(rows: list[dict[str, Any]]) -> str:
    """What so few images do to a distance, in one sentence; empty where there are enough."""
    n = min((row["n"] for row in rows), default=SMALL)
    if n >= SMALL or not any(score_of(row, name) for row in rows for name in ("FID", "feature distance")):
        return ""
    return (
        f"With n = {n} a Fréchet distance is larger than with many images (its bias falls as 1/n): "
        "compare it only with one of the same n. Kernel distance, precision and recall suffer less."
    )
