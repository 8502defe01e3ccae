"""The rows of a study: those of runs in this lab, and those that ship with it; their pictures, and both as files."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.errors import LabError
from lab.evaluate import Condition
from lab.models import as_json
from lab.ops.grid import Runs, mine
from lab.pictures import uri, write_atomically
from lab.places import ASSETS
from lab.store import Stored
from lab.study import Cell, Study

COLUMNS = (
    *[
        "recipe",
        "attack",
        "trigger",
        "trigger_size",
        "target",
        "poison_rate",
        "seed",
        "train_steps",
        "condition",
        "clip",
    ],
    *["sampler", "steps", "sampling_seed", "n", "no_attack", "metric", "value", "low", "high", "extractor"],
)
NUMBERS = ("poison_rate", "value", "low", "high", "no_attack")
WHOLE = ("trigger_size", "seed", "train_steps", "steps", "sampling_seed", "n")
FOLDERS = ASSETS / "studies"


def runs_of(wanted: Study) -> dict[str, Stored]:
    """A study's runs by the key of their cell."""
    keys = {(as_json(cell.recipe.as_json()), cell.exam): cell.key for cell in wanted.cells()}
    found = {keys.get((as_json(each.recipe), each.exam.questions)): each for each in mine(wanted.name)}
    return {key: each for key, each in found.items() if key}


def rows(wanted: Study, runs: Runs) -> list[dict[str, Any]]:
    """One row a number: those that are stored with the lab, and those of runs here, which come first."""
    own = [row for each in runs.values() for row in rows_of(each)]
    known = {_what(row) for row in own}
    return own + [row for row in stored(wanted.name) if _what(row) not in known]


def _what(row: dict[str, Any]) -> tuple[Any, ...]:
    """What a row measures."""
    return tuple(
        row[name] for name in COLUMNS if name not in ("value", "low", "high", "no_attack", "sampling_seed")
    )


def rows_of(its: Stored) -> Iterator[dict[str, Any]]:
    """The rows of a run's answers, flat."""
    recipe = its.recipe
    attack, train = recipe.get("attack", {}), recipe.get("train", {})
    trigger = attack.get("trigger") or {}
    for answer in its.exam.answers():
        row = answer["row"]
        for score in row["scores"]:
            yield {
                "recipe": its.id.partition("-")[0],
                "attack": attack.get("kind", ""),
                "trigger": trigger.get("kind", ""),
                "trigger_size": trigger.get("size"),
                "target": answer["target"]["kind"],
                "poison_rate": attack.get("poison_rate", 0.0),
                "seed": train.get("seed", 0),
                "train_steps": train.get("steps", 0),
                "condition": row["condition"],
                "clip": row["clip"],
                "sampler": row["sampler"]["kind"],
                "steps": row["sampler"].get("steps"),
                "sampling_seed": row["seed"],
                "n": score["n"],
                "no_attack": row["no_attack"],
                "metric": score["name"],
                **{name: score[name] for name in ("value", "low", "high", "extractor")},
            }


def stored(name: str) -> list[dict[str, Any]]:
    """Rows that ship with the lab."""
    try:
        text = (FOLDERS / name / "rows.csv").read_text()
    except OSError:
        return []
    return [_typed(row) for row in csv.DictReader(io.StringIO(text))]


def answered(found: list[dict[str, Any]]) -> set[tuple[Any, ...]]:
    """Measurements that are whole, by recipe, target and clip; triggered samples are the last of each question."""
    return {(r["recipe"], r["target"], r["clip"]) for r in found if r["condition"] == "triggered"}


def is_whole(cell: Cell, known: set[tuple[Any, ...]]) -> bool:
    """Whether all that is asked of a cell is among the answered."""
    signature = cell.recipe.signature
    return all((signature, t.kind, q.spec.clip) in known for q in cell.exam for t in q.targets)


def _typed(row: dict[str, str]) -> dict[str, Any]:
    typed: dict[str, Any] = dict(row)
    for names_, read in ((NUMBERS, float), (WHOLE, int)):
        typed |= {name: read(row[name]) if row.get(name) else None for name in names_}
    return typed


def export(wanted: Study, runs: Runs, out: str) -> dict[str, Any]:
    """Write a study's description, its rows as CSV, and the pictures of its first seed."""
    if not out:
        raise LabError("Name the folder for the export with --out.")
    order = {cell.recipe.signature: place for place, cell in enumerate(wanted.cells())}
    folder, found = Path(out).expanduser(), sorted(rows(wanted, runs), key=lambda row: order[row["recipe"]])
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    write_atomically(folder / "study.json", as_json(wanted.model_dump(mode="json")))
    write_atomically(folder / "rows.csv", text.getvalue().encode())
    shown = list(_drawn(wanted, runs))
    for each in shown:
        write_atomically(folder / "pictures" / each.name, each.path.read_bytes())
    return {"study": wanted.name, "out": str(folder), "rows": len(found), "pictures": len(shown)}


# Pictures ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drawn:
    """Where the first samples of a model lie."""

    cell: Cell
    condition: str
    clip: str
    path: Path

    @property
    def name(self) -> str:
        """What the file is called where it ships: recipe, condition, clip."""
        return f"{self.cell.recipe.signature}-{self.condition}-{self.clip}.png"


def pictures(wanted: Study, runs: Runs) -> list[dict[str, Any]]:
    """First samples of the first seed's models with the study's first clip: from clean and from triggered noise."""
    found: dict[str, dict[str, Any]] = {}
    for drawn in sorted(_drawn(wanted, runs), key=lambda each: each.condition == "clean"):
        cell, clip = drawn.cell, drawn.clip
        if cell.recipe.attack.poison_rate and clip == wanted.clips[0]:
            entry = found.setdefault(cell.key, {**_names(cell), "clip": clip, "pictures": {}})
            entry["pictures"][drawn.condition] = uri(drawn.path.read_bytes())
    return list(found.values())


def _names(cell: Cell) -> dict[str, Any]:
    attack, train = cell.recipe.attack, cell.recipe.train
    return {
        "trigger": attack.trigger.kind,
        "trigger_size": getattr(attack.trigger, "size", None),
        "target": attack.target.kind,
        "poison_rate": attack.poison_rate,
        "train_steps": train.steps,
    }


def _drawn(wanted: Study, runs: Runs) -> Iterator[Drawn]:
    """Pictures of the first seed's models, from their runs or from what ships with the lab."""
    for cell in wanted.cells():
        if cell.recipe.train.seed == wanted.seeds[0]:
            for number, question in enumerate(cell.exam):
                for condition in question.conditions:
                    if found := _found(wanted, cell, runs.get(cell.key), number, condition):
                        yield found


def _found(wanted: Study, cell: Cell, own: Stored | None, number: int, condition: Condition) -> Drawn | None:
    clip = cell.exam[number].spec.clip
    here = own.exam.picture(number, condition) if own else None
    ships = FOLDERS / wanted.name / "pictures" / Drawn(cell, condition, clip, Path()).name
    return next(
        (Drawn(cell, condition, clip, path) for path in (here, ships) if path and path.is_file()), None
    )
