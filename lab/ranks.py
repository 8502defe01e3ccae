"""Several processes that train as one: which of them writes, and what all of them do next."""

from __future__ import annotations

import atexit
import os
from datetime import timedelta
from functools import cache
from typing import Any

from lab.borrowed import torch

BUSY = timedelta(days=7)  # that others wait for the main process, which saves, samples or lets a page pass


def is_main_process() -> bool:
    """Whether this process writes files: of several processes one does."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank() == 0
    return os.environ.get("RANK", "0") == "0"  # set by launchers before the processes know each other


def process_count() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def agreed(wish: bool) -> bool:
    """What the main process wishes; each process asks in every step, and waits here while the main one is busy.

    On the CPU, so that no GPU has to be read for it.
    """
    if process_count() == 1:
        return wish
    wishes = torch.tensor([wish], dtype=torch.uint8)
    torch.distributed.broadcast(wishes, src=0, group=_talkers())
    return bool(wishes)


@cache
def _talkers() -> Any:
    atexit.register(_part)
    return torch.distributed.new_group(backend="gloo", timeout=BUSY)


def _part() -> None:
    """Take leave of the others: threads that still listen for them when a process ends may abort it."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
