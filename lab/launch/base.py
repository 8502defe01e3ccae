"""What starts a run somewhere: three calls."""

from __future__ import annotations

import re
import shlex
import sys
import threading
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from lab.errors import LabError, Unavailable
from lab.places import ROOT, home
from lab.store import Stored
from lab.variants import Variant

T = TypeVar("T")
ANSWER = 30.0  # seconds for a cluster to answer; this machine's runs wait meanwhile


class Launcher(Variant):
    """Starts the line `python -m lab work RUN_DIR` in some place; the run's folder is all that both sides share.

    Where a place is and how it is entered comes from the operator's environment, never from these options: a visitor
    may see them, and they are written into the run's folder.
    """

    slow: ClassVar[float] = 10.0  # seconds between two questions to it; 0 where asking costs nothing
    attended: ClassVar[bool] = False  # its runs train only while somebody asks

    def start(self, run: Stored) -> dict[str, Any]:
        """Start the run and say, as plain JSON, how it is found again."""
        raise NotImplementedError

    def is_alive(self, run: Stored, handle: dict[str, Any]) -> bool:
        """Whether what was started is still there, waiting or working; Unavailable where that cannot be known now."""
        raise NotImplementedError

    def stop(self, run: Stored, handle: dict[str, Any]) -> None:
        """End it at once; it was asked before and had time to save."""
        raise NotImplementedError


def line(run: Stored, processes: int = 1) -> list[str]:
    """The line that does the work, in the lab's folder; behind `accelerate launch` for several processes of one machine."""
    work = ["-m", "lab", "work", str(run.folder.resolve())]
    if processes == 1:
        return [sys.executable, *work]
    # multi_gpu is said, because accelerate starts a single process in silence where it counts fewer than two GPUs
    several = ["--multi_gpu", "--num_processes", str(processes), "--num_machines", "1"]
    plain = ["--mixed_precision", "no", "--dynamo_backend", "no"]  # the recipe decides
    free_port = ["--main_process_port", "0"]
    return [sys.executable, "-m", "accelerate.commands.launch", *several, *plain, *free_port, *work]


def script(run: Stored, processes: int = 1) -> str:
    """The same as a shell's script, for other machines that see the same folders.

    USR2 is a cluster's warning; it is ignored until the worker listens to it.
    """
    words, log = shlex.join(line(run, processes)), shlex.quote(str(run.folder.resolve() / "log.txt"))
    place = f"cd {shlex.quote(str(ROOT))} && export LAB_HOME={shlex.quote(str(home().resolve()))}"
    return f"{place} && trap '' USR2 && exec {words} >> {log} 2>&1"


def answer(place: str, call: Callable[[], T]) -> T:
    """What a call to another machine returns; Unavailable where it raises, or says nothing for long."""
    found: list[T] = []
    raised: list[Exception] = []

    def ask() -> None:
        try:
            found.append(call())
        except Exception as error:  # libraries of clusters raise whatever they like
            raised.append(error)

    # in a thread, since a library without a time limit must not stop everything
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(ANSWER)
    if found:
        return found[0]
    if raised and isinstance(raised[0], LabError):
        raise raised[0]
    reason = _reason(raised[0]) if raised else f"no answer in {ANSWER:.0f} seconds"
    raise Unavailable(f"{place} does not do what was asked: {reason}.") from (raised[0] if raised else None)


def _reason(error: Exception) -> str:
    """Its first line without addresses, which are the operator's: everybody who sees the run sees this."""
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return re.sub(r"\w+://\S+|host='[^']*'", "(its address)", text)[:200].rstrip(".")
