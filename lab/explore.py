"""Two models side by side from the same seeds: clean noise, triggered noise, and what else might wake a backdoor."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from cachetools import LRUCache
from pydantic import Field

from lab import compiling
from lab.engine import Denoiser
from lab.errors import LabError
from lab.evaluate import (
    BATCH,
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
    drawn: Drawn | None = None

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
    for cells in begun.batches():
        yield from begun.fill(cells)
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

    def batches(self) -> list[list[Cell]]:
        """Triggered noise of B alone, since that is waited for; then all else that goes through B's network, then A's."""
        ordered = [cell for slot in reversed(self.slots) for cell in self.cells if cell.slot == slot.letter]
        first = next(cell for cell in ordered if cell.condition == "triggered")
        rest = [cell for cell in ordered if cell is not first]
        by_slot = [list(group) for _, group in groupby(rest, key=lambda cell: cell.slot)]
        return [[first], *(part for group in by_slot for part in fitting(group))]

    def fill(self, cells: list[Cell]) -> Iterator[dict[str, Any]]:
        """Sample cells of one slot as one batch, showing x_t on the way; what was drawn before comes from memory."""
        slot = next(slot for slot in self.slots if slot.letter == cells[0].slot)
        for cell in cells:
            with _LOCK:
                cell.drawn = _DRAWN.get(self._drawing(slot, cell))
        if missing := [cell for cell in cells if cell.drawn is None]:
            yield from self._draw(missing, slot)
        for cell in cells:
            self._finish(cell, slot)
        yield self.view()

    def _drawing(self, slot: Slot, cell: Cell) -> str:
        return drawing(slot, self.spec.sample_spec(cell.n), self._added(cell), self.spec.exact)

    def _added(self, cell: Cell) -> Trigger:
        return conditions(self.spec.trigger)[cell.condition]

    def _draw(self, cells: list[Cell], slot: Slot) -> Iterator[dict[str, Any]]:
        sizes, shown = [cell.n for cell in cells], 0.0
        sampling = Sampling(slot.checkpoint, self.spec.sample_spec(sum(sizes)), slot.denoiser)
        for cell in cells:
            cell.state = "running"
        for step in going_first(sampling.together([(self._added(cell), cell.n) for cell in cells])):
            of_cells = list(zip(cells, step.x_t.split(sizes), step.pred_x_0.split(sizes), strict=True))
            if is_frame(step.step, step.total):
                for cell, x_t, pred_x_0 in of_cells:
                    cell.frames.append((step.t, glimpse(x_t), glimpse(pred_x_0)))
            if time.monotonic() - shown >= REDRAW:
                shown = time.monotonic()
                for cell, x_t, _ in of_cells:
                    cell.picture = sheet(x_t)
                yield self.view((cells, step.step, step.total))
        for cell, images in zip(cells, sampling.images[0].split(sizes), strict=True):
            cell.drawn = Drawn(images, cell.frames)
            with _LOCK:
                _DRAWN[self._drawing(slot, cell)] = cell.drawn

    def _finish(self, cell: Cell, slot: Slot) -> None:
        assert cell.drawn is not None
        spec, images = self.spec.sample_spec(cell.n), cell.drawn.images
        cell.frames, cell.picture, cell.state = cell.drawn.frames, sheet(images), "done"
        trial = Trial(
            slot.checkpoint, self.spec.trigger, self.spec.target, spec, self.spec.exact, slot.no_attack
        )
        cell.row = trial.row(cell.condition, self._added(cell), images)
        self.done += cell.n

    def view(self, at: tuple[list[Cell], int, int] | None = None, final: bool = False) -> dict[str, Any]:
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

    def _progress(self, at: tuple[list[Cell], int, int] | None) -> dict[str, Any] | None:
        """By images and steps: batches differ in size."""
        if at is None:
            return None
        cells, step, total = at
        names = ", ".join(LABELS[cell.condition].partition(":")[0] for cell in cells)
        images = sum(cell.n for cell in cells)
        return {
            "step": self.done * total + images * step,
            "total": sum(cell.n for cell in self.cells) * total,
            "text": f"{cells[0].slot}, {names}: step {step} of {total}",
        }

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


def fitting(cells: list[Cell]) -> list[list[Cell]]:
    """The same cells in as few batches as memory and compiled code like."""
    found: list[list[Cell]] = []
    for cell in cells:
        if not found or sum(each.n for each in found[-1]) + cell.n > BATCH:
            found.append([])
        found[-1].append(cell)
    return found


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
