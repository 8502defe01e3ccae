"""Whether the page lives, whether it is ready, and how it ends without breaking off what somebody waits for."""

from __future__ import annotations

import time
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from lab import ops
from lab.settings import Settings

GRACE = 20.0  # seconds for what is being sampled when the lab is asked to stop; runs in the background go on
LOOK = 0.1


def routes(settings: Settings) -> list[Route]:
    """`/healthz`: it answers. `/readyz`: 200 where it can serve, 503 with what is missing; both without a login."""

    def alive(request: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    def ready(request: Request) -> JSONResponse:
        found = ops.ready(settings)
        return JSONResponse(found, status_code=200 if all(found.values()) else 503)

    return [Route("/healthz", alive), Route("/readyz", ready)]


def close(page: Any) -> None:
    """Start nothing more, give what runs its time and its answer, and let go of the port."""
    page.is_closing = True
    end = time.monotonic() + GRACE
    while (any(page._queue.active_jobs) or len(page._queue)) and time.monotonic() < end:
        time.sleep(LOOK)
    time.sleep(LOOK)  # Gradio sends an answer a moment after its job has ended
    page.close(verbose=False)
