"""The other end of `hf_jobs`: fetches a run, does it, and sends what it makes while it is made. `python -m lab.launch.away RUN`"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lab.launch import LAUNCHERS
from lab.launch.base import line
from lab.launch.parcel import SMALL, STATE, Parcel
from lab.places import ROOT
from lab.store import ACTIVE, State, Stored

EVERY = float(os.environ.get("LAB_HF_EVERY", "30"))  # seconds between two messages
STATES = 20  # messages between two states, which are large
TRIES = 5  # of the last message
OUTWARD = (
    "state.json",
    "poisoned.json",
    "ticks.jsonl",
    "previews.jsonl",
    "rows.jsonl",
    "log.txt",
    "samples/*.png",
)

log = logging.getLogger(__name__)


class Errand:
    """A run that is at work here for a lab elsewhere."""

    def __init__(self, run: str, home: Path):
        self.run, self.home, self.parcel = Stored(home / "runs" / run), home, Parcel(run)
        self.sent: dict[Path, float] = {}  # when the files that were sent had been written
        self.states: set[str] = set()  # folders of states that lie in the repository

    def do(self) -> int:
        """Fetch it, do it, and send it back; returns how the worker ended."""
        found = self.parcel.fetch(self.run.folder, f"({SMALL})|{STATE}", {})
        self.states = {name.split("/")[0] for name in found if name.startswith("state-")}
        worker = self._started()
        before = signal.signal(signal.SIGTERM, lambda *_: worker.terminate())
        messages = 0
        while not _ended(worker):
            messages += 1
            self._try_to_send(with_state=messages % STATES == 0)
        signal.signal(signal.SIGTERM, before)
        for _ in range(TRIES):
            if self._try_to_send(with_state=True):
                break
            time.sleep(EVERY)
        return worker.returncode

    def _started(self) -> subprocess.Popen[bytes]:
        launcher: Any = LAUNCHERS.parse(self.run.about.launcher)
        with (self.run.folder / "log.txt").open("ab") as said:
            return subprocess.Popen(
                line(self.run, launcher.processes),
                cwd=ROOT,
                env={name: value for name, value in os.environ.items() if name != "HF_TOKEN"},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
            )

    def _try_to_send(self, with_state: bool) -> bool:
        """Send what is new, and hear whether it is to stop; the next message says what this one could not."""
        try:
            self._send(with_state)
            if self.parcel.has("cancel"):
                self.run.ask_to_stop()
        except Exception as error:  # of the network, or a file that vanished while it was read
            log.warning("nothing was sent: %s", type(error).__name__)
            return False
        return True

    def _send(self, with_state: bool) -> None:
        folder, before = self.run.folder, _written(self.run.folder / "state.json")
        # before the rest, which is then at least as new as it says
        said = (folder / "state.json").read_bytes()
        state = State(**json.loads(said))
        with_state = with_state or state.condition not in ACTIVE
        places = self._places(state, with_state)
        times = {path: _written(path) for path in places} | {folder / "state.json": before}
        new = {path: time for path, time in times.items() if self.sent.get(path) != time}
        files: dict[str, bytes | Path] = {
            places[path]: path.read_bytes() if path.parent == folder else path for path in new
        }
        here = {path.name for path in folder.glob("state-*")}
        gone = self.states - here if with_state else set()
        self.parcel.send(
            files | ({"state.json": said} if "state.json" in files else {}), [f"{n}/" for n in gone]
        )
        self.states = (self.states - gone) | (here if with_state else set())
        self.sent |= new

    def _places(self, state: State, with_state: bool) -> dict[Path, str]:
        """What is sent, and under which name."""
        folder, patterns = self.run.folder, (*OUTWARD, *(["state-*/*"] if with_state else []))
        places = {path: str(path.relative_to(folder)) for each in patterns for path in folder.glob(each)}
        if state.condition == "done":
            joined = self.home / "checkpoints" / state.checkpoint
            made = self.run.checkpoint if self.run.about.study else joined
            places |= {
                path: f"checkpoint/{path.relative_to(made)}" for path in made.rglob("*") if path.is_file()
            }
        return places


def _written(path: Path) -> float:
    return path.stat().st_mtime


def _ended(worker: subprocess.Popen[bytes]) -> bool:
    try:
        worker.wait(EVERY)
        return True
    except subprocess.TimeoutExpired:
        return False


def main() -> int:
    """Do the run that the command line names, in a home of its own."""
    home = Path(tempfile.mkdtemp(prefix="lab-"))
    os.environ["LAB_HOME"] = str(home)
    return Errand(sys.argv[1], home).do()


if __name__ == "__main__":
    sys.exit(main())
