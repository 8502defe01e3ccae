"""Ending processes together with what they started."""

from __future__ import annotations

import psutil


def end(pid: int) -> None:
    """Kill a process and all its descendants; one that is gone already is no matter."""
    try:
        process = psutil.Process(pid)
        family = [*process.children(recursive=True), process]
    except psutil.NoSuchProcess:
        return
    for each in family:
        try:
            each.kill()
        except psutil.NoSuchProcess:
            continue
