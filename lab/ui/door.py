"""The one door of the page: whoever comes through it has a name, and all that is called for them knows it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
from collections import Counter
from collections.abc import Iterable
from typing import Any

import gradio as gr
from gradio.queueing import Queue
from starlette.requests import Request

from lab.errors import LabError
from lab.people import Person, acting_as, checked
from lab.settings import Settings
from lab.ui.guard import shown
from lab.users import Users

COOKIE = "lab-visitor"
YEAR = 365 * 86400
LOOK = 0.02  # seconds between looks at the queue; Gradio's own 1,000 a second wake a core from its training each time


class Door(gr.Blocks):
    """A page whose every handler, over the page, the API or MCP, works for the person who asked.

    Gradio calls every function through `process_api`, so that no handler can forget to ask who it is.
    """

    def __init__(self, settings: Settings, **options: Any):
        self.settings = settings
        self.is_closing = False
        super().__init__(**options)

    async def process_api(
        self, block_fn: Any, inputs: Any, *more: Any, request: Any = None, **named: Any
    ) -> Any:
        """Gradio's own, with the person set; what has not begun when the lab is closing does not begin."""
        if self.is_closing and named.get("iterator") is None:
            raise shown(LabError("The lab is being stopped; come back when it is there again."))
        try:
            person = self.person(request)
        except LabError as error:
            raise shown(error) from None
        try:
            with acting_as(person):
                return await super().process_api(block_fn, inputs, *more, request=request, **named)
        finally:
            self._forget(named.get("session_hash"), named.get("event_id"))

    def _forget(self, session: str | None, event: str | None) -> None:
        """Drop what Gradio keeps of a call over the API, 1.3 MB each: it has no page, so nobody comes back for it."""
        if event and session == event:
            self.app.state_holder.session_data.pop(event, None)
            self.app.state_holder.time_last_used.pop(event, None)

    def person(self, request: Any) -> Person:
        """Who asks; a LabError where only somebody who logged in may."""
        if isinstance(request, list):
            request = request[0] if request else None
        if self.settings.is_local:
            return self.settings.person("", "teacher")
        raw = getattr(request, "request", None) or request
        if self.settings.login == "users":
            return self._user(
                getattr(request, "username", None) or self._cookie_user(raw) or _basic_user(raw)
            )
        name = _oauth_name(raw) if self.settings.login == "oauth" else None
        if name:
            return self.settings.person(name, "teacher" if name in self.settings.teachers else "student")
        return self.settings.person(visitor(raw), "visitor")

    def _user(self, name: str | None) -> Person:
        user = Users().all().get(name or "")
        if user is None:  # removed since, or never there
            raise LabError("Log in first; whoever serves this lab gives you a name and a password.")
        return self.settings.person(str(name), user.role)

    def _cookie_user(self, request: Any) -> str | None:
        """The login that Gradio's cookie stands for, where Gradio has not looked it up: MCP."""
        cookies, app = getattr(request, "cookies", None) or {}, self.app
        names = (f"access-token-{app.cookie_id}", f"access-token-unsecure-{app.cookie_id}")
        return next((app.tokens[cookies[name]] for name in names if cookies.get(name) in app.tokens), None)

    def wait_fairly(self, size: int) -> None:
        """Queue events, and let the visitors take turns."""
        # not by `queue`, which makes the whole web application once more
        self._queue = Turns(
            live_updates=True,
            concurrency_count=self.max_threads,
            update_intervals=1,
            max_size=size,
            blocks=self,
            default_concurrency_limit=1,
        )


class Turns(Queue):
    """Gradio's queue; but everybody's first waiting request comes before anybody's second, and an empty one rests."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.sleep_when_free = self.progress_update_sleep_when_free = LOOK

    async def push(self, body: Any, request: Any, username: str | None) -> Any:
        """Put an event where its turn is."""
        result = await super().push(body, request, username)
        for waiting in self.event_queue_per_concurrency_id.values():
            waiting.queue[:] = in_turn(waiting.queue, _asker)
        return result


def in_turn(waiting: Iterable[Any], asker: Any) -> list[Any]:
    """Requests by how many the same one has before it; in the order of their coming where that is equal."""
    seen: Counter[str] = Counter()
    placed = []
    for event in waiting:
        name = asker(event)
        placed.append((seen[name], event))
        seen[name] += 1
    return [event for _, event in sorted(placed, key=lambda each: each[0])]


def _asker(event: Any) -> str:
    return event.username or event.request.cookies.get(COOKIE) or event.session_hash


# Who it is ---------------------------------------------------------------------------------------------------------


def _basic_user(request: Any) -> str | None:
    """The login of an `Authorization: Basic` header, as MCP clients send it."""
    header = (getattr(request, "headers", None) or {}).get("authorization", "")
    if not header.lower().startswith("basic "):
        return None
    try:
        name, _, password = base64.b64decode(header[6:], validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return name if Users().accepts(name, password) else None


def _oauth_name(request: Any) -> str | None:
    """The Hugging Face name in the session that Gradio signed; None where nobody logged in, or the login is too old."""
    from gradio.oauth import _get_valid_oauth_info_from_session

    found = _get_valid_oauth_info_from_session(getattr(request, "scope", {}).get("session") or {})
    return checked(found["userinfo"]["preferred_username"]) if found else None


def visitor(request: Any) -> str:
    """A name for somebody who did not log in, from a cookie; without one, a name that nobody has again."""
    cookie = (getattr(request, "cookies", None) or {}).get(COOKIE) or secrets.token_urlsafe(16)
    return f"visitor-{hashlib.sha256(cookie.encode()).hexdigest()[:16]}"


class Visitors:
    """Gives every browser a cookie that nobody can guess, so that visitors are told apart."""

    def __init__(self, app: Any):
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """An ASGI layer around the page."""
        if scope["type"] != "http" or COOKIE in Request(scope).cookies:
            return await self.app(scope, receive, send)

        async def answer(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), (b"set-cookie", _fresh_cookie())]
            await send(message)

        await self.app(scope, receive, answer)


def _fresh_cookie() -> bytes:
    on_a_space = bool(os.environ.get("SPACE_ID"))  # the page is in a frame of another site there
    seen = "SameSite=None; Secure" if on_a_space else "SameSite=Lax"
    return f"{COOKIE}={secrets.token_urlsafe(24)}; Path=/; HttpOnly; Max-Age={YEAR}; {seen}".encode()
