"""Studies: a grid of trainings through the queue, their rows as they come, and what the rows say."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from lab import room, space
from lab.errors import LabError, UnknownName
from lab.forecast import seconds_for, seconds_of_sampling
from lab.launch import LAUNCHERS, chosen
from lab.models import as_json
from lab.ops.jobs import check_fits
from lab.ops.rows import FOLDERS, Runs, export, is_whole, pictures, rows, runs_of, stored
from lab.people import admit, check_places, who
from lab.pictures import write_atomically
from lab.queue import Queue
from lab.runs import start_of
from lab.store import About, Store, Stored
from lab.study import KNOWN, Cell, Study
from lab.supervisor import ensure
from lab.variants import unknown


class StudyOptions(Study):
    """A study of one's own by its options, or one that the lab knows by its name."""

    what: Literal["list", "make", "plan", "run", "status", "show", "stop", "export"] = Field(
        default="list", description="list, make, plan, run, status, show, stop or export"
    )
    launcher: LAUNCHERS.Field = Field(default_factory=chosen)
    out: str = Field(default="", max_length=4096, description="folder for export")

    def study(self) -> Study:
        """The study that is meant: known, begun before, or described here by more than its name."""
        described = self.model_fields_set - {"what", "launcher", "out", "name"}
        stored = find(self.name)
        wanted = Study(**{name: getattr(self, name) for name in Study.model_fields})
        if not described:
            if stored is None:
                raise UnknownName(unknown("study", self.name, names()))
            return stored
        if stored is not None and stored != wanted:
            raise LabError(f"There is another study called {self.name!r}; choose another --name.")
        return wanted


def names() -> list[str]:
    """Studies that the lab knows, that ship with results, or that were begun here."""
    folders = [path.name for root in (FOLDERS, _own()) if root.is_dir() for path in sorted(root.iterdir())]
    return [name for name in dict.fromkeys([*KNOWN, *folders]) if find(name)]


def find(name: str) -> Study | None:
    """A study by its name; None where there is none."""
    for root in (_own(), FOLDERS):
        try:
            return Study.model_validate_json((root / name / "study.json").read_bytes())
        except (OSError, ValidationError):
            continue
    return KNOWN.get(name)


def _own() -> Path:
    return who().home / "studies"


def study(options: StudyOptions) -> dict[str, Any] | list[dict[str, Any]]:
    """A grid of trainings, each measured alike: make, plan, run, status, show, stop, export; without a word, the list."""
    if options.what == "list":
        return [_listed(name) for name in names()]
    if options.out or options.launcher != chosen():
        check_places()
    wanted, store = options.study(), Store()
    runs = runs_of(store, wanted)
    return {
        "make": lambda: make(wanted),
        "plan": lambda: plan(wanted),
        "run": lambda: run(wanted, store, runs, options.launcher),
        "status": lambda: status(wanted, runs),
        "show": lambda: show(wanted, runs),
        "stop": lambda: stop(wanted, store, runs),
        "export": lambda: export(wanted, runs, options.out),
    }[options.what]()


def _listed(name: str) -> dict[str, Any]:
    found = find(name)
    assert found is not None
    measured = _measured(rows(found, runs_of(Store(), found)))
    return {
        "name": name,
        "help": f"{len(found.cells())} trainings; {measured} of {_asked(found)} measurements stored",
    }


def _asked(wanted: Study) -> int:
    """A measurement is one model, held against one target, sampled with one clip."""
    return sum(len(question.targets) for cell in wanted.cells() for question in cell.exam)


def _measured(found: list[dict[str, Any]]) -> int:
    """Measurements that are whole: triggered samples are the last that a question asks for."""
    return len({(r["recipe"], r["target"], r["clip"]) for r in found if r["condition"] == "triggered"})


def make(wanted: Study) -> dict[str, Any]:
    """Write a study down, to plan and run it by its name from now on."""
    cells = wanted.cells()
    check_fits(cells[0].recipe, start_of(cells[0].recipe))
    write_atomically(_own() / wanted.name / "study.json", as_json(wanted.model_dump(mode="json")))
    return {"study": wanted.name, "trainings": len(cells)}


def plan(wanted: Study) -> dict[str, Any]:
    """What a study will cost here, before it starts: trainings, measurements, hours, disk."""
    cells = wanted.cells()
    start = start_of(cells[0].recipe)
    images = sum(len(q.conditions) * q.spec.n for cell in cells for q in cell.exam)
    # a step takes as long in every cell: one is timed
    a_step = seconds_for(cells[0].recipe) / cells[0].recipe.train.steps
    training = a_step * sum(cell.recipe.train.steps for cell in cells)
    sampling = seconds_of_sampling(start, cells[0].exam[0].spec) * images
    return {
        "study": wanted.name,
        "trainings": len(cells),
        "measurements": sum(len(cell.exam) for cell in cells),
        "training_hours": training / 3600,
        "measuring_hours": sampling / 3600,
        "hours": (training + sampling) / 3600,
        "bytes": _bytes(cells),
    }


def study_seconds(options: StudyOptions) -> int:
    """Of a GPU: a plan times a few steps of one training; the rest is read, or left to its runs."""
    return space.BEGIN if options.what == "plan" else 0


def _bytes(cells: Sequence[Cell]) -> int:
    """What the checkpoints and logs of these cells take, and the states of the one that is trained."""
    start, train = start_of(cells[0].recipe), cells[0].recipe.train
    size = sum(parameter.numel() for parameter in start.unet.parameters()) * room.FLOAT
    return len(cells) * (size + room.LOG) + room.needed(start, train)


def run(wanted: Study, store: Store, runs: Runs, launcher: Any) -> dict[str, Any]:
    """Submit what is not there yet, and take up again what was stopped; what is done, here or before, stays done."""
    if launcher.attended:
        raise LabError(
            "A study trains in the background, and here trainings go on only while somebody asks; "
            "run it where LAB_LAUNCHER is another one."
        )
    admit(0, trains=True)
    known, queue = stored(wanted.name), Queue(store)
    cells = [cell for cell in wanted.cells() if cell.key in runs or not is_whole(cell, known)]
    if new := [cell for cell in cells if cell.key not in runs]:
        room.check(store.root, _bytes(new))
    write_atomically(_own() / wanted.name / "study.json", as_json(wanted.model_dump(mode="json")))
    counts: Counter[str] = Counter()
    if len(cells) < len(wanted.cells()):
        counts["stored"] = len(wanted.cells()) - len(cells)
    for cell in cells:
        its = runs.get(cell.key)
        if its is None:
            queue.put(store.create(cell.recipe, _about(wanted, cell, launcher), cell.exam))
            counts["submitted"] += 1
        elif its.state.condition in ("stopped", "failed", "lost"):
            queue.put_back(its)
            counts["resumed"] += 1
        else:
            counts[its.state.condition] += 1
    ensure(store)
    return {"study": wanted.name, **counts}


def _about(wanted: Study, cell: Cell, launcher: Any) -> About:
    title = f"{wanted.name}: {cell.title}"[:80]
    where = launcher.as_json()
    return About(
        owner=who().name, title=title, created=time.time(), launcher=where, study=wanted.name, previews=0
    )


def status(wanted: Study, runs: Runs) -> dict[str, Any]:
    """How far a study is: its cells with their runs, and how many measurements there are."""
    return _progress(wanted, runs, rows(wanted, runs))


def show(wanted: Study, runs: Runs) -> dict[str, Any]:
    """How far a study is, and every row there is; judged: whether it is one that the poster's claims are about."""
    found = rows(wanted, runs)
    return {
        **_progress(wanted, runs, found),
        "rows": found,
        "pictures": pictures(wanted, runs),
        "judged": len(wanted.poison_rates) > 1 and not wanted.lengths,
    }


def _progress(wanted: Study, runs: Runs, found: list[dict[str, Any]]) -> dict[str, Any]:
    known = stored(wanted.name)
    cells = [_state(cell, runs.get(cell.key), known) for cell in wanted.cells()]
    return {
        "study": wanted.name,
        "cells": cells,
        "states": dict(Counter(cell["state"] for cell in cells)),
        "measured": _measured(found),
        "asked": _asked(wanted),
    }


def _state(cell: Cell, its: Stored | None, known: list[dict[str, Any]]) -> dict[str, Any]:
    if its is None:
        state = "stored" if is_whole(cell, known) else "not run"
        return {"cell": cell.title, "state": state, "run": "", "answers": 0}
    return {
        "cell": cell.title,
        "state": its.state.condition,
        "run": its.id,
        "answers": len(its.exam.answers()),
    }


def stop(wanted: Study, store: Store, runs: Runs) -> dict[str, Any]:
    """Ask every run of a study to stop; `run` takes them up again."""
    going = [each for each in runs.values() if each.state.condition in ("queued", "running", "lost")]
    for each in going:
        each.ask_to_stop()
    ensure(store)
    return {"study": wanted.name, "asked": len(going)}
