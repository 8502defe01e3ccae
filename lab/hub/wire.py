"""The line to the Hub: requests with a time limit, and a sentence for each way in which they fail."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lab.errors import LabError, Unavailable
from lab.people import LOCAL, who

TIMEOUT = 10.0  # seconds without a byte


@dataclass(frozen=True)
class Words:
    """What is said where the Hub does not do what it is asked; {what} is a repository, or another thing of the Hub."""

    status: dict[int, str]  # the sentence goes on: The Hub, asked for it, …
    asked: str
    missing: str
    offline: str
    unreachable: str


READING = Words(
    {
        401: "asks for a token that may read it: whoever runs the lab sets HF_TOKEN",
        403: "does not let this lab read it: whoever runs the lab asks for access there, or sets another HF_TOKEN",
        404: "has no such thing",
        429: "gets too many requests from here; try again in some minutes",
    },
    asked="for {what}",
    missing="There is no {what} on the Hub, or it is private and this lab has no token for it.",
    offline="and {what} is not kept here",
    unreachable="and {what} is not kept here",
)
WRITING = Words(
    {
        401: "does not know this token; sign in again, or whoever runs the lab sets another HF_TOKEN",
        403: "says that this token may not write there; use one that may, or a repository of your own",
        404: "has no such thing",
        409: "is changing it at the same time, for somebody else; try again",
        429: "gets too many requests from here; try again in some minutes",
    },
    asked="to take {what}",
    missing="The Hub has no {what} that this token may write to; sign in again, or use a token that may write.",
    offline="and publishing {what} needs the Hub",
    unreachable="and {what} is not published; try again later",
)


def endpoint() -> str:
    """Where the Hub is; the operator's own where HF_ENDPOINT names one."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def is_offline() -> bool:
    """Whether the operator said that there is no network."""
    from huggingface_hub import constants

    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    return offline or bool(constants.HF_HUB_OFFLINE)


def headers() -> dict[str, str]:
    """Of a request: the operator's token, for whoever is at the operator's own lab."""
    from huggingface_hub import get_token
    from huggingface_hub.utils import build_hf_headers

    return build_hf_headers(
        token=(get_token() if who().name == LOCAL else None) or False, library_name="trojan-noise"
    )


def get(path: str, params: dict[str, Any], what: str) -> Any:
    """The JSON that the Hub answers; `what` is named where it does not."""
    from huggingface_hub import get_session

    with told(what):
        url, more = f"{endpoint()}/{path}", {"headers": headers(), "timeout": TIMEOUT}
        answer = get_session().get(url, params=params, follow_redirects=True, **more)
        check(answer)
        return answer.json()


def check(answer: Any) -> None:
    """Raise what the library makes of a bad answer."""
    from huggingface_hub.utils import hf_raise_for_status

    hf_raise_for_status(answer)


@contextmanager
def told(what: str, words: Words = READING) -> Iterator[None]:
    """Errors of the client and of the network as one sentence; no address and no token is in it."""
    if is_offline():
        raise Unavailable(f"This lab is offline (HF_HUB_OFFLINE), {words.offline.format(what=what)}.")
    try:
        yield
    except LabError:
        raise
    except Exception as error:  # httpx and huggingface_hub have a family each
        raise _unavailable(error, what, words) from None


class Unreachable(Unavailable):
    """No answer from the Hub at all: it may come back at once, or never."""


def _unavailable(error: Exception, what: str, words: Words) -> Unavailable:
    from huggingface_hub.errors import HfHubHTTPError

    known = isinstance(error, HfHubHTTPError | ValueError)
    return (Unavailable if known else Unreachable)(_sentence(error, what, words))


def _sentence(error: Exception, what: str, words: Words) -> str:
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return f"{what} is gated: whoever runs the lab accepts its conditions on its page and sets HF_TOKEN."
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{what} is there, but has no such revision; give a branch, a tag or a commit."
    if isinstance(error, errors.RepositoryNotFoundError):
        return words.missing.format(what=what)
    asked = f"The Hub, asked {words.asked.format(what=what)},"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in words.status:
        return f"{asked} {words.status[status]}."
    if status:
        return f"{asked} failed with status {status}; try again later."
    if isinstance(error, ValueError):
        return f"The Hub's answer for {what} cannot be read; try again later."
    return f"The Hub cannot be reached ({type(error).__name__}), {words.unreachable.format(what=what)}."
