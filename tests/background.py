"""Real supervisors and workers for tests: submit, wait, and find what runs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import psutil

from lab.ops import OPERATIONS
from lab.store import Store, Stored

# Seconds in which a process surely imports torch, trains a few steps and ends; more on a machine that is busy.
SOON = float(os.environ.get("TEST_PATIENCE", "300"))


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait for what surely comes."""
    end = time.monotonic() + SOON
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def submit(**options: Any) -> Stored:
    """Submit a small training through the operation, as page and command line do."""
    values = {
        "net": {"widths": [8, 16]},
        "batch": 2,
        "threads": 1,
        "precision": "fp32",
        "previews": 0,
        **options,
    }
    return Store().get(OPERATIONS["submit"](**values)["run"])


def processes(store: Store) -> list[psutil.Process]:
    """Everything of this store that runs."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("LAB_HOME") == str(store.root.parent) and process.pid != os.getpid():
                found.append(process)
        except psutil.Error:
            continue
    return found
