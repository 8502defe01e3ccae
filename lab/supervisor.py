"""The supervisor: starts what waits, notices what ended, and leaves when nothing is left to do. There is one at a time."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from filelock import FileLock, Timeout

from lab.errors import LabError
from lab.launch import LAUNCHERS, Launcher
from lab.places import ROOT
from lab.queue import Queue
from lab.store import Store, Stored
from lab.training import newest_step

LOOK = 0.5  # seconds between two looks
SETTLE = 2.0  # seconds that the lock of a supervisor may be busy with somebody who only looks
IDLE = 3.0  # seconds without a run after which it leaves
GRACE = 30.0  # seconds to save and end for a run that is asked to stop
BEGIN = 60.0  # seconds from being started to saying so; importing takes some of them
TRIES = 3  # ends without a word and without getting further, after which a run has failed
SLOTS = int(os.environ.get("LAB_SLOTS", "1"))  # runs at once on this machine
EACH = int(os.environ.get("LAB_SLOTS_EACH", "1"))  # of one owner


class Supervisor:
    """Looks at the queue and the folders again and again; it keeps nothing that these do not."""

    def __init__(self, store: Store, slots: int = SLOTS, each: int = EACH):
        self.store, self.queue, self.slots, self.each = store, Queue(store), slots, each

    def look(self) -> bool:
        """One look; whether there is anything left to do."""
        for line in self.queue.lines("claimed", "running", "queued"):
            self.reconcile(Stored(self.store.root / line["id"]), line["condition"])
        while run := self.queue.claim(self.slots, self.each):
            self.start(run)
        return bool(self.queue.lines("claimed", "running", "queued"))

    def reconcile(self, run: Stored, indexed: str) -> None:
        """Bring index and launcher in line with what the folder says."""
        if not run.folder.exists():
            return self.queue.forget(run.id)
        condition = run.state.condition
        if run.is_asked_to_stop:
            self.stop(run)
        elif condition == "lost" or (condition == "queued" and indexed == "claimed"):
            if self.is_gone(run):
                self.begin_again(run)
        elif condition != indexed:
            self.queue.put(run)

    def start(self, run: Stored) -> None:
        """Start a claimed run where its launcher says."""
        try:
            run.keep_handle(launcher_of(run).start(run))
        except (LabError, OSError) as error:
            run.become("failed", error=f"It could not be started: {error}")
            self.queue.put(run)

    def is_gone(self, run: Stored) -> bool:
        """Nobody works on it and nobody is about to; a supervisor that claimed it may have ended before it started it."""
        if run.at_work or launcher_of(run).is_alive(run, run.handle):
            return False
        return bool(run.handle) or time.time() - run.state.since > BEGIN

    def begin_again(self, run: Stored) -> None:
        """Put back a run that ended without a word; one that does so again and again without getting further has failed."""
        state, reached = run.state, newest_step(run.folder)
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
        asked = time.time() - (run.folder / "cancel").stat().st_mtime
        is_alive = run.at_work or launcher_of(run).is_alive(run, run.handle)
        if is_alive and asked < GRACE:
            return
        if is_alive:
            launcher_of(run).stop(run, run.handle)
        run.ask_to_stop(False)
        run.become("stopped")
        self.queue.put(run)


def launcher_of(run: Stored) -> Launcher:
    """The launcher a run was submitted for."""
    return LAUNCHERS.parse(run.about.launcher)


def supervise(store: Store) -> None:
    """Look until nothing is left; a second supervisor leaves at once."""
    lock = FileLock(store.root / "supervisor.lock")
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
        with FileLock(store.root / "supervisor.lock").acquire(timeout=0):
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
