"""Who waits goes first: a page that samples leaves a fresh mark, and trainings pause at their next step while it is."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from pathlib import Path

from lab.places import home

FRESH = 1.0  # seconds that a mark counts
PAUSE = 0.1  # seconds between looks while a page waits
EVERY = 0.25  # seconds between marks

_marked = 0.0


def _mark() -> Path:
    """Of this machine: trainings on others, which may share the home, are in nobody's way."""
    return home() / f"waiting-{platform.node()}"


def somebody_waits() -> None:
    """Leave the mark; cheap enough for every step of a sampling."""
    global _marked
    if time.monotonic() - _marked < EVERY:
        return
    _marked = time.monotonic()
    home().mkdir(parents=True, exist_ok=True)
    _mark().touch()


def let_pass(hurry: Callable[[], object] = lambda: False) -> None:
    """Wait while a page does; until it is done, or something else has to be done at once."""
    while is_somebody_waiting() and not hurry():
        time.sleep(PAUSE)


def is_somebody_waiting() -> bool:
    """Whether the mark is fresh; one from the future, after a clock was set back, is not."""
    try:
        return 0 <= time.time() - _mark().stat().st_mtime < FRESH
    except OSError:
        return False
