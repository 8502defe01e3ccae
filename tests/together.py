"""Work that two new processes do together."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from browsing import free_port


def together(work: Callable[..., None], *arguments: Any) -> None:
    """Do it in two processes that train together; new ones, as forked ones would wait for OpenMP's threads for ever."""
    torch.multiprocessing.spawn(one_of_two, (free_port(), work, arguments), nprocs=2)


def one_of_two(rank: int, port: int, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """What each of them does; the names are those that accelerate and torch read."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "ACCELERATE_USE_CPU": "true"}
    torch.set_num_threads(1)
    work(*arguments)
