"""What takes minutes: workers and supervisors killed at random moments, a hundred times, and nothing is lost."""

from __future__ import annotations

import random
import time

import pytest
from background import processes, submit, wait_until

from lab.models import load
from lab.ops import OPERATIONS, final
from lab.store import Store, Stored

KILLS = 100
STEPS = 40
HURRY = 600.0  # seconds for one run between kills


@pytest.mark.soak
def test_a_hundred_kills_lose_nothing_and_change_nothing(detached):
    whole = submit(title="whole", steps=STEPS, save_every=4)
    final(OPERATIONS["watch"](run=whole.id))
    wanted = load("whole").unet.state_dict()
    dice, kills, runs = random.Random(0), 0, 0
    while kills < KILLS:
        run = submit(title=f"run {runs}", steps=STEPS, save_every=4)
        kills += harried(run, dice)
        found = load(run.state.checkpoint).unet.state_dict()
        assert all((found[key] == wanted[key]).all() for key in wanted), f"after {kills} kills"
        runs += 1
    done = OPERATIONS["runs"](condition="done")
    assert len(done) == runs + 1 == len(OPERATIONS["runs"]())
    wait_until(lambda: not processes(Store()))


def harried(run: Stored, dice: random.Random) -> int:
    """Kill whatever works on a run, at random moments, until it is done in spite of it; how often."""
    kills, end = 0, time.monotonic() + HURRY
    while run.state.condition != "done":
        assert time.monotonic() < end
        if run.state.condition == "failed":  # killed again and again before it got anywhere
            assert "without getting further" in run.state.error
            OPERATIONS["resume"](run=run.id)
        OPERATIONS["runs"]()  # somebody looks, and wakes a supervisor
        time.sleep(dice.uniform(0, 12))
        for process in processes(Store()):
            if dice.random() < 0.6:
                process.kill()
                kills += 1
    return kills
