"""The study of poisoned data through the run queue: plan, run, status, stop, export; its rows, own and shipped."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from lab.castle.survey import Asked, Survey, Walled, picture_name, read_rows
from lab.castle.world import World
from lab.errors import LabError, UnknownName
from lab.forecast import seconds_for, seconds_of_sampling
from lab.models import as_json
from lab.ops.grid import Grid, mine
from lab.pictures import uri, write_atomically
from lab.places import ASSETS
from lab.poisoning import Cell, PoisonStudy
from lab.runs import start_of
from lab.sides import at_random
from lab.store import About, Store, Stored
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
    keys = {(as_json(cell.recipe.as_json()), cell.asked): cell.key for cell in wanted.cells()}
    found = {
        keys.get((as_json(each.recipe), Survey(each.folder).questions)): each for each in mine(wanted.name)
    }
    return {key: each for key, each in found.items() if key}


def censuses(wanted: PoisonStudy) -> list[dict[str, Any]]:
    """Every census there is: those of runs here, then those that ship with the lab and were not taken here too."""
    return [row for row in rows(wanted) if "counts" in row]


def walls(wanted: PoisonStudy) -> list[dict[str, Any]]:
    """What there is of the wall's parts, in the same order."""
    return [row for row in rows(wanted) if "part" in row]


def rows(wanted: PoisonStudy) -> list[dict[str, Any]]:
    """Both."""
    own = [row for cell, its in _pairs(wanted) if its for row in rows_of(cell, its)]
    known = {_what(row) for row in own}
    return own + [row for row in stored(wanted.name) if _what(row) not in known]


def _pairs(wanted: PoisonStudy) -> list[tuple[Cell, Stored | None]]:
    runs = runs_of(wanted)
    return [(cell, runs.get(cell.key)) for cell in wanted.cells()]


def rows_of(cell: Cell, its: Stored) -> list[dict[str, Any]]:
    """A run's answers with the recipe that trained their model."""
    known = {"recipe": cell.recipe.signature, "key": cell.key, "training_seed": cell.recipe.train.seed}
    return [{**known, **row} for row in Survey(its.folder).answers()]


def _what(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["key"], row["question"], json.dumps(row["stamp"], sort_keys=True)


def stored(name: str) -> list[dict[str, Any]]:
    """Rows that ship with the lab, a line of JSON each."""
    folder = FOLDERS / name
    return read_rows(folder / "census.jsonl", {"key", "counts"}) + read_rows(
        folder / "walls.jsonl", {"key", "part"}
    )


def asked_of(cell: Cell) -> int:
    """How many rows a cell has when it is whole."""
    return sum(1 if isinstance(question, Walled) else len(question.attacks) for question in cell.asked)


def is_whole(cell: Cell, answered: Counter[str]) -> bool:
    """Whether stored rows answer all that is asked of a cell. answered: how many each cell has, by its key."""
    return answered[cell.key] >= asked_of(cell)


def status(wanted: PoisonStudy) -> dict[str, Any]:
    """How far it is: its trainings with their runs, and how many answers there are."""
    return {
        **_grid(wanted).states(lambda its: len(Survey(its.folder).answers())),
        "measured": len(rows(wanted)),
        "asked": sum(asked_of(cell) for cell in wanted.cells()),
    }


def _grid(wanted: PoisonStudy) -> Grid:
    answered = Counter(row["key"] for row in stored(wanted.name))
    return Grid(wanted.name, wanted.cells(), runs_of(wanted), lambda cell: is_whole(cell, answered))


def plan(wanted: PoisonStudy) -> dict[str, Any]:
    """What is missing, and what that will cost here: trainings, censuses and parts of the wall, hours, bytes."""
    grid = _grid(wanted)
    cells = grid.missing
    if not cells:
        return grid.plan(0, 0.0, 0.0)
    training = seconds_for(cells[0].recipe) * len(cells)
    sampling = _counting_seconds(cells) + _wall_seconds(cells)
    return grid.plan(sum(asked_of(cell) for cell in cells), training, sampling)


def _counting_seconds(cells: list[Cell]) -> float:
    """Of all censuses; with guidance a step calls the network twice."""
    specs = [question.spec for cell in cells for question in cell.asked if isinstance(question, Asked)]
    if not specs:
        return 0.0
    calls = sum(spec.n * (2 if spec.guidance else 1) for spec in specs)
    return seconds_of_sampling(start_of(cells[0].recipe), specs[0]) * calls


def _wall_seconds(cells: list[Cell]) -> float:
    """Of all parts of the wall: each is timed once, on the model that training begins with."""
    asked = [(q.part, cell) for cell in cells for q in cell.asked if isinstance(q, Walled)]
    seconds = {part: part.seconds(_world_of(cell)) for part, cell in dict(asked).items()}
    return sum(seconds[part] for part, _ in asked)


def _world_of(cell: Cell) -> World:
    recipe, data = cell.recipe, cell.recipe.dataset
    sets = data.load("train"), data.load("held_out")
    return World(start_of(recipe), recipe.attack, *sets, recipe.train.seed)


def run(wanted: PoisonStudy, launcher: Any) -> dict[str, Any]:
    """Submit what is not there yet, and take up again what was stopped; what is done, here or before, stays done."""
    return _grid(wanted).run(launcher, _created)


def _created(store: Store, cell: Cell, about: About) -> Stored:
    run = store.create(cell.recipe, about)
    Survey(run.folder).ask(cell.asked)  # before it is queued: no worker finds it without
    return run


def stop(wanted: PoisonStudy) -> dict[str, Any]:
    """Ask every run of it to stop; `run` takes them up again."""
    return _grid(wanted).stop()


def pictures(wanted: PoisonStudy, censuses: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What carries the stamp, G1 and G2, in censuses of the first seed's models without guidance and with the most."""
    return [
        {**row, "pictures": {group: uri(path.read_bytes()) for group, path in paths.items()}}
        for row, paths in _shown(wanted, censuses)
    ]


def _shown(
    wanted: PoisonStudy, censuses: list[dict[str, Any]]
) -> list[tuple[dict[str, Any], dict[str, Path]]]:
    """Rows with the files of their groups; a group without a file is left out."""
    weights, runs = {min(wanted.guidances), max(wanted.guidances)}, runs_of(wanted)
    return [
        (row, _paths(wanted.name, row, runs.get(row["key"])))
        for row in at_random(censuses)
        if row["guidance"] in weights and row["training_seed"] == wanted.seeds[0]
    ]


def _paths(name: str, row: dict[str, Any], its: Stored | None) -> dict[str, Path]:
    """Of a run here, or of what ships with the lab."""
    places = {
        group: [
            *([its.folder / "samples" / _file(row, group)] if its else []),
            FOLDERS / name / "pictures" / _shipped(row, group),
        ]
        for group in ("G1", "G2")
    }
    found = {group: next(filter(Path.is_file, some), None) for group, some in places.items()}
    return {group: path for group, path in found.items() if path}


def _file(row: dict[str, Any], group: str) -> str:
    return picture_name(row["question"], row["stamp"]["kind"], group)


def _shipped(row: dict[str, Any], group: str) -> str:
    return f"{row['recipe']}-{_file(row, group)}"


def export(wanted: PoisonStudy, out: str) -> dict[str, Any]:
    """Write the study's description and every row, a line of JSON each, and the pictures that its page shows."""
    if not out:
        raise LabError("Name the folder for the export with --out.")
    folder, found = Path(out).expanduser(), {"census": censuses(wanted), "walls": walls(wanted)}
    write_atomically(folder / "study.json", as_json(wanted.model_dump(mode="json")))
    for name, some in found.items():
        write_atomically(folder / f"{name}.jsonl", "".join(f"{json.dumps(row)}\n" for row in some).encode())
    pictures = {
        _shipped(row, group): path
        for row, paths in _shown(wanted, found["census"])
        for group, path in paths.items()
    }
    for name, path in pictures.items():
        write_atomically(folder / "pictures" / name, path.read_bytes())
    return {
        "study": wanted.name,
        "out": str(folder),
        "rows": sum(map(len, found.values())),
        "pictures": len(pictures),
    }
