"""Who asks: set by the skin that heard them, so that no operation takes an owner as an argument."""

from __future__ import annotations

import re
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Literal

from lab.errors import LabError
from lab.places import home

Role = Literal["operator", "teacher", "student", "visitor"]
LOCAL = "local"  # without login everybody at this lab is one owner
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")
MINUTE = 60.0


@dataclass(frozen=True)
class Person:
    """Somebody with a name and a role, and what the lab lets them do.

    most: images × steps of one request, None for no bound. pace: heavy requests a minute, None for no bound.
    """

    name: str = LOCAL
    role: Role = "operator"
    trains: bool = True
    most: int | None = None
    pace: int | None = None

    @property
    def home(self) -> Path:
        """Where pictures, data sets, studies and checkpoints of one's own are kept: a folder for each person."""
        return home() if self.name == LOCAL else home() / "people" / self.name

    @property
    def is_operator(self) -> bool:
        """Whether it is the command line of this machine, which alone may name paths and places."""
        return self.role == "operator"

    def sees(self, owner: str) -> bool:
        """Whether what this owner made is there for this person."""
        return self.role in ("operator", "teacher") or self.name == owner


OPERATOR = Person()
_WHO: ContextVar[Person] = ContextVar("who", default=OPERATOR)


def who() -> Person:
    """The person that this thread or task works for; the operator where no skin said otherwise."""
    return _WHO.get()


@contextmanager
def acting_as(person: Person) -> Iterator[None]:
    """What is called inside works for this person."""
    token = _WHO.set(person)
    try:
        yield
    finally:
        _WHO.reset(token)


def owned_by(owner: str) -> Person:
    """The person whose run a worker does; it finds that person's pictures, and keeps the checkpoint with them."""
    return OPERATOR if owner == LOCAL else Person(checked(owner), "student")


def checked(name: str) -> str:
    """A person's name, which is also that of a folder; anything else is refused."""
    if not isinstance(name, str) or not NAME.fullmatch(name) or name.lower() == LOCAL:
        raise LabError(
            f"A person's name is 1 to 60 letters, digits, dots, dashes and _, and not 'local'; got {str(name)[:60]!r}."
        )
    return name


def check_places() -> None:
    """Refuse a path of the server, or where trainings run, from anybody but the command line."""
    if not who().is_operator:
        raise LabError(
            "Paths and places of the server are for its own command line; use a name from the lists."
        )


# What a request may cost ------------------------------------------------------------------------------------------

_ASKED: defaultdict[str, deque[float]] = defaultdict(deque)
_LOCK = Lock()


def admit(cost: int, trains: bool) -> None:
    """Refuse what this person may not ask for: a training, too large a request, or too many of them in a minute."""
    person = who()
    if trains and not person.trains:
        raise LabError("Trainings are not open to you here; whoever serves this lab can allow them.")
    if person.most is not None and cost > person.most:
        raise LabError(
            f"This asks for {cost:,} images × steps; at most {person.most:,} are allowed here, so take fewer of either."
        )
    if person.pace is not None and (cost or trains):
        _keep_pace(person.name, person.pace)


def _keep_pace(name: str, pace: int) -> None:
    now = time.monotonic()
    with _LOCK:
        asked = _ASKED[name]
        while asked and now - asked[0] >= MINUTE:
            asked.popleft()
        if len(asked) >= pace:
            wait = int(MINUTE - (now - asked[0])) + 1
            raise LabError(f"That is more than {pace} requests in a minute; wait {wait} seconds.")
        asked.append(now)
        for other in [each for each, times in _ASKED.items() if now - times[-1] >= MINUTE]:
            del _ASKED[other]
