"""Heavy libraries, imported when something of them is first used: `lab list` and `lab --help` never wait for them."""

from __future__ import annotations

import importlib
import os
import threading
from types import ModuleType
from typing import TYPE_CHECKING, Any

# diffusers imports its parts lazily, and two threads of a page that ask at once get an ImportError from it.
_ONE_AT_A_TIME = threading.Lock()
if hasattr(
    os, "register_at_fork"
):  # or a process that is forked meanwhile waits for ever for a thread that it has not
    os.register_at_fork(
        before=_ONE_AT_A_TIME.acquire,
        after_in_parent=_ONE_AT_A_TIME.release,
        after_in_child=_ONE_AT_A_TIME.release,
    )


class Lazy(ModuleType):
    """A module that is imported when something of it is first used, as PEP 810 will do for any."""

    def __getattr__(self, name: str) -> Any:
        """What the real module has; Python's own import lock makes this safe between threads."""
        return getattr(importlib.import_module(self.__name__), name)


if TYPE_CHECKING:
    import torch as torch
else:
    torch = Lazy("torch")


def diffusers_class(name: str) -> Any:
    """A class of diffusers by its name; the first call takes seconds."""
    with _ONE_AT_A_TIME:
        return getattr(importlib.import_module("diffusers"), name)


def gradio() -> Any:
    """Gradio, without the type stubs that it writes anew beside each of its 80 components whenever it is imported.

    They ship with it, and reading its own source for them is two fifths of its import. It leaves out what has no file.
    """
    from unittest.mock import patch  # another twentieth of a second that only a page can spare

    with patch("inspect.getfile", side_effect=FileNotFoundError):
        return importlib.import_module("gradio")
