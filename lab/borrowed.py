"""Classes of diffusers, imported when they are first needed."""

from __future__ import annotations

import importlib
import threading
from typing import Any

# diffusers imports its parts lazily, and two threads of a page that ask at once get an ImportError from it.
_ONE_AT_A_TIME = threading.Lock()


def diffusers_class(name: str) -> Any:
    """A class of diffusers by its name; the first call takes seconds."""
    with _ONE_AT_A_TIME:
        return getattr(importlib.import_module("diffusers"), name)
