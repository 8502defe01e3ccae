"""Runs in the background: submit, list, show, watch, stop, resume, rename and delete."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from lab import room, space
from lab.engine import best_device
from lab.errors import LabError
from lab.forecast import AT, SHOWN, seconds_for, seen
from lab.launch import LAUNCHERS, Slices, chosen
from lab.models import Checkpoint
from lab.ops.training import TrainOptions
from lab.people import check_places, who
from lab.pictures import png, tile, uri
from lab.progress import Tick
from lab.queue import Queue
from lab.recipe import Recipe
from lab.runs import command, start_of
from lab.store import ACTIVE, PREVIEWS, TITLE, About, Store, Stored
from lab.supervisor import ensure, launcher_of
from lab.training import check_labels
from lab.variants import Options
from lab.worker import work as work_on

POINTS = 200  # of a curve
RECENT = 11  # logged steps that say how fast a run is
LOSSES = ("loss_clean", "loss_poisoned")
LOOK = 0.5  # seconds between two looks at a run that is watched
SLICE = 60  # seconds of a GPU for a slice of a training, as lent by default
SPARE = 15  # of them to load and to save


class SubmitOptions(TrainOptions):
    """A training that runs in the background."""

    title: str = Field(default="", pattern=rf"^$|{TITLE}", description="what the run is called")
    launcher: LAUNCHERS.Field = Field(default_factory=chosen)
    previews: int = PREVIEWS

    def about(self) -> About:
        """Whose it is and what it is called."""
        title = self.title or self.name or f"{self.attack.kind} on {self.base or 'a fresh network'}"
        return About(
            owner=who().name,
            title=title[:80],
            created=time.time(),
            launcher=self.launcher.as_json(),
            previews=self.previews,
        )


class RunOptions(Options):
    """Which run."""

    run: str = Field(default="", max_length=80, description="id of a run, as `runs` lists it")


class RunsOptions(Options):
    """Which runs."""

    condition: str = Field(
        default="", max_length=20, description="only those queued, running, done, …; empty for all"
    )


class RenameOptions(RunOptions):
    """Which run, and what it is called from now on."""

    title: str = Field(default="", pattern=rf"^$|{TITLE}", description="new title")


class AttendOptions(RunOptions):
    """Which run, and how long."""

    seconds: int = Field(default=45, ge=1, le=SLICE - SPARE, description="seconds until it is saved")


class WorkOptions(Options):
    """Which run folder."""

    folder: str = Field(default="", max_length=4096, description="folder of a submitted run")
    seconds: float = Field(
        default=0, ge=0, le=86400, description="seconds after which it is saved and left; 0 for its end"
    )


def plan(options: SubmitOptions) -> dict[str, Any]:
    """Before a training starts: what it will see, what its attack tampers with, and how long it takes on this device."""
    recipe = options.recipe()
    images, start = recipe.dataset.load("train"), start_of(recipe)
    found = seen(recipe.attack, start.schedule, images)
    return {
        "pictures": {name: uri(png(tile(picture, SHOWN))) for name, picture in found.items()},
        "timesteps": list(AT),
        "poisoned": len(recipe.attack.chosen(images, recipe.train.seed)),
        "images": len(images),
        "steps": recipe.train.steps,
        "epochs": recipe.train.steps * recipe.train.batch / len(images),
        "tampers": recipe.attack.tampers(),
        "doubts": [*filter(None, (recipe.attack.doubts(images), recipe.doubts()))],
        "seconds": seconds_for(recipe),
        "bytes": room.needed(start, recipe.train),
        "device": best_device(),
        "command": command(recipe, options.name or "my-model"),
    }


def in_background() -> bool:
    """Whether trainings go on when nobody is there; else they wait to be asked for the next slice."""
    return not chosen().attended


def plan_seconds(options: SubmitOptions) -> int:
    """Of a GPU: a few steps of it."""
    return space.BEGIN


def submit(options: SubmitOptions) -> dict[str, Any]:
    """Put a training into the queue; it runs in the background and outlives whoever asked.

    Refused where what it saves would not fit the disk or the budget of LAB_DISK_GB.
    """
    if options.launcher != chosen():
        check_places()
    store, recipe = Store(), options.recipe()
    start = start_of(recipe)
    check_fits(recipe, start)
    room.check(store.root, room.needed(start, recipe.train))
    run = store.create(recipe, options.about())
    if options.launcher.attended:
        run.become("stopped")  # until somebody asks
    Queue(store).put(run)
    if not options.launcher.attended:
        ensure(store)
    place = {"folder": str(run.folder)} if who().is_operator else {}
    return {"run": run.id, "title": run.about.title, **place}


def check_fits(recipe: Recipe, start: Checkpoint) -> None:
    """Refuse now what would fail later: images of another shape or without classes, pictures that are not there."""
    if recipe.dataset.shape != start.shape:
        raise LabError(
            f"The images of {recipe.dataset.kind} are {recipe.dataset.shape}, the network takes {start.shape} "
            "(channels, rows, columns); choose the data that the base was trained on, or another base."
        )
    attack = recipe.attack
    if attack.trigger is not None and attack.target is not None:
        attack.trigger.draw(start.shape)
        attack.target.draw(start.shape, attack.trigger)
    if attack.needs_classes or start.classes:
        images = recipe.dataset.load("train")
        check_labels(start, images, attack)
        attack.chosen(images, recipe.train.seed)


def runs(options: RunsOptions) -> list[dict[str, Any]]:
    """The runs of this lab, the newest first: one's own, and all for a teacher."""
    store = Store()
    queue = Queue(store)
    lines = queue.lines(*([options.condition] if options.condition else []))
    if any(line["condition"] in ("claimed", *ACTIVE) for line in lines):
        ensure(store)  # whoever looks sees to it that somebody works
    return [_line(store, line) for line in lines if who().sees(line["owner"])]


def _line(store: Store, line: dict[str, Any]) -> dict[str, Any]:
    """What a list shows; only runs at work are read from their folders."""
    condition = "queued" if line["condition"] == "claimed" else line["condition"]
    run = Stored(store.root / line["id"])
    going = {**progress(run), "left": seconds_left(run.ticks())} if condition == "running" else {}
    return {
        "name": line["id"],
        "state": condition,
        "title": line["title"],
        "owner": line["owner"],
        "study": line["study"],
        **going,
    }


def progress(run: Stored) -> dict[str, Any]:
    """How far a run is."""
    last = (run.ticks() or [{}])[-1]
    return {
        "step": last.get("step", 0),
        "total": last.get("total") or run.recipe.get("train", {}).get("steps", 0),
    }


def show(options: RunOptions) -> dict[str, Any]:
    """One run: its state, recipe, losses so far, samples on the way and the end of its log."""
    run = Store().get(options.run)
    ticks = run.ticks()
    return {
        "run": run.id,
        **run.about.model_dump(mode="json"),
        **run.state.model_dump(mode="json"),
        **progress(run),
        "pace": pace(ticks),
        "left": seconds_left(ticks),
        "attended": launcher_of(run).attended,
        "ticks": thinned(ticks),
        "curves": curves(run),
        "samples": [sampled(run, line) for line in run.samples()],
        "recipe": run.recipe,
        "log": run.log(),
    }


def thinned(ticks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """About POINTS of them, evenly spaced, and the last."""
    found = ticks[:: max(1, len(ticks) // POINTS)]
    return found if found[-1:] == ticks[-1:] else [*found, ticks[-1]]


def seconds_left(ticks: list[dict[str, Any]]) -> float | None:
    """Time left, by the pace so far; nothing is known before the first logged step."""
    if not ticks:
        return None
    last = ticks[-1]
    return (last["total"] - last["step"]) * last["seconds"] / last["step"]


def pace(ticks: list[dict[str, Any]]) -> float | None:
    """Steps a second lately; nothing is known before the second logged step."""
    first, last = (ticks[-RECENT:] or [{}])[0], (ticks or [{}])[-1]
    seconds = last.get("seconds", 0) - first.get("seconds", 0)
    return (last["step"] - first["step"]) / seconds if seconds > 0 else None


def curves(run: Stored) -> dict[str, list[tuple[int, float]]]:
    """By step: the loss of the clean and of the poisoned part, and the share of samples that became the target."""
    ticks = thinned(run.ticks())
    losses = {name: [(tick["step"], tick[name]) for tick in ticks if tick.get(name)] for name in LOSSES}
    found = [(line["step"], success_of(line)) for line in run.samples()]
    return {**losses, "success": [(step, share) for step, share in found if share is not None]}


def sampled(run: Stored, line: dict[str, Any]) -> dict[str, Any]:
    """Samples on the way: their step, their pictures, and the share that became the target."""
    pictures = {kind: uri(run.sample(line["step"], kind)) for kind in line if kind != "step"}
    return {"step": line["step"], "pictures": pictures, "success": success_of(line)}


def success_of(line: dict[str, Any]) -> float | None:
    """The share of triggered samples that became the target; None where no level is known to judge by."""
    scores = {score["name"]: score["value"] for score in line.get("triggered", {}).get("scores", [])}
    return scores.get("success")


def watch(options: RunOptions) -> Iterator[Tick | dict[str, Any]]:
    """Follow a run until it ends; stopping to watch does not stop it."""
    run, after = Store().get(options.run), 0
    while True:
        condition = run.state.condition  # before the steps are read, so that the last ones are not missed
        for tick in run.ticks(after):
            after = tick["step"]
            values = {k: v for k, v in tick.items() if k.startswith("loss")}
            yield Tick(tick["step"], tick["total"], values, text=run.id)
        if condition not in ACTIVE and condition != "lost":
            break
        time.sleep(LOOK)
    yield show(options)


def stop(options: RunOptions) -> dict[str, Any]:
    """Stop a run; it saves where it is and can be resumed."""
    store = Store()
    run = store.get(options.run)
    if run.state.condition not in (*ACTIVE, "lost"):
        raise LabError(f"Run {run.id} is {run.state.condition}; only a queued or running one can be stopped.")
    run.ask_to_stop()
    ensure(store)
    return {"run": run.id, "asked": "stop"}


def resume(options: RunOptions) -> dict[str, Any]:
    """Put a run that was stopped, failed or got lost back into the queue; it goes on where it was saved.

    One that trains only while somebody asks does not wait in a queue: `attend` is what goes on with it.
    """
    store = Store()
    run = store.get(options.run)
    if run.state.condition not in ("stopped", "failed", "lost"):
        raise LabError(
            f"Run {run.id} is {run.state.condition}; only a stopped, failed or lost one can be resumed."
        )
    if launcher_of(run).attended:
        return {"run": run.id, "condition": run.state.condition, "next": f"python -m lab attend {run.id}"}
    Queue(store).put_back(run)
    ensure(store)
    return {"run": run.id, "condition": "queued"}


def attend(options: AttendOptions) -> dict[str, Any]:
    """Train a run for a minute while you wait, where nothing trains in the background; it is saved, and goes on when asked."""
    run = Store().get(options.run)
    launcher = launcher_of(run)
    if not isinstance(launcher, Slices):
        raise LabError(f"Run {run.id} trains in the background; nobody has to wait for it.")
    if run.state.condition in ("done", "running"):
        raise LabError(f"Run {run.id} is {run.state.condition}; only one that waits can be gone on with.")
    run.ask_to_stop(False)
    if space.is_borrowing():
        work_on(run.folder, options.seconds)
    else:
        launcher.go_on(run, options.seconds)
    state = run.state
    return {"run": run.id, "condition": state.condition, "error": state.error, **progress(run)}


def attend_seconds(options: AttendOptions) -> int:
    """Of a GPU: the slice, and what it takes to load and to save."""
    return options.seconds + SPARE


def rename(options: RenameOptions) -> dict[str, Any]:
    """Give a run another title."""
    store = Store()
    run = store.get(options.run)
    if not options.title:
        raise LabError("A title has 1 to 80 characters.")
    run.call(options.title)
    Queue(store).put(run)
    return {"run": run.id, "title": options.title}


def delete(options: RunOptions) -> dict[str, Any]:
    """Remove a run that is not at work, with all that it saved; its finished checkpoint stays."""
    store = Store()
    run = store.get(options.run)
    store.delete(run)
    Queue(store).forget(run.id)
    return {"run": run.id, "deleted": True}


def work(options: WorkOptions) -> dict[str, Any]:
    """Do the work of a submitted run here and now; launchers start this line."""
    if not options.folder or not Path(options.folder).is_dir():
        raise LabError("Name the folder of a submitted run.")
    return work_on(Path(options.folder), options.seconds).model_dump(mode="json")
