"""The worker: one run in a process of its own, or several, from its first step or its newest state to its end."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import FrameType

from filelock import Timeout

from lab.castle.survey import Survey
from lab.errors import LabError
from lab.models import find, load, read_card, roots
from lab.people import acting_as, owned_by
from lab.previews import Previews, is_due
from lab.priority import let_pass
from lab.queue import Queue
from lab.ranks import agreed, is_main_process
from lab.recipe import Recipe
from lab.runs import Run
from lab.store import State, Store, Stored
from lab.supervisor import ensure
from lab.training import Step

PATIENCE = 5.0  # seconds for whoever only looks whether somebody holds the run
WARNING = getattr(signal, "SIGUSR2", None)  # comes some time before a cluster takes the machine back
TIME_UP = 0  # no signal has this number


class Stopped(Exception):
    """Somebody asked for it; a state was saved."""


class Warned(Stopped):
    """The cluster is about to take its machine back; a state was saved, and the run goes on in another job."""


def work(folder: Path, seconds: float = 0) -> State:
    """Do a run; a second worker of the same run is refused. The folder's state says how it ended.

    seconds: after which it stops with a state saved, and so goes on when it is done again; it takes at least one step.
    0: to its end.
    """
    run = Stored(folder.resolve())
    with acting_as(owned_by(run.about.owner)), stopping(seconds) as asked:
        return _alone(run, asked) if is_main_process() else _helped(run, asked)


def _alone(run: Stored, asked: list[int]) -> State:
    try:
        with run.lock.acquire(timeout=PATIENCE):
            return _begun(run, asked)
    except Timeout:
        raise LabError(f"Run {run.id} is at work already.") from None


def _helped(run: Stored, asked: list[int]) -> State:
    """Train along with the main process, which alone holds the run, writes its folder and says how it ended."""
    with suppress(Stopped, LabError):  # the main one meets the same; ending in silence lets it say so
        _trained(run, asked)
    return run.state


def _begun(run: Stored, asked: list[int]) -> State:
    run.become("running")
    _tell(run)
    try:
        name = _trained(run, asked)
        _examined(run, name, asked)
        _surveyed(run, name, asked)
    except Warned:
        return run.state  # ended without a word but further than before, and so begun again
    except Stopped:
        run.ask_to_stop(False)
        state = run.become("stopped")
    except LabError as error:
        state = run.become("failed", error=str(error))
    except OSError as error:
        state = run.become("failed", error=f"{error.strerror or error}; what was saved before is kept.")
    else:
        state = run.become("done", checkpoint=name)
    _tell(run)
    return state


def _tell(run: Stored) -> None:
    """Tell the index, and whoever starts the next. Not from another machine: SQLite is not for disks that machines share."""
    if run.is_elsewhere:  # the supervisor reads the folder
        return
    queue = Queue(Store(run.folder.parent))
    queue.put(run)
    if run.state.condition != "running" and queue.lines("queued"):
        ensure(queue.store)  # the supervisor may have ended meanwhile


def _trained(run: Stored, asked: list[int]) -> str:
    """Train to the end and put the checkpoint among one's own; returns its name."""
    if not run.recipe:
        raise LabError("The recipe of this run is damaged; delete it.")
    recipe = Recipe.of(**run.recipe)
    name = _named(run, recipe)
    final = _home_of(run, name)
    if name and final.exists() and read_card(final).recipe == recipe.as_json():
        return name  # trained before: stopped at its exam, or killed between the last lines of _put_away
    previews, times = Previews(run.folder, recipe), run.about.previews
    with closing(Run.open(run.folder, recipe).train(name)) as loop:
        for step in _at_leisure(run, loop, asked):
            if is_main_process() and is_due(step, times):
                previews.make(step)
    if is_main_process():
        _put_away(run, final)
    return name


def _named(run: Stored, recipe: Recipe) -> str:
    """What its checkpoint is called: among one's own by the run's title, as a cell of a study by the run's id."""
    if run.about.study:
        return run.id
    return Store(run.folder.parent).name(run, recipe) if is_main_process() else run.state.checkpoint


def _home_of(run: Stored, name: str) -> Path:
    """Where its checkpoint belongs: a study makes too many to mix them with one's own."""
    return run.checkpoint if run.about.study else roots()[1] / name


def _put_away(run: Stored, final: Path) -> None:
    if run.checkpoint != final:
        final.parent.mkdir(parents=True, exist_ok=True)
        os.replace(run.checkpoint, final)
    for state in run.folder.glob("state-*"):  # only needed to go on
        shutil.rmtree(state)


def _examined(run: Stored, name: str, asked: list[int]) -> None:
    """Answer what the run is asked of its checkpoint; in a stopped exam only the answer at hand is lost."""
    if not is_main_process() or not run.exam.left():
        return
    checkpoint = load(_home_of(run, name))
    base = checkpoint.card.base
    clean = read_card(find(base)) if base else checkpoint.card
    for _ in run.exam.take(checkpoint, clean):
        _go_on_or_stop(run, asked)


def _surveyed(run: Stored, name: str, asked: list[int]) -> None:
    """Take the censuses that a study of poisoned data asks for; in a stopped one only the census at hand is lost."""
    survey = Survey(run.folder)
    if not is_main_process() or not survey.left():
        return
    for _ in survey.take(load(_home_of(run, name))):
        _go_on_or_stop(run, asked)


def _go_on_or_stop(run: Stored, asked: list[int]) -> None:
    """Wait while a page does; end with Stopped where that was asked for."""
    let_pass(lambda: asked)
    wanted = run.is_asked_to_stop
    if asked or wanted:
        raise Warned if WARNING in asked and not wanted else Stopped


def _at_leisure(run: Stored, loop: Iterator[Step], asked: list[int]) -> Iterator[Step]:
    """The loop's steps; it waits while a page does, and ends with Stopped where that was asked for."""
    for step in loop:
        yield step
        if is_main_process():
            let_pass(lambda: asked)
        wanted = run.is_asked_to_stop
        if agreed(bool(asked or wanted)) and step.step < step.total:
            raise Warned if WARNING in asked and not wanted else Stopped


@contextmanager
def stopping(seconds: float = 0) -> Iterator[list[int]]:
    """A list that fills when the system asks this process to end, or when so many seconds are over, if any are given."""
    asked: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        asked.append(number)

    # only a main thread may listen; in another one, the process belongs to somebody else, who is asked instead
    is_ours = threading.current_thread() is threading.main_thread()
    numbers = [number for number in (signal.SIGTERM, WARNING) if number and is_ours]
    before = {number: signal.signal(number, note) for number in numbers}
    clock = threading.Timer(seconds, asked.append, (TIME_UP,))
    if seconds:
        clock.start()
    try:
        yield asked
    finally:
        clock.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)
