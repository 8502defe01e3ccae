"""The study of poisoned data through the run queue: plan, run, status, stop, export; its rows, own and shipped."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

from lab import room
from lab.castle.survey import Survey
from lab.errors import LabError, UnknownName
from lab.forecast import seconds_for, seconds_of_sampling
from lab.models import as_json
from lab.people import admit
from lab.pictures import write_atomically
from lab.places import ASSETS
from lab.poisoning import Cell, PoisonStudy
from lab.queue import Queue
from lab.runs import start_of
from lab.store import About, Store, Stored
from lab.supervisor import ensure
from lab.variants import unknown

FOLDERS = ASSETS / "studies"
KNOWN = {study.name: study for study in (PoisonStudy(),)}


def find(name: str) -> PoisonStudy:
    """A study by its name; a LabError where there is none."""
    if name not in KNOWN:
        raise UnknownName(unknown("study of poisoned data", name, list(KNOWN)))
    return KNOWN[name]


def runs_of(wanted: PoisonStudy) -> dict[str, Stored]:
    """A study's runs by the key of their cell."""
    keys = {_identity(cell.recipe.as_json(), cell.asked): cell.key for cell in wanted.cells()}
    mine = (each for each in Store().all() if each.about.study == wanted.name)
    found = {keys.get(_identity(each.recipe, Survey(each.folder).questions)): each for each in mine}
    return {key: each for key, each in found.items() if key}


def _identity(recipe: dict[str, Any], asked: Any) -> tuple[bytes, Any]:
    return as_json(recipe), asked


def rows(wanted: PoisonStudy) -> list[dict[str, Any]]:
    """Every census there is: those of runs here, then those that ship with the lab and were not taken here too."""
    own = [row for cell, its in _pairs(wanted) if its for row in rows_of(cell, its)]
    known = {_what(row) for row in own}
    return own + [row for row in stored(wanted.name) if _what(row) not in known]


def _pairs(wanted: PoisonStudy) -> list[tuple[Cell, Stored | None]]:
    runs = runs_of(wanted)
    return [(cell, runs.get(cell.key)) for cell in wanted.cells()]


def rows_of(cell: Cell, its: Stored) -> list[dict[str, Any]]:
    """A run's censuses with the recipe that trained their model."""
    known = {"recipe": cell.recipe.signature, "key": cell.key, "training_seed": cell.recipe.train.seed}
    return [{**known, **row} for row in Survey(its.folder).answers()]


def _what(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["key"], row["question"], json.dumps(row["stamp"], sort_keys=True)


def stored(name: str) -> list[dict[str, Any]]:
    """Rows that ship with the lab, a line of JSON each."""
    try:
        return [json.loads(line) for line in (FOLDERS / name / "census.jsonl").read_text().splitlines()]
    except OSError:
        return []


def asked_of(cell: Cell) -> int:
    """How many rows a cell has when it is whole."""
    return sum(len(question.attacks) for question in cell.asked)


def is_whole(cell: Cell, known: list[dict[str, Any]]) -> bool:
    """Whether stored rows answer all that is asked of a cell."""
    return sum(row["key"] == cell.key for row in known) >= asked_of(cell)


def status(wanted: PoisonStudy) -> dict[str, Any]:
    """How far it is: its trainings with their runs, and how many censuses there are."""
    known = stored(wanted.name)
    cells = [_state(cell, its, known) for cell, its in _pairs(wanted)]
    return {
        "study": wanted.name,
        "cells": cells,
        "states": dict(Counter(cell["state"] for cell in cells)),
        "measured": len(rows(wanted)),
        "asked": sum(asked_of(cell) for cell in wanted.cells()),
    }


def _state(cell: Cell, its: Stored | None, known: list[dict[str, Any]]) -> dict[str, Any]:
    if its is None:
        return {
            "cell": cell.title,
            "state": "stored" if is_whole(cell, known) else "not run",
            "run": "",
            "answers": 0,
        }
    answers = len(Survey(its.folder).answers())
    return {"cell": cell.title, "state": its.state.condition, "run": its.id, "answers": answers}


def plan(wanted: PoisonStudy) -> dict[str, Any]:
    """What it will cost here, before it starts: trainings, censuses, hours, bytes."""
    cells = [cell for cell in wanted.cells() if not is_whole(cell, stored(wanted.name))]
    if not cells:
        return {"study": wanted.name, "trainings": 0, "measurements": 0, "hours": 0.0, "bytes": 0}
    start, train = start_of(cells[0].recipe), cells[0].recipe.train
    calls = sum(1 if question.spec.guidance == 0 else 2 for question in cells[0].asked)
    training = seconds_for(cells[0].recipe) * len(cells)
    sampling = seconds_of_sampling(start, cells[0].asked[0].spec) * wanted.n * calls * len(cells)
    size = sum(parameter.numel() for parameter in start.unet.parameters()) * room.FLOAT
    return {
        "study": wanted.name,
        "trainings": len(cells),
        "measurements": sum(asked_of(cell) for cell in cells),
        "training_hours": training / 3600,
        "measuring_hours": sampling / 3600,
        "hours": (training + sampling) / 3600,
        "bytes": len(cells) * (size + room.LOG) + room.needed(start, train),
    }


def run(wanted: PoisonStudy, launcher: Any) -> dict[str, Any]:
    """Submit what is not there yet, and take up again what was stopped; what is done, here or before, stays done."""
    admit(0, trains=True)
    store, known = Store(), stored(wanted.name)
    queue, counts = Queue(store), Counter[str]()
    for cell, its in _pairs(wanted):
        if its is None and is_whole(cell, known):
            counts["stored"] += 1
        elif its is None:
            queue.put(_submitted(store, wanted, cell, launcher))
            counts["submitted"] += 1
        elif its.state.condition in ("stopped", "failed", "lost"):
            queue.put_back(its)
            counts["resumed"] += 1
        else:
            counts[its.state.condition] += 1
    ensure(store)
    return {"study": wanted.name, **counts}


def _submitted(store: Store, wanted: PoisonStudy, cell: Cell, launcher: Any) -> Stored:
    title = f"{wanted.name}: {cell.title}"[:80]
    about = About(
        title=title, created=time.time(), launcher=launcher.as_json(), study=wanted.name, previews=0
    )
    created = store.create(cell.recipe, about)
    Survey(created.folder).ask(cell.asked)  # before it is queued: no worker finds it without
    return created


def stop(wanted: PoisonStudy) -> dict[str, Any]:
    """Ask every run of it to stop; `run` takes them up again."""
    going = [its for _, its in _pairs(wanted) if its and its.state.condition in ("queued", "running", "lost")]
    for each in going:
        each.ask_to_stop()
    ensure(Store())
    return {"study": wanted.name, "asked": len(going)}


def export(wanted: PoisonStudy, out: str) -> dict[str, Any]:
    """Write the study's description and every row, a line of JSON each, and the pictures of the first seed."""
    if not out:
        raise LabError("Name the folder for the export with --out.")
    folder, found = Path(out).expanduser(), rows(wanted)
    write_atomically(folder / "study.json", as_json(wanted.model_dump(mode="json")))
    write_atomically(folder / "census.jsonl", "".join(f"{json.dumps(row)}\n" for row in found).encode())
    pictures = 0
    for cell, its in _pairs(wanted):
        if its and cell.recipe.train.seed == wanted.seeds[0]:
            for path in sorted((its.folder / "samples").glob("census-*.png")):
                write_atomically(
                    folder / "pictures" / f"{cell.recipe.signature}-{path.name}", path.read_bytes()
                )
                pictures += 1
    return {"study": wanted.name, "out": str(folder), "rows": len(found), "pictures": pictures}
