"""Studies: a grid of trainings through the queue, their rows as they come, and what the rows say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from lab import space
from lab.errors import LabError, UnknownName
from lab.findings import agreements, means, verdicts
from lab.forecast import seconds_for, seconds_of_sampling
from lab.launch import LAUNCHERS, chosen
from lab.models import as_json
from lab.ops.grid import Grid, Runs
from lab.ops.jobs import check_fits
from lab.ops.rows import FOLDERS, answered, export, is_whole, pictures, rows, runs_of, stored
from lab.people import check_places, who
from lab.pictures import write_atomically
from lab.runs import start_of
from lab.study import KNOWN, Cell, Study
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
    wanted = options.study()
    runs = runs_of(wanted)
    return {
        "make": lambda: make(wanted),
        "plan": lambda: plan(wanted, runs),
        "run": lambda: run(wanted, runs, options.launcher),
        "status": lambda: status(wanted, runs),
        "show": lambda: show(wanted, runs),
        "stop": lambda: _grid(wanted, runs).stop(),
        "export": lambda: export(wanted, runs, options.out),
    }[options.what]()


def _listed(name: str) -> dict[str, Any]:
    found = find(name)
    assert found is not None
    measured = len(answered(rows(found, runs_of(found))))
    return {
        "name": name,
        "help": f"{len(found.cells())} trainings; {measured} of {_asked(found.cells())} measurements stored",
    }


def _asked(cells: Sequence[Cell]) -> int:
    """A measurement is one model, held against one target, sampled with one clip."""
    return sum(len(question.targets) for cell in cells for question in cell.exam)


def make(wanted: Study) -> dict[str, Any]:
    """Write a study down, to plan and run it by its name from now on."""
    cells = wanted.cells()
    check_fits(cells[0].recipe, start_of(cells[0].recipe))
    write_atomically(_own() / wanted.name / "study.json", as_json(wanted.model_dump(mode="json")))
    return {"study": wanted.name, "trainings": len(cells)}


def plan(wanted: Study, runs: Runs) -> dict[str, Any]:
    """What is missing of a study, and what that will cost here: trainings, measurements, hours, disk."""
    grid = _grid(wanted, runs)
    cells = grid.missing
    if not cells:
        return grid.plan(0, 0.0, 0.0)
    images = sum(len(q.conditions) * q.spec.n for cell in cells for q in cell.exam)
    # a step takes as long in every cell: one is timed
    a_step = seconds_for(cells[0].recipe) / cells[0].recipe.train.steps
    training = a_step * sum(cell.recipe.train.steps for cell in cells)
    sampling = seconds_of_sampling(start_of(cells[0].recipe), cells[0].exam[0].spec) * images
    return grid.plan(_asked(cells), training, sampling)


def study_seconds(options: StudyOptions) -> int:
    """Of a GPU: a plan times a few steps of one training; the rest is read, or left to its runs."""
    return space.BEGIN if options.what == "plan" else 0


def run(wanted: Study, runs: Runs, launcher: Any) -> dict[str, Any]:
    """Submit what is not there yet, and take up again what was stopped; what is done, here or before, stays done."""
    grid = _grid(wanted, runs)
    grid.check(launcher)
    write_atomically(_own() / wanted.name / "study.json", as_json(wanted.model_dump(mode="json")))
    return grid.run(launcher, lambda store, cell, about: store.create(cell.recipe, about, cell.exam))


def _grid(wanted: Study, runs: Runs) -> Grid:
    known = answered(stored(wanted.name))
    return Grid(wanted.name, wanted.cells(), runs, lambda cell: is_whole(cell, known))


def status(wanted: Study, runs: Runs) -> dict[str, Any]:
    """How far a study is: its cells with their runs, and how many measurements there are."""
    return _progress(wanted, runs, rows(wanted, runs))


def show(wanted: Study, runs: Runs) -> dict[str, Any]:
    """How far a study is, every row there is, and what they say.

    means: of each model over its seeds; verdicts: on the poster's claims, of a study that they are about; checks: the same
    models in another study, sampled with another number of steps.
    """
    found = rows(wanted, runs)
    is_about_claims = len(wanted.poison_rates) > 1 and not wanted.lengths
    return {
        **_progress(wanted, runs, found),
        "rows": found,
        "means": means(found),
        "verdicts": verdicts(found) if found and is_about_claims else [],
        "checks": agreements(found, _others(wanted, {row["recipe"] for row in found})),
        "pictures": pictures(wanted, runs),
    }


def _others(wanted: Study, recipes: set[str]) -> list[dict[str, Any]]:
    studies = (each for name in names() if (each := find(name)) and each.sampler != wanted.sampler)
    return [row for each in studies for row in rows(each, runs_of(each)) if row["recipe"] in recipes]


def _progress(wanted: Study, runs: Runs, found: list[dict[str, Any]]) -> dict[str, Any]:
    states = _grid(wanted, runs).states(lambda its: len(its.exam.answers()))
    return {**states, "measured": len(answered(found)), "asked": _asked(wanted.cells())}
