"""What a page on ZeroGPU asks of the lab, with the stand-in for its package; prints what came of it as JSON."""

from __future__ import annotations

import json
import os
import socket
import stat
import sys
from collections.abc import Iterator
from itertools import islice
from typing import Any

from lab import space

space.arrive()

import spaces  # noqa: E402  (the stand-in)

from lab import engine, ops, training  # noqa: E402
from lab.errors import LabError  # noqa: E402

HERE = os.getpid()
DRAW = {"n": 2, "sampler": {"kind": "ddpm", "steps": 3}, "controls": False}
TRAIN = {"steps": 12, "batch": 2, "previews": 0, "precision": "fp32", "net": {"widths": [8, 16]}, "base": ""}


def away_only(owner: Any, name: str) -> None:
    """Fail where something that needs a GPU begins in the page's own process, which has none."""
    real = getattr(owner, name)

    def checked(*arguments: Any, **named: Any) -> Any:
        assert os.getpid() != HERE, f"{name} without a GPU"
        return real(*arguments, **named)

    setattr(owner, name, checked)


def refused(name: str, **options: Any) -> str:
    """The sentence of a refusal."""
    try:
        ops.final(ops.OPERATIONS[name](**options))
    except LabError as error:
        return str(error)
    return ""


def explored() -> dict[str, Any]:
    """The default models, drawn to the end, and once left in the middle."""
    ops.warm_up()
    list(islice(ops.OPERATIONS["explore"](**DRAW), 2))
    view = ops.final(ops.OPERATIONS["explore"](**DRAW))
    by_slot = sorted(view["rows"], key=lambda row: (row["slot"], row["condition"]))
    return {"film": bool(view["film"]), "rows": [row["condition"] for row in by_slot]}


def trained() -> dict[str, Any]:
    """A training in slices."""
    run = ops.OPERATIONS["submit"](title="sliced", **TRAIN)["run"]
    before = ops.OPERATIONS["show"](run=run)
    done = ops.OPERATIONS["attend"](run=run)
    return {"before": before["condition"], "attended": before["attended"], "after": done}


def linger(server: int) -> Iterator[str]:
    """Work on a borrowed GPU that goes on for a while."""
    yield "a socket" if stat.S_ISSOCK(os.fstat(server).st_mode) else "nothing"
    yield "done"


def closed() -> dict[str, Any]:
    """What a visitor sees whose connection the page closes during a call, and what the call has of that connection."""
    with (
        socket.create_server(("127.0.0.1", 0)) as door,
        socket.create_connection(door.getsockname()) as browser,
    ):
        browser.settimeout(20)
        server, _ = door.accept()
        call = space.borrowed(linger, server.fileno(), 20)
        theirs = next(call)
        server.close()
        return {"has": theirs, "browser": len(browser.recv(1)), "goes_on": list(call)}


away_only(engine.Denoiser, "__init__")
away_only(training, "prepare")
json.dump(
    {
        "device": ops.device_line(),
        "explored": explored(),
        "refused": refused("explore", **DRAW | {"sampler": "pndm", "clip": "x0"}),
        "unknown": refused("explore", **DRAW | {"a": "nobody"}),
        "plan": ops.OPERATIONS["plan"](**TRAIN)["seconds"],
        "trained": trained(),
        "closed": closed(),
        "asked": spaces.asked,
    },
    sys.stdout,
)
