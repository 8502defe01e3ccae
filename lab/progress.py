"""What every long loop yields, so that a page, a terminal or a test can follow and stop it."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Tick:
    """One step of a long loop: where it is, and what there is to see."""

    step: int
    total: int
    values: Mapping[str, float] = field(default_factory=dict)
    images: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""


def result_of(loop: Iterator[Tick | T]) -> Generator[Tick, None, T]:
    """The ticks of a long loop as they come; returns the one thing it yields that is none: `x = yield from result_of(loop)`."""
    found: list[T] = []
    for news in loop:
        if isinstance(news, Tick):
            yield news
        else:
            found.append(news)
    [result] = found
    return result
