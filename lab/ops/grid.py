"""Grids of trainings through the queue: what every kind of study does with its cells."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from lab import room
from lab.errors import LabError
from lab.people import admit, who
from lab.queue import Queue
from lab.recipe import Recipe
from lab.runs import start_of
from lab.store import About, Store, Stored
from lab.supervisor import ensure

Runs = Mapping[str, Stored]  # a study's, by the key of their cell
AGAIN = ("stopped", "failed", "lost")  # conditions from which a run is taken up again


class Cell(Protocol):
    """One training of a study."""

    @property
    def recipe(self) -> Recipe:
        """What is trained."""
        ...

    @property
    def title(self) -> str:
        """What a person reads."""
        ...

    @property
    def key(self) -> str:
        """Names recipe and questions."""
        ...


@dataclass(frozen=True)
class Grid:
    """A study's cells, the runs that they have here, and whether what ships with the lab answers a cell already."""

    name: str
    cells: Sequence[Any]
    runs: Runs
    is_stored: Callable[[Any], bool]

    @property
    def left(self) -> list[Any]:
        """Cells that need a training still."""
        return [cell for cell in self.cells if cell.key not in self.runs and not self.is_stored(cell)]

    @property
    def missing(self) -> list[Any]:
        """Cells that neither what ships answers whole nor a run that is done."""
        done = {key for key, its in self.runs.items() if its.state.condition == "done"}
        return [cell for cell in self.cells if cell.key not in done and not self.is_stored(cell)]

    def plan(self, measurements: int, training: float, measuring: float) -> dict[str, Any]:
        """What the missing cells will cost here: trainings, measurements, hours, disk. training, measuring: seconds."""
        return {
            "study": self.name,
            "trainings": len(self.missing),
            "measurements": measurements,
            "training_hours": training / 3600,
            "measuring_hours": measuring / 3600,
            "hours": (training + measuring) / 3600,
            "bytes": bytes_of(self.missing) if self.missing else 0,
        }

    def check(self, launcher: Any) -> None:
        """Refuse what could not be run: by this person, by this launcher, on this disk."""
        if launcher.attended:
            raise LabError(
                "A study trains in the background, and here trainings go on only while somebody asks; "
                "run it where LAB_LAUNCHER is another one."
            )
        admit(0, trains=True)
        if self.left:
            room.check(Store().root, bytes_of(self.left))

    def run(self, launcher: Any, create: Callable[[Store, Any, About], Stored]) -> dict[str, Any]:
        """Submit what is not there yet, and take up again what was stopped; what is done, here or before, stays done."""
        self.check(launcher)
        store, counts = Store(), Counter[str]()
        queue = Queue(store)
        for cell in self.cells:
            its = self.runs.get(cell.key)
            if its is None and self.is_stored(cell):
                counts["stored"] += 1
            elif its is None:
                queue.put(create(store, cell, self._about(cell, launcher)))
                counts["submitted"] += 1
            elif its.state.condition in AGAIN:
                queue.put_back(its)
                counts["resumed"] += 1
            else:
                counts[its.state.condition] += 1
        ensure(store)
        return {"study": self.name, **counts}

    def _about(self, cell: Cell, launcher: Any) -> About:
        return About(
            owner=who().name,
            title=f"{self.name}: {cell.title}"[:80],
            created=time.time(),
            launcher=launcher.as_json(),
            study=self.name,
            previews=0,
        )

    def stop(self) -> dict[str, Any]:
        """Ask every run to stop; `run` takes them up again."""
        going = [its for its in self.runs.values() if its.state.condition in ("queued", "running", "lost")]
        for each in going:
            each.ask_to_stop()
        ensure(Store())
        return {"study": self.name, "asked": len(going)}

    def states(self, answers: Callable[[Stored], int]) -> dict[str, Any]:
        """Each cell's state with its run, and how many cells are in each state."""
        cells = [self._state(cell, answers) for cell in self.cells]
        return {
            "study": self.name,
            "cells": cells,
            "states": dict(Counter(cell["state"] for cell in cells)),
        }

    def _state(self, cell: Cell, answers: Callable[[Stored], int]) -> dict[str, Any]:
        its = self.runs.get(cell.key)
        if its is None:
            state = "stored" if self.is_stored(cell) else "not run"
            return {"cell": cell.title, "state": state, "run": "", "answers": 0}
        return {
            "cell": cell.title,
            "state": its.state.condition,
            "run": its.id,
            "answers": answers(its),
        }


def mine(study: str) -> list[Stored]:
    """Runs of a study that this person started."""
    return [each for each in Store().all() if (each.about.owner, each.about.study) == (who().name, study)]


def bytes_of(cells: Sequence[Any]) -> int:
    """What the checkpoints and logs of these cells take, and the states of the one that is trained."""
    start, train = start_of(cells[0].recipe), cells[0].recipe.train
    size = sum(parameter.numel() for parameter in start.unet.parameters()) * room.FLOAT
    return len(cells) * (size + room.LOG) + room.needed(start, train)
