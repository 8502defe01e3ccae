"""The other end of `hf_jobs`: fetches a run, does it, and sends what it makes while it is made. `python -m lab.launch.away RUN`"""

from __future__ import annotations

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
from lab.store import Stored

EVERY = float(os.environ.get("LAB_HF_EVERY", "30"))  # seconds between two messages
STATES = 20  # messages between two states, which are large
TRIES = 5  # of the last message
OUTWARD = ("state.json", "poisoned.json", "ticks.jsonl", "previews.jsonl", "log.txt", "samples/*.png")

log = logging.getLogger(__name__)


class Errand:
    """A run that is at work here for a lab elsewhere."""

    def __init__(self, run: str, home: Path):
        self.run, self.home, self.parcel = Stored(home / "runs" / run), home, Parcel(run)
        self.sent: dict[str, float] = {}  # when the files that were sent had been written
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
        paths = {path: path for pattern in OUTWARD for path in self.run.folder.glob(pattern)}
        state = self.run.state
        if state.condition == "done":
            made = self.home / "checkpoints" / state.checkpoint
            paths |= {
                path: self.run.folder / "checkpoint" / path.relative_to(made) for path in made.rglob("*")
            }
        if with_state:
            paths |= {path: path for path in self.run.folder.glob("state-*/*")}
        times = {path: path.stat().st_mtime for path in paths if path.is_file()}
        new = {path: time for path, time in times.items() if self.sent.get(str(path)) != time}
        files: dict[str, bytes | Path] = {
            str(paths[path].relative_to(self.run.folder)): path.read_bytes()
            if path.parent == self.run.folder
            else path
            for path in new
        }
        here = {path.name for path in self.run.folder.glob("state-*")}
        gone = self.states - here if with_state else set()
        self.parcel.send(files, [f"{name}/" for name in gone])
        self.states = (self.states - gone) | (here if with_state else set())
        self.sent |= {str(path): time for path, time in new.items()}


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
