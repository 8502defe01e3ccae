"""A lab that is served in this process or in one of its own, with people who log in over plain HTTP."""

from __future__ import annotations

import json
import multiprocessing
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.cookiejar import CookieJar
from multiprocessing.connection import Connection
from typing import Any

import psutil

from lab.settings import Settings
from lab.ui import build, launch_options

PASSWORD = "correct horse"
LONG = 120  # seconds for an answer on a busy machine


@contextmanager
def served(settings: Settings) -> Iterator[str]:
    """The address of the real page with these settings."""
    page = build(settings)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    page.launch(server_port=port, prevent_thread_lock=True, quiet=True, **launch_options(settings))
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        page.close(verbose=False)


@dataclass(frozen=True)
class Apart:
    """A lab in a process of its own, whose memory is nobody else's."""

    address: str
    pid: int

    def resident(self) -> float:
        """Its memory in MiB, the least of a few looks: what is just being freed does not count."""
        looks = []
        for _ in range(5):
            looks.append(psutil.Process(self.pid).memory_info().rss / 2**20)
            time.sleep(0.1)
        return min(looks)

    def awakenings(self, seconds: float) -> float:
        """How often a second its threads woke up."""
        process = psutil.Process(self.pid)
        before = process.num_ctx_switches().voluntary
        time.sleep(seconds)
        return (process.num_ctx_switches().voluntary - before) / seconds


@contextmanager
def served_apart(settings: Settings) -> Iterator[Apart]:
    """The same in another process, with this one's environment and without supervisors."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(settings, theirs), daemon=True)
    process.start()
    assert ours.poll(LONG) and process.pid
    try:
        yield Apart(ours.recv(), process.pid)
    finally:
        process.terminate()
        process.join(LONG)


def _serve(settings: Settings, parent: Connection) -> None:
    import torch

    from lab.ops import grid, jobs

    torch.set_num_threads(1)
    jobs.ensure = grid.ensure = lambda store: None
    with served(settings) as address:
        parent.send(address)
        parent.poll(None)


class Client:
    """Somebody's browser, without the page."""

    def __init__(self, address: str, name: str = ""):
        self.address = address
        self.jar = CookieJar()
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.jar))
        if name:
            form = urllib.parse.urlencode({"username": name, "password": PASSWORD}).encode()
            self.opener.open(f"{address}/login", form, timeout=LONG).read()

    def get(self, path: str) -> tuple[int, str]:
        """Status and text."""
        try:
            with self.opener.open(f"{self.address}{path}", timeout=LONG) as answer:
                return answer.status, answer.read().decode("utf-8", "replace")
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode("utf-8", "replace")

    def post(self, path: str, body: Any) -> tuple[int, str]:
        """The same for JSON, or for bytes as they are."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.address}{path}", data, {"Content-Type": "application/json"})
        try:
            with self.opener.open(request, timeout=LONG) as answer:
                return answer.status, answer.read().decode("utf-8", "replace")
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode("utf-8", "replace")

    def call(self, name: str, options: Any) -> tuple[Any, str]:
        """Result and, where it was refused, the sentence of an operation over the API."""
        status, text = self.post(f"/gradio_api/call/{name}", {"data": [options]})
        if status != 200:
            return None, text
        _, stream = self.get(f"/gradio_api/call/{name}/{json.loads(text)['event_id']}")
        kind, _, data = stream.strip().rpartition("event: ")[2].partition("\ndata: ")
        found = json.loads(data)
        return (
            (found[0]["result"], "") if kind == "complete" else (None, (found or {}).get("error", str(found)))
        )
