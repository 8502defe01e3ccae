"""What takes minutes: workers, supervisors and the page's server killed at random moments, and nothing is lost."""

from __future__ import annotations

import logging
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise

import psutil
import pytest
from background import SOON, processes, submit, wait_until
from browsing import free_port, is_answering

from lab.models import load
from lab.ops import OPERATIONS, final
from lab.places import ROOT
from lab.store import Store, Stored

KILLS = int(os.environ.get("SOAK_KILLS", "100"))
STEPS, SAVED = 800, 40  # steps of a run, longer than most pauses; and how many lie between its states
# Seconds between kills: a worker needs some to import torch, so that most of them get to train, and some do not.
PAUSE = float(os.environ.get("SOAK_PAUSE", "12"))
HURRY = 60 * PAUSE  # seconds for one run between kills

log = logging.getLogger(__name__)


class Server:
    """`python -m lab app` on this lab's folder, begun again whenever it was killed."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None

    def see_to_it(self) -> None:
        """Start it where it does not run; another port each time, as the old one may be held for a while."""
        if self.process is None or self.process.poll() is not None:
            self.port = free_port()
            words = [sys.executable, "-m", "lab", "app", "--port", str(self.port)]
            self.process = subprocess.Popen(
                words,
                cwd=ROOT,
                env={**os.environ, "LAB_COMPILE": "0"},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )

    def answers(self) -> bool:
        """Whether a page would open now."""
        return is_answering(f"http://127.0.0.1:{self.port}")


@pytest.fixture
def server(detached) -> Iterator[Server]:
    """The page's server, which is killed like everything else."""
    served = Server()
    served.see_to_it()
    yield served
    if served.process:
        served.process.kill()
        served.process.wait(timeout=SOON)


@pytest.mark.soak
def test_a_hundred_kills_lose_nothing_and_change_nothing(server):
    whole = submit(title="whole", steps=STEPS, save_every=SAVED)
    final(OPERATIONS["watch"](run=whole.id))
    wanted = load("whole").unet.state_dict()
    dice, killed, runs = random.Random(0), {"worker": 0, "supervisor": 0, "server": 0}, 0
    while sum(killed.values()) < KILLS:
        run = submit(title=f"run {runs}", steps=STEPS, save_every=SAVED)
        harried(run, dice, server, killed)
        found = load(run.state.checkpoint).unet.state_dict()
        assert all((found[key] == wanted[key]).all() for key in wanted), f"after {killed}"
        steps = [tick["step"] for tick in run.ticks()]
        assert all(one < other for one, other in pairwise(steps)), "two workers wrote at the same time"
        runs += 1
        log.info("%s runs, killed %s", runs, killed)
    assert all(killed.values()), killed
    done = OPERATIONS["runs"](condition="done")
    assert len(done) == runs + 1 == len(OPERATIONS["runs"]())
    server.see_to_it()
    wait_until(server.answers)
    wait_until(lambda: {what(process) for process in processes(Store())} <= {"server"})


def harried(run: Stored, dice: random.Random, server: Server, killed: dict[str, int]) -> None:
    """Kill whatever works on a run or serves the page, at random moments, until the run is done in spite of it."""
    end = time.monotonic() + HURRY
    while run.state.condition != "done":
        assert time.monotonic() < end, run.state
        if run.state.condition == "failed":  # killed again and again before it got anywhere
            assert "without getting further" in run.state.error
            OPERATIONS["resume"](run=run.id)
        OPERATIONS["runs"]()  # somebody looks, and wakes a supervisor
        server.see_to_it()
        time.sleep(dice.uniform(0, PAUSE))
        for process in processes(Store()):
            kind = what(process)
            if kind in killed and dice.random() < 0.5:
                process.kill()
                killed[kind] += 1


def what(process: psutil.Process) -> str:
    """What a process of the lab does."""
    try:
        words = process.cmdline()
    except psutil.Error:  # ended meanwhile
        return "gone"
    for word, kind in (("work", "worker"), ("lab.supervisor", "supervisor"), ("app", "server")):
        if word in words:
            return kind
    return "another"
