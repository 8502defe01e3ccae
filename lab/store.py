"""The run store: a folder for each run, and the folder is the truth. SQLite only orders, claims and lists them."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from pydantic import Field

from lab.errors import LabError, UnknownName
from lab.exam import Exam, Question
from lab.models import as_json
from lab.people import LOCAL, who
from lab.pictures import write_atomically
from lab.places import beside, home
from lab.recipe import Recipe
from lab.runs import free_name
from lab.variants import Options

Condition = Literal["queued", "running", "done", "failed", "stopped", "lost"]
ACTIVE: tuple[Condition, ...] = ("queued", "running")
ID = re.compile(r"[0-9a-f]{8}-[1-9][0-9]{0,5}")
ENDING = 3.0  # seconds from a run's last word to the end of its worker
HERE = "process", "slices"  # the launchers whose runs are at work on this machine
TITLE = r"^[^\x00-\x1f]{1,80}$"


PREVIEWS: Any = Field(
    default=5, ge=0, le=100, description="looks at its samples on the way; each takes seconds"
)


class About(Options):
    """Whose run it is and what it is called; never decides what is computed."""

    owner: str = Field(default=LOCAL, min_length=1, max_length=80)
    title: str = Field(default="a run", pattern=TITLE)
    created: float = 0.0
    launcher: dict[str, Any] = {"kind": HERE[0]}
    # of which it is a cell; its checkpoint then stays in its folder
    study: str = Field(default="", max_length=40)
    previews: int = Field(
        default=5, ge=0, le=100, description="looks at its samples on the way; each takes seconds"
    )


class State(Options):
    """Where a run is in its life, as its folder says."""

    condition: Condition = "queued"
    since: float = 0.0
    deaths: int = 0  # ends without a word, one after the other, without getting further
    reached: int = 0  # steps saved and questions answered at the last of them
    error: str = ""
    checkpoint: str = ""


@dataclass(frozen=True)
class Stored:
    """A run folder as it lies on the disk; every property reads it anew."""

    folder: Path

    @property
    def id(self) -> str:
        """Its name: signature of the recipe and a number."""
        return self.folder.name

    @property
    def about(self) -> About:
        """Owner, title, launcher; defaults where the file is damaged."""
        return _read(self.folder / "about.json", About) or About()

    @property
    def is_elsewhere(self) -> bool:
        """Whether it was submitted for other machines than this one."""
        return self.about.launcher.get("kind", HERE[0]) not in HERE

    @property
    def recipe(self) -> dict[str, Any]:
        """What decides the training, as plain JSON; empty where the file is damaged."""
        return _dictionary(self.folder / "recipe.json")

    @property
    def state(self) -> State:
        """What the folder says, but for this: a run that says it is running and has no worker here is lost.

        Whether a run elsewhere is, only its launcher knows; the supervisor asks it.
        """
        said = _read(self.folder / "state.json", State)
        if said is None:
            return State(
                condition="failed", error="The state of this run is damaged; resume it or delete it."
            )
        if said.condition == "running" and not self.is_elsewhere and not self.at_work:
            return said.model_copy(update={"condition": "lost", "error": "Its process ended without a word."})
        return said

    def become(self, condition: Condition, **values: Any) -> State:
        """Write a new state; what is not given stays, but for the error."""
        before = _read(self.folder / "state.json", State) or State()
        changed = {"error": "", **values, "condition": condition, "since": time.time()}
        state = before.model_copy(update=changed)
        write_atomically(self.folder / "state.json", as_json(state.model_dump(mode="json")))
        return state

    def call(self, title: str) -> None:
        """Give it another title."""
        write_atomically(
            self.folder / "about.json", as_json({**self.about.model_dump(mode="json"), "title": title})
        )

    @property
    def handle(self) -> dict[str, Any]:
        """How its launcher finds it again; empty before it was started."""
        return _dictionary(self.folder / "handle.json")

    def keep_handle(self, handle: dict[str, Any]) -> None:
        """Write it; the state is the worker's to write from the moment it is started."""
        write_atomically(self.folder / "handle.json", as_json(handle))

    @property
    def lock(self) -> FileLock:
        """Held by the worker as long as it lives: the system lets go of it however the worker ends."""
        return FileLock(beside(self.folder) / "work.lock")

    @property
    def at_work(self) -> bool:
        """Whether a worker of this machine holds the run; no pid, clock or heartbeat can be mistaken here."""
        try:
            with self.lock.acquire(timeout=0):
                return False
        except Timeout:
            return True
        except (
            OSError
        ):  # no such folder any more, or one that cannot be written, where no worker can be either
            return False

    @property
    def exam(self) -> Exam:
        """What it is asked once it is trained, and what it answered."""
        return Exam(self.folder)

    @property
    def checkpoint(self) -> Path:
        """Its finished checkpoint, as long as that has not joined one's own."""
        return self.folder / "checkpoint"

    def ticks(self, after: int = 0) -> list[dict[str, Any]]:
        """Logged steps later than `after`; a torn last line is left for the next look."""
        try:
            lines = (self.folder / "ticks.jsonl").read_text().splitlines()
        except OSError:
            return []
        found = (_object(line) for line in lines)
        return [tick for tick in found if tick and tick.get("step", 0) > after]

    def samples(self) -> list[dict[str, Any]]:
        """Lines of the samples on the way, one for each step; of a step that was made again, the last."""
        try:
            lines = (self.folder / "previews.jsonl").read_text().splitlines()
        except OSError:
            return []
        found = {line["step"]: line for line in map(_object, lines) if line and "step" in line}
        return [found[step] for step in sorted(found)]

    def sample(self, step: int, kind: str) -> bytes:
        """A picture of the samples on the way as PNG; empty where it is missing."""
        try:
            return (self.folder / "samples" / f"{int(step):08d}-{kind}.png").read_bytes()
        except OSError:
            return b""

    def log(self, count: int = 20) -> str:
        """The last lines of what the worker printed."""
        try:
            with (self.folder / "log.txt").open("rb") as file:
                file.seek(max(0, file.seek(0, 2) - 200 * count))
                return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-count:])
        except OSError:
            return ""

    @property
    def is_asked_to_stop(self) -> bool:
        """Whether somebody wants it to stop; the worker looks at every step."""
        return (self.folder / "cancel").exists()

    def ask_to_stop(self, wanted: bool = True) -> None:
        """Leave the mark, or take it away."""
        if wanted:
            (self.folder / "cancel").touch()
        else:
            (self.folder / "cancel").unlink(missing_ok=True)


class Store:
    """All run folders of this lab."""

    def __init__(self, root: Path | None = None):
        self.root = root or home() / "runs"

    def create(self, recipe: Recipe, about: About, exam: tuple[Question, ...] = ()) -> Stored:
        """A new queued run, and what it is asked once it is trained; its folder appears complete or not at all."""
        self.root.mkdir(parents=True, exist_ok=True)
        taken = (
            int(path.name.partition("-")[2])
            for path in self.root.glob(f"{recipe.signature}-*")
            if ID.fullmatch(path.name)
        )
        number = max(taken, default=0) + 1
        while True:
            folder = self.root / f"{recipe.signature}-{number}"
            temporary = self.root / f".{folder.name}-{time.monotonic_ns()}"
            temporary.mkdir()
            for name, content in (
                ("recipe", recipe.as_json()),
                ("about", about),
                ("state", State(since=about.created)),
            ):
                plain = content if isinstance(content, dict) else content.model_dump(mode="json")
                write_atomically(temporary / f"{name}.json", as_json(plain))
            if exam:
                Exam(temporary).ask(exam)
            try:
                temporary.rename(folder)
                return Stored(folder)
            except OSError:  # somebody else was quicker with this number
                shutil.rmtree(temporary)
                if not folder.exists():
                    raise
                number += 1

    def get(self, run: str) -> Stored:
        """A run by its id; a LabError where there is none, in the same words for one that somebody else owns."""
        there = ID.fullmatch(run) and (self.root / run / "recipe.json").exists()
        if not there or not who().sees(Stored(self.root / run).about.owner):
            raise UnknownName(f"There is no run {run[:80]!r}; `python -m lab runs` lists them.")
        return Stored(self.root / run)

    def all(self) -> Iterator[Stored]:
        """Every run folder, in no order."""
        for path in self.root.glob("*-*") if self.root.exists() else ():
            if ID.fullmatch(path.name) and path.is_dir():
                yield Stored(path)

    def name(self, run: Stored, recipe: Recipe) -> str:
        """The name of a running run's checkpoint, which no other run gets: many may work under one title at once."""
        with FileLock(beside(self.root) / "names.lock"):
            others = (
                _read(path / "state.json", State) for path in self.root.glob("*-*") if path != run.folder
            )
            promised = {state.checkpoint for state in others if state and state.condition != "done"}
            name = run.state.checkpoint or free_name(run.about.title, recipe, promised)
            run.become("running", checkpoint=name)
            return name

    def delete(self, run: Stored) -> None:
        """Remove a run that is not at work, all at once for whoever looks."""
        try:
            run.lock.acquire(timeout=ENDING).lock.release()  # a worker that was stopped needs a moment to end
        except Timeout:
            raise LabError(f"Run {run.id} is at work; stop it first.") from None
        if run.state.condition == "running":  # elsewhere, where its lock may not be seen
            raise LabError(f"Run {run.id} is at work; stop it first.")
        gone = self.root / f".deleted-{run.id}-{time.monotonic_ns()}"
        run.folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def _read(path: Path, model: type[Any]) -> Any:
    try:
        return model(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def _dictionary(path: Path) -> dict[str, Any]:
    try:
        return _object(path.read_text()) or {}
    except (OSError, UnicodeDecodeError):
        return {}


def _object(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
