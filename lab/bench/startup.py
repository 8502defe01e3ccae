"""Start-up: cold processes of the lab beside cold processes that import everything at once."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from urllib.error import URLError

from lab.bench.base import Case
from lab.errors import LabError
from lab.places import ROOT
from lab.processes import end

EAGER = "import gradio, torch, diffusers; diffusers.DDPMPipeline; diffusers.UNet2DModel"
PATIENCE = 120.0  # seconds until an answer is given up


def cases(quick: bool) -> Iterator[Case]:
    """The list of checkpoints, and the first answer of the page."""
    for name, ours in (("python -m lab list", listing), ("python -m lab app, first page", page)):
        yield Case(name, "importing gradio, torch and diffusers", ours=ours, rival=eager, is_cold=True)


def listing() -> None:
    """A process that lists the checkpoints."""
    run("-m", "lab", "list", "--json")


def eager() -> None:
    """A process that imports what such an app usually imports first, and does nothing."""
    run("-c", EAGER)


def run(*words: str) -> None:
    """Run Python to its end."""
    subprocess.run([sys.executable, *words], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def page() -> None:
    """A process that serves the page, until the page was read."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [sys.executable, "-m", "lab", "app", "--port", str(port)]
    lab = subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ}
    )
    try:
        answer(f"http://127.0.0.1:{port}/", lab)
    finally:
        # asked politely, it would first finish what it makes ready, and that is no part of the time
        end(lab.pid)
        lab.wait(timeout=20)


def answer(address: str, lab: subprocess.Popen[bytes]) -> bytes:
    """What the page says, as soon as it says something."""
    given_up = time.monotonic() + PATIENCE
    while time.monotonic() < given_up and lab.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=PATIENCE) as page:
                return page.read()
        except (URLError, OSError):
            time.sleep(0.02)
    raise LabError("The lab's page did not answer.")
