"""Freed memory goes back to the system: glibc keeps it between what is still held, and a served lab grows with every request."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import lru_cache


def give_back() -> None:
    """Return what is free at the moment; nothing where the C library has no such call, as on macOS and Windows."""
    trim = _malloc_trim()
    if trim:
        trim(0)


@lru_cache(maxsize=1)
def _malloc_trim() -> Callable[[int], int] | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # musl
        return None
