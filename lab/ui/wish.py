"""Which of a visitor's runs is still wanted: long handlers look at it and end themselves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from lab.progress import Tick
from lab.ui import words

STREAM: dict[str, Any] = {"api_visibility": "private", "concurrency_id": "device", "concurrency_limit": 1}


class Wish:
    """Which run a visitor wants: a run ends itself when its ticket is not the last one.

    Gradio's own `cancels` does not wait for the event it ends: what that still sends overwrites what comes after,
    and a run that was asked for meanwhile is dropped.
    """

    number = 0
    subject: tuple[Any, ...] = ()

    def next(self, *subject: Any) -> int:
        """A new ticket; all older ones are void. subject: what is asked about, where another choice ends the run."""
        self.subject = subject
        self.number += 1
        return self.number

    def turn(self, *subject: Any) -> None:
        """Something was chosen: tickets of another subject are void.

        Gradio may say so after the next run was asked for; its ticket is of the same subject and stays good.
        """
        if self.subject != subject:
            self.next(*subject)

    def stop(self) -> None:
        """All tickets are void."""
        self.number += 1


EVERY = 0.3  # seconds between two words on how far it is
STOPPED = words.sentence("Stopped; what was finished is kept.")


def followed(news: Iterator[Any], wish: Wish, ticket: int) -> Iterator[tuple[Any, str]]:
    """Results of a long operation as they come, or None, with a sentence on how far it is; Stop ends it at its next step."""
    said = 0.0
    for each in news:
        if wish.number != ticket:
            yield None, STOPPED
            return
        if not isinstance(each, Tick):
            yield each, ""
        elif time.monotonic() - said > EVERY:
            said = time.monotonic()
            yield None, words.sentence(f"{each.text} · step {each.step:,} of {each.total:,}")
    yield None, words.sentence("Done.")
