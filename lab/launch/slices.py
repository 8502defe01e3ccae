"""Training while somebody asks for it, a slice at a time: for places where nothing runs in the background."""

from __future__ import annotations

import subprocess
from typing import Any, ClassVar

from filelock import Timeout

from lab.launch.base import Launcher, line
from lab.places import ROOT
from lab.store import HERE, Stored


class Slices(Launcher):
    """On this machine, but only while somebody asks: up to a minute at a time, saved in between."""

    kind = HERE[1]
    slow: ClassVar[float] = 0.0
    attended: ClassVar[bool] = True

    def start(self, run: Stored) -> dict[str, Any]:
        """Leave it for whoever asks next; a slice that ended without a word comes here to be put back."""
        try:
            with run.lock.acquire(timeout=0):
                run.become("stopped")
        except Timeout:  # somebody has just asked
            pass
        return {}

    def is_alive(self, run: Stored, handle: dict[str, Any]) -> bool:
        """Nobody but who holds its lock is at work on it."""
        return False

    def stop(self, run: Stored, handle: dict[str, Any]) -> None:
        """Its slice sees the mark at its next step, and ends soon without it."""

    def go_on(self, run: Stored, seconds: float) -> None:
        """One slice of it in a process of its own; returns when that has ended."""
        with (run.folder / "log.txt").open("ab") as log:
            subprocess.run(
                [*line(run), "--seconds", str(seconds)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                check=False,  # the run's state says how it ended
            )
