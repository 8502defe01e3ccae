"""The supervisor: starts what waits, notices what ended, and leaves when nothing is left to do. There is one at a time."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time

from filelock import FileLock, Timeout

from lab.castle.survey import Survey
from lab.errors import LabError
from lab.launch import LAUNCHERS, Launcher
from lab.people import acting_as, owned_by
from lab.places import ROOT, beside
from lab.queue import Queue
from lab.store import ACTIVE, Store, Stored
from lab.training import newest_step

LOOK = 0.5  # seconds between two looks
SETTLE = 2.0  # seconds that the lock of a supervisor may be busy with somebody who only looks
IDLE = 3.0  # seconds without a run after which it leaves
GRACE = 30.0  # seconds to save and end for a run that is asked to stop
BEGIN = 60.0  # seconds from being started to saying so; importing takes some of them
TRIES = 3  # ends without a word and without getting further, after which a run has failed
SLOTS = int(os.environ.get("LAB_SLOTS", "1"))  # runs at once on this machine
EACH = int(os.environ.get("LAB_SLOTS_EACH", "1"))  # of one owner
# Runs at once on other machines, where a cluster has a queue of its own; and those of one owner.
ELSEWHERE = int(os.environ.get("LAB_SLOTS_ELSEWHERE", "64"))
EACH_ELSEWHERE = int(os.environ.get("LAB_SLOTS_EACH_ELSEWHERE", str(ELSEWHERE)))

log = logging.getLogger(__name__)


class Supervisor:
    """Looks at the queue and the folders again and again; it keeps nothing that these do not, but when it last asked."""

    def __init__(
        self,
        store: Store,
        slots: int = SLOTS,
        each: int = EACH,
        elsewhere: tuple[int, int] = (ELSEWHERE, EACH_ELSEWHERE),
    ):
        self.store, self.queue = store, Queue(store)
        self.slots, self.each, self.elsewhere = slots, each, elsewhere
        # when a run's launcher was asked, and whether it missed the run
        self.heard: dict[str, tuple[float, bool]] = {}

    def look(self) -> bool:
        """One look; whether there is anything left to do."""
        for line in self.queue.lines("claimed", "running", "queued"):
            run = Stored(self.store.root / line["id"])
            try:
                with acting_as(owned_by(run.about.owner)):
                    self.reconcile(run, line["condition"])
            except LabError as error:
                self.leave(run, error)
        while run := self.queue.claim(self.slots, self.each, self.elsewhere):
            self.start(run)
        return bool(self.queue.lines("claimed", "running", "queued"))

    def reconcile(self, run: Stored, indexed: str) -> None:
        """Bring index and launcher in line with what the folder says."""
        if not run.folder.exists():
            return self.queue.forget(run.id)
        condition = run.state.condition
        starting = condition == "queued" and indexed == "claimed"
        elsewhere = condition == "running" and run.is_elsewhere
        if not is_under_way(run):
            self.queue.put(run)
        elif run.is_asked_to_stop:
            self.stop(run)
        elif (condition == "lost" or starting or elsewhere) and self.is_gone(run):
            self.begin_again(run)
        elif condition not in ("lost", indexed) and not starting:
            self.queue.put(run)

    def start(self, run: Stored) -> None:
        """Start a claimed run where its launcher says."""
        self.heard.pop(run.id, None)
        try:
            with acting_as(owned_by(run.about.owner)):
                run.keep_handle(launcher_of(run).start(run))
        except (LabError, OSError) as error:
            run.become("failed", error=f"It could not be started: {error}")
            self.queue.put(run)

    def is_gone(self, run: Stored) -> bool:
        """Nobody works on it and nobody is about to; a supervisor that claimed it may have ended before it started it."""
        if self.is_alive(run):
            return False
        return bool(run.handle) or time.time() - run.state.since > BEGIN

    def is_alive(self, run: Stored) -> bool:
        """Whether somebody works on it. A slow launcher is asked seldom, and believed when it misses a run twice:
        a disk that machines share shows them the last word of a run some seconds after its end."""
        if run.at_work or not run.handle:
            return run.at_work
        launcher, now = launcher_of(run), time.monotonic()
        asked, missed = self.heard.get(run.id, (-launcher.slow, False))
        if launcher.slow and now - asked < launcher.slow:
            return True
        self.heard[run.id] = (now, missed)
        alive = launcher.is_alive(run, run.handle)
        self.heard[run.id] = (now, not alive)
        return alive or (bool(launcher.slow) and not missed)

    def leave(self, run: Stored, error: LabError) -> None:
        """Leave a run as it is whose launcher cannot be asked; one that is to stop does not wait for that for ever."""
        log.warning("%s: %s", run.id, error)
        if run.is_asked_to_stop and _asked_for(run) > grace(run):
            # the mark stays, for a worker that may still see it
            run.become("stopped", error=f"It may still be at work: {error}")
            self.queue.put(run)

    def begin_again(self, run: Stored) -> None:
        """Put back a run that ended without a word; one that does so again and again without getting further has failed."""
        state = run.state
        # an exam is progress too, and so is a survey
        reached = newest_step(run.folder) + len(run.exam.answers()) + len(Survey(run.folder).answers())
        if not is_under_way(run):  # it has just ended, with a word
            return
        deaths = state.deaths + 1 if reached == state.reached else 1
        run.keep_handle({})
        if deaths < TRIES:
            run.become("queued", deaths=deaths, reached=reached)
        else:
            sentence = f"Its process ended without a word {TRIES} times without getting further; its log may say why."
            run.become("failed", error=sentence, deaths=0)
        self.queue.put(run)

    def stop(self, run: Stored) -> None:
        """Stopped at once where nobody works on it; else it is given time to save."""
        is_alive = self.is_alive(run)
        if is_alive and _asked_for(run) < grace(run):
            return
        if is_alive:
            launcher_of(run).stop(run, run.handle)
        run.ask_to_stop(False)
        if is_under_way(run):
            run.become("stopped")
        self.queue.put(run)


def is_under_way(run: Stored) -> bool:
    """Whether it has not ended, by its own word."""
    return run.state.condition in (*ACTIVE, "lost")


def grace(run: Stored) -> float:
    """Seconds to save and end for a run that is asked to stop; a word takes its time to another machine."""
    return GRACE + 4 * launcher_of(run).slow


def _asked_for(run: Stored) -> float:
    """Seconds since it was asked to stop."""
    try:
        return time.time() - (run.folder / "cancel").stat().st_mtime
    except FileNotFoundError:  # the worker has just seen it
        return 0.0


def launcher_of(run: Stored) -> Launcher:
    """The launcher a run was submitted for."""
    return LAUNCHERS.parse(run.about.launcher)


def supervise(store: Store) -> None:
    """Look until nothing is left; a second supervisor leaves at once."""
    lock = FileLock(beside(store.root) / "supervisor.lock")
    supervisor = Supervisor(store)
    while True:
        try:
            with lock.acquire(timeout=SETTLE):
                _until_idle(supervisor)
        except Timeout:
            return
        if not supervisor.queue.lines("queued"):  # what came between the last look and letting go
            return


def _until_idle(supervisor: Supervisor) -> None:
    idle_since = time.monotonic()
    while time.monotonic() - idle_since < IDLE:
        if supervisor.look():
            idle_since = time.monotonic()
        _bury()
        time.sleep(LOOK)


def _bury() -> None:
    """Take note of children that ended, so that they do not stay as zombies."""
    if hasattr(os, "WNOHANG"):
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass


def ensure(store: Store) -> None:
    """See to it that a supervisor looks after the store: a process of its own that outlives whoever asked."""
    store.root.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(beside(store.root) / "supervisor.lock").acquire(timeout=0):
            pass
    except Timeout:
        return
    with (store.root / "supervisor.log").open("ab") as log:
        subprocess.Popen(
            [sys.executable, "-m", "lab.supervisor"],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


if __name__ == "__main__":
    supervise(Store())
