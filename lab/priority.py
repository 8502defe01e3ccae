"""Who waits goes first: what a person waits for leaves a fresh mark, and trainings pause at their next step while it is."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from lab import space
from lab.places import beside, home

FRESH = 2.0  # seconds that a mark counts
AHEAD = 60.0  # seconds by which a mark may lie in the future at most
PAUSE = 0.1  # seconds between looks while somebody waits
EVERY = 0.25  # seconds between marks

_marked = -EVERY

T = TypeVar("T")


def _mark() -> Path:
    """Of this machine: trainings on others, which may share the home, are in nobody's way."""
    return beside(home()) / f"waiting-{platform.node()}"


def going_first(steps: Iterable[T]) -> Iterator[T]:
    """The same steps; trainings pause while they are made.

    A mark counts for twice the last step longer: one that works beside a training, or on a large network, may take seconds.
    """
    somebody_waits()  # the first one would otherwise meet a training at work
    begun = time.monotonic()
    for step in steps:
        somebody_waits(2 * (time.monotonic() - begun))
        yield step
        begun = time.monotonic()


def somebody_waits(longer: float = 0.0) -> None:
    """Leave the mark, which counts so many seconds longer; cheap enough for every step of a sampling.

    A borrowed GPU is in no training's way.
    """
    global _marked
    if space.is_borrowing() or time.monotonic() - _marked < EVERY:
        return
    _marked = time.monotonic()
    home().mkdir(parents=True, exist_ok=True)
    until = time.time() + min(longer, AHEAD)
    _mark().touch()
    os.utime(_mark(), (until, until))


def let_pass(hurry: Callable[[], object] = lambda: False) -> None:
    """Wait while somebody does; until that is done, or something else has to be done at once."""
    while is_somebody_waiting() and not hurry():
        time.sleep(PAUSE)


def is_somebody_waiting() -> bool:
    """Whether the mark is fresh; one from the far future, after a clock was set back, is not."""
    try:
        return -AHEAD <= time.time() - _mark().stat().st_mtime < FRESH
    except OSError:
        return False
