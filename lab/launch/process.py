"""A process of this machine, on its CPU or its GPUs."""

from __future__ import annotations

import subprocess
from typing import Any, ClassVar

import psutil
from pydantic import Field

from lab.launch.base import Launcher, line
from lab.places import ROOT
from lab.processes import end
from lab.store import HERE, Stored

SAME = 1.0  # seconds by which two readings of a process's birth may differ


class Process(Launcher):
    """A process of its own on this machine, which outlives the page; several GPUs go through `accelerate launch`."""

    kind = HERE[0]
    slow: ClassVar[float] = 0.0
    processes: int = Field(
        default=1, ge=1, le=64, description="processes that train together, one for each GPU"
    )

    def start(self, run: Stored) -> dict[str, Any]:
        """Start it in a session of its own; what it says goes into the run's log."""
        with (run.folder / "log.txt").open("ab") as log:
            process = subprocess.Popen(
                line(run, self.processes),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return {"pid": process.pid, "born": birth(process.pid)}

    def is_alive(self, run: Stored, handle: dict[str, Any]) -> bool:
        """Whether that very process runs: not another with its pid, and not one that nobody has buried."""
        return find(handle) is not None

    def stop(self, run: Stored, handle: dict[str, Any]) -> None:
        """Kill it and what it started."""
        if find(handle):
            end(handle["pid"])


def birth(pid: int) -> float | None:
    """When a process was born; None where there is none."""
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return None


def find(handle: dict[str, Any]) -> psutil.Process | None:
    """The process of a handle with `pid` and `born`, if it still runs."""
    try:
        process = psutil.Process(handle["pid"])
        born = handle["born"]
        if (
            born is None
            or abs(process.create_time() - born) > SAME
            or process.status() == psutil.STATUS_ZOMBIE
        ):
            return None
        return process
    except (psutil.Error, KeyError, TypeError, ValueError):
        return None
