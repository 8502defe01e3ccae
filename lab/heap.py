"""Memory of glibc's heap: kept while networks are called, back to the system when an operation is done.

A network asks for the same memory in every step. Left to itself, glibc gives large pieces back at once, and the system
clears thousands of pages anew for each call; between operations it keeps them instead, and a served lab grows.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # mallopt(3)
PIECE = 32 * 2**20  # bytes of a piece that is not returned by itself: the most that glibc allows
KEPT = 2**30  # bytes that may lie free until an operation is done
_AT_WORK: list[None] = []  # one for each operation that calls networks at the moment


@lru_cache(maxsize=1)
def keep() -> None:
    """Keep freed memory at hand until `give_back`; nothing where the C library has no such call."""
    mallopt = _call("mallopt")
    if mallopt:
        mallopt(M_MMAP_THRESHOLD, PIECE)
        mallopt(M_TRIM_THRESHOLD, KEPT)


@contextmanager
def at_work() -> Iterator[None]:
    """Networks are called meanwhile: what they ask for again and again is kept, whoever else is done."""
    _AT_WORK.append(None)
    try:
        yield
    finally:
        _AT_WORK.pop()


def give_back() -> None:
    """Return what is free, unless something is at work; nothing where the C library cannot, as on macOS and Windows."""
    trim = _call("malloc_trim")
    if trim and not _AT_WORK:
        trim(0)


@lru_cache(maxsize=2)
def _call(name: str) -> Any:
    if not sys.platform.startswith("linux"):
        return None
    try:
        return getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError):  # musl
        return None
