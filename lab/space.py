"""Where the lab runs: on a machine of one's own, on a Hugging Face Space, or on ZeroGPU, which lends a GPU for each call."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psutil

from lab.errors import LabError
from lab.people import Person, acting_as, who

LONGEST = 120  # seconds to ask for at most; a visitor without an account has as many a day
BEGIN = 20  # seconds until the process that has the GPU works: it is forked, wakes CUDA and loads a network
CALL = 0.02  # seconds that a network takes for CHUNK images: a guess with room to spare, not measured there
CHUNK = 64

Work = Callable[[Any], Any]  # an operation's function, which a process finds again by its name

_lent: Callable[..., Any] | None = (
    None  # what does work on a borrowed GPU; None where there is none to borrow
)
_is_borrowing = False  # in the process that has the GPU


def is_space() -> bool:
    """Whether this is a Hugging Face Space, which sets the variable."""
    return bool(os.environ.get("SPACE_ID"))


def has_sign_in() -> bool:
    """Whether visitors can sign in with Hugging Face: a Space whose front matter asks for that has the variable."""
    return is_space() and bool(os.environ.get("OAUTH_CLIENT_ID"))


def is_zero() -> bool:
    """Whether it is one on ZeroGPU: its GPU is there only inside a call, and for the visitor who waits for it."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def arrive() -> None:
    """What a page does before anything imports torch: on ZeroGPU, its package changes torch. Elsewhere nothing.

    Without a second thread of OpenMP before the fork, no process that is forked waits for it for ever.
    """
    global _lent
    if is_zero() and _lent is None:
        os.environ["OMP_NUM_THREADS"] = "1"
        import spaces  # pyright: ignore[reportMissingImports]  # installed by ZeroGPU itself

        _lent = spaces.GPU(duration=_duration)(_away)


def is_lending() -> bool:
    """Whether this process has to borrow a GPU for what needs one."""
    return _lent is not None and not _is_borrowing


def is_borrowing() -> bool:
    """Whether this process was made to have a GPU for a while."""
    return _is_borrowing


def borrowed(work: Work, options: Any, seconds: int) -> Iterator[Any]:
    """All that `work(options)` yields, or what it returns, done in a process that has a GPU for so many seconds.

    Options and results cross between processes: plain data, no tensor of a GPU and nothing that lives. A LabError
    crosses as a result, since ZeroGPU passes on no more of an exception than its name.
    """
    assert _lent is not None
    with closing(_lent(work, options, seconds, who())) as results:
        for result in results:
            if isinstance(result, LabError):
                raise result
            yield result


def _duration(work: Work, options: Any, seconds: int, person: Person) -> int:
    """How long the GPU is asked for."""
    return seconds


def _away(work: Work, options: Any, seconds: int, person: Person) -> Iterator[Any]:
    """The work for a person, in the process that has the GPU."""
    global _is_borrowing
    _is_borrowing = True
    _leave_visitors()
    try:
        with acting_as(person):
            result = work(options)
            yield from result if isinstance(result, Iterator) else (result,)
    except LabError as error:
        yield error


def _leave_visitors() -> None:
    """Let go of the copies that this process got, when it was forked, of the page's door and its visitors' connections.

    A copy keeps open what the page closes: a browser would ask on a connection that nobody reads any more, and wait for
    the answer until this process ends. The numbers stay taken, so that no new file is mistaken for one of them.
    """
    found = psutil.Process().net_connections("tcp")
    doors = {each.laddr.port for each in found if each.status == psutil.CONN_LISTEN}
    with open(os.devnull) as nothing:
        for each in found:
            if each.laddr.port in doors:
                os.dup2(nothing.fileno(), each.fd)


def seconds_for(n: int, steps: int) -> int:
    """Seconds to ask for where n images are drawn in so many steps altogether; longer work is begun, and may be cut off."""
    return min(LONGEST, BEGIN + round(-(-n // CHUNK) * steps * CALL))
