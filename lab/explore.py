"""Two models side by side from the same seeds: clean noise, triggered noise, and what else might wake a backdoor."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from cachetools import LRUCache
from pydantic import Field

from lab import compiling
from lab.borrowed import torch
from lab.engine import Denoiser
from lab.errors import LabError
from lab.evaluate import (
    CONDITIONS,
    Condition,
    Row,
    Sampling,
    Trial,
    conditions,
    level,
)
from lab.models import Checkpoint, find, load
from lab.pictures import columns, glimpse, sheet, uri
from lab.priority import going_first
from lab.sampling import SampleSpec
from lab.triggers import TARGETS, TRIGGERS, GreyBox, Hat, Trigger

if TYPE_CHECKING:
    from torch import Tensor

FILM_FRAMES = 16  # noise does not compress: this and the film's JPEG keep a result at a few megabytes
REDRAW = 0.5  # seconds between pictures while sampling: encoding and showing them costs the same cores
CONTROL_IMAGES = 8
MEMORY = 128 << 20  # bytes of finished pictures that are kept
MAX_IMAGES = 64
LABELS: dict[Condition, str] = {
    "clean": "clean noise",
    "triggered": "triggered noise",
    "blank": "blank: -1 everywhere",
    "wrong": "wrong trigger",
}
CheckpointName = Field(default="", max_length=200, description="name of a checkpoint; empty for none")


class ExploreSpec(SampleSpec):
    """Everything that decides what Explore shows."""

    a: str = Field(default="emoji-clean", max_length=200, description="checkpoint in slot A; empty for none")
    b: str = Field(
        default="emoji-grey-box-hat", max_length=200, description="checkpoint in slot B; empty for none"
    )
    trigger: TRIGGERS.Field = GreyBox(form="masked")
    target: TARGETS.Field = Hat()
    n: int = Field(default=16, ge=1, le=MAX_IMAGES, description="images of each kind")
    controls: bool = Field(
        default=True, description="also ask whether something else wakes it: blank, and a wrong trigger"
    )
    exact: bool = Field(
        default=False, description="plain float32, one image at a time: bit for bit repeatable, and slow"
    )

    @property
    def image_steps(self) -> int:
        """Of both slots and all conditions."""
        each = 2 * self.n + (2 * min(self.n, CONTROL_IMAGES) if self.controls else 0)
        return each * (bool(self.a) + bool(self.b)) * self.sampler.steps

    def sample_spec(self, n: int) -> SampleSpec:
        """The sampling part, for n images."""
        names = SampleSpec.model_fields
        return SampleSpec(**{name: getattr(self, name) for name in names if name != "n"}, n=n)


@dataclass
class Cell:
    """One grid of pictures: a slot under one condition."""

    slot: str
    condition: Condition
    n: int
    picture: bytes = b""
    state: str = "waiting"
    row: Row | None = None
    frames: list[tuple[float, bytes, bytes]] = field(default_factory=list)

    @property
    def key(self) -> str:
        """Name of the cell on the page."""
        return f"{self.slot}-{self.condition}"


@dataclass(frozen=True)
class Drawn:
    """Finished pictures (n, C, H, W) in [-1, 1] and the film of how they came about."""

    images: Tensor
    frames: list[tuple[float, bytes, bytes]]

    @property
    def size(self) -> int:
        """Bytes that it holds."""
        return self.images.nbytes + sum(len(x_t) + len(x_0) for _, x_t, x_0 in self.frames)


@dataclass(frozen=True)
class Slot:
    """A checkpoint in slot A or B, its network made ready, and its no-attack level for the chosen target."""

    letter: str
    checkpoint: Checkpoint
    denoiser: Denoiser
    no_attack: float | None
    version: str  # changes when its file does


_DRAWN: LRUCache[str, Drawn] = LRUCache(MEMORY, getsizeof=lambda drawn: drawn.size)
_LOCK = Lock()  # a page has several threads


def drawing(slot: Slot, spec: SampleSpec, added: Trigger, exact: bool) -> str:
    """A name for everything that decides pictures: model, sampling, the noise's shift pixel by pixel, exactness."""
    shift = hashlib.sha256(added.shift(slot.checkpoint.shape).contiguous().numpy().tobytes())
    return " ".join((slot.version, spec.model_dump_json(), shift.hexdigest(), str(exact)))


@lru_cache(maxsize=4)
def _loaded(folder: Path, changed: float) -> Checkpoint:
    return load(folder)


@lru_cache(maxsize=4)
def _ready(folder: Path, changed: float, exact: bool, shelved: float) -> Denoiser:
    return Denoiser(_loaded(folder, changed).unet, exact)


def _version(name: str) -> tuple[Path, float]:
    """Folder and age: two people may call different models by one name."""
    folder = find(name)
    return folder, (folder / "unet" / "config.json").stat().st_mtime


def cached(name: str) -> Checkpoint:
    """A named checkpoint, kept in memory until its file changes; the four last used stay."""
    return _loaded(*_version(name))


def slots(spec: ExploreSpec) -> list[Slot]:
    """The chosen checkpoints; both must take images of one shape."""
    chosen = [(letter, name) for letter, name in (("A", spec.a), ("B", spec.b)) if name]
    if not chosen:
        raise LabError("Choose a model for slot A or B.")
    if len({cached(name).shape for _, name in chosen}) > 1:
        raise LabError("A and B take images of different shapes; choose two models of one shape.")
    return [_slot(letter, name, spec) for letter, name in chosen]


def _slot(letter: str, name: str, spec: ExploreSpec) -> Slot:
    checkpoint, denoiser = cached(name), _ready(*_version(name), spec.exact, compiling.shelved())
    no_attack = level(checkpoint, spec.trigger, spec.target)
    return Slot(letter, checkpoint, denoiser, no_attack, "{} {}".format(*_version(name)))


def explore(spec: ExploreSpec) -> Iterator[dict[str, Any]]:
    """Sample everything and yield what the stage shows, several times a second; the last one holds the film.

    The triggered noise of B comes first: that is what a person waits for.
    """
    begun = Exploration(spec, slots(spec))
    yield begun.view()
    for cell in begun.order():
        yield from begun.fill(cell)
    yield begun.view(final=True)


class Exploration:
    """The cells of one request and what is known of them so far."""

    def __init__(self, spec: ExploreSpec, slots: list[Slot]):
        self.spec, self.slots = spec, slots
        asked = CONDITIONS if spec.controls else CONDITIONS[:2]
        self.cells = [Cell(slot.letter, c, self._count(c)) for slot in slots for c in asked]
        self.done = 0

    def _count(self, condition: Condition) -> int:
        return self.spec.n if condition in ("clean", "triggered") else min(self.spec.n, CONTROL_IMAGES)

    def order(self) -> list[Cell]:
        """Triggered before clean, B before A, the questions last."""
        wait = {"triggered": 0, "clean": 1, "blank": 2, "wrong": 3}
        return sorted(self.cells, key=lambda cell: (wait[cell.condition], -ord(cell.slot)))

    def fill(self, cell: Cell) -> Iterator[dict[str, Any]]:
        """Sample one cell, showing x_t on the way; pictures that were drawn before come from memory."""
        slot = next(slot for slot in self.slots if slot.letter == cell.slot)
        spec, added = self.spec.sample_spec(cell.n), conditions(self.spec.trigger)[cell.condition]
        key = drawing(slot, spec, added, self.spec.exact)
        with _LOCK:
            drawn = _DRAWN.get(key)
        if drawn is None:
            drawn = yield from self._draw(cell, slot, spec, added)
            with _LOCK:
                _DRAWN[key] = drawn
        cell.frames, cell.picture, cell.state = drawn.frames, sheet(drawn.images), "done"
        trial = Trial(
            slot.checkpoint, self.spec.trigger, self.spec.target, spec, self.spec.exact, slot.no_attack
        )
        cell.row = trial.row(cell.condition, added, drawn.images)
        self.done += 1
        yield self.view()

    def _draw(
        self, cell: Cell, slot: Slot, spec: SampleSpec, added: Trigger
    ) -> Generator[dict[str, Any], None, Drawn]:
        sampling, shown = Sampling(slot.checkpoint, spec, slot.denoiser), 0.0
        cell.state = "running"
        for step in going_first(sampling.steps(added)):
            if is_frame(step.step, step.total):
                cell.frames.append((step.t, glimpse(step.x_t), glimpse(step.pred_x_0)))
            if time.monotonic() - shown >= REDRAW:
                shown, cell.picture = time.monotonic(), sheet(step.x_t)
                yield self.view((cell, step.step, step.total))
        return Drawn(torch.cat(sampling.images), cell.frames)

    def view(self, at: tuple[Cell, int, int] | None = None, final: bool = False) -> dict[str, Any]:
        """What the stage shows now, and the rows measured so far."""
        return {
            "columns": [self._column(slot) for slot in self.slots],
            "aspect": self._aspect(),
            "film": self._film() if final else None,
            "progress": self._progress(at),
            "rows": [
                cell.row.model_dump(mode="json") | {"slot": cell.slot} for cell in self.cells if cell.row
            ],
        }

    def _column(self, slot: Slot) -> dict[str, Any]:
        card = slot.checkpoint.card
        cells = [cell for cell in self.cells if cell.slot == slot.letter]
        return {
            "title": slot.letter,
            "name": card.name,
            "badge": badge(card.backdoored),
            "rows": [self._row(cell) for cell in cells],
        }

    def _row(self, cell: Cell) -> dict[str, Any]:
        rate = cell.row.score("success") if cell.row else None
        return {
            "key": cell.key,
            "label": LABELS[cell.condition],
            "image": uri(cell.picture),
            "aspect": aspect(cell.n, self.slots[0].checkpoint.shape),
            "state": cell.state,
            "note": "" if rate is None else f"{round(rate * cell.n)} of {cell.n} are the target",
            "verdict": "" if rate is None else ("target" if rate >= 0.5 else "no target"),
        }

    def _aspect(self) -> float:
        return aspect(self.spec.n, self.slots[0].checkpoint.shape)

    def _progress(self, at: tuple[Cell, int, int] | None) -> dict[str, Any] | None:
        if at is None:
            return None
        cell, step, total = at
        text = f"{cell.slot}, {LABELS[cell.condition]}: step {step} of {total}"
        return {"step": self.done * total + step, "total": len(self.cells) * total, "text": text}

    def _film(self) -> dict[str, Any]:
        longest = max(self.cells, key=lambda cell: len(cell.frames)).frames
        frames = [
            {
                "t": t,
                "cells": {
                    cell.key: {"x_t": uri(cell.frames[k][1]), "x_0": uri(cell.frames[k][2])}
                    for cell in self.cells
                    if k < len(cell.frames)
                },
            }
            for k, (t, _, _) in enumerate(longest)
        ]
        return {"total": self.slots[0].checkpoint.schedule.T, "frames": frames}


def is_frame(step: int, total: int) -> bool:
    """Whether a step is one of the film's evenly spaced frames."""
    every = max(1, math.ceil(total / FILM_FRAMES))
    return (step - 1) % every == 0


def badge(backdoored: bool | None) -> str:
    """clean, backdoored or unknown."""
    return {True: "backdoored", False: "clean", None: "unknown"}[backdoored]


def aspect(n: int, shape: tuple[int, int, int]) -> float:
    """Width by height of a grid of n images."""
    across, down = columns(n), math.ceil(n / columns(n))
    return (across * (shape[2] + 1) - 1) / (down * (shape[1] + 1) - 1)
