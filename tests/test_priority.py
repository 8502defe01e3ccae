"""A page that waits leaves a mark; a stale one, or one from the future, makes nobody pause."""

from __future__ import annotations

import os
import platform
import time

from lab import priority
from lab.places import home


def test_a_fresh_mark_says_that_somebody_waits(monkeypatch):
    monkeypatch.setattr(priority, "_marked", 0.0)
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
