"""A page that waits leaves a mark; a stale one, or one from the future, makes nobody pause."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from lab import priority
from lab.ops import OPERATIONS
from lab.places import home
from lab.progress import Tick


@pytest.fixture(autouse=True)
def nobody(monkeypatch) -> None:
    """No mark was left before."""
    monkeypatch.setattr(priority, "_marked", -priority.EVERY)


@pytest.fixture
def clock(monkeypatch) -> SimpleNamespace:
    """A clock that the test sets."""
    found = SimpleNamespace(now=1000.0)
    told = SimpleNamespace(monotonic=lambda: found.now, time=lambda: found.now)
    monkeypatch.setattr(priority, "time", told)
    return found


def test_a_fresh_mark_says_that_somebody_waits():
    assert not priority.is_somebody_waiting()
    priority.somebody_waits()
    assert priority.is_somebody_waiting()
    mark = home() / f"waiting-{platform.node()}"
    os.utime(mark, (time.time() + 3600,) * 2)  # the clock was set back
    assert not priority.is_somebody_waiting()
    os.utime(mark, (time.time() - 3600,) * 2)
    assert not priority.is_somebody_waiting()


def test_marks_are_left_rarely(monkeypatch):
    monkeypatch.setattr(priority, "_marked", time.monotonic())
    priority.somebody_waits()
    assert not (home() / f"waiting-{platform.node()}").exists()


def test_a_mark_outlasts_long_steps(clock):
    """Beside a training a step may take longer than a mark counts; the training must not go on in the middle of it."""

    def steps() -> Iterator[int]:
        for step in range(2):
            clock.now += 10
            yield step

    sampling = priority.going_first(steps())
    next(sampling)
    clock.now += 20 + priority.FRESH - 0.1
    assert priority.is_somebody_waiting()
    clock.now += 0.2
    assert not priority.is_somebody_waiting()
    next(sampling)  # the time in between was no step's
    clock.now += 20 + priority.FRESH + 0.1
    assert not priority.is_somebody_waiting()


def test_the_first_step_has_a_mark_before_it():
    waited = [priority.is_somebody_waiting()]
    list(priority.going_first(waited.append(priority.is_somebody_waiting()) for _ in range(1)))
    assert waited == [False, True]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sample", {"checkpoint": "mnist-clean", "n": 1, "sampler": {"kind": "ddim", "steps": 2}}),
        ("evaluate", {"checkpoint": "mnist-clean", "n": 2, "sampler": {"kind": "ddim", "steps": 2}}),
        ("castle", {"what": "census", "checkpoint": "digits-cond-patch", "n": 20}),
        ("castle", {"what": "classify", "checkpoint": "digits-cond-patch", "drawn": 20}),
        ("castle", {"what": "diffusion-classifier", "checkpoint": "digits-cond-patch", "examined": 10}),
    ],
)
def test_trainings_pause_for_whatever_a_person_waits_for(name, options):
    assert not priority.is_somebody_waiting()
    assert isinstance(next(iter(OPERATIONS[name](**options))), Tick)
    assert priority.is_somebody_waiting()
