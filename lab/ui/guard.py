"""Between handlers and the lab: a LabError becomes one sentence on the page, never a traceback."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from lab.errors import LabError


def guarded(handler: Callable) -> Callable:
    """Wrap a handler, generator or not, so that a LabError is shown as its sentence."""
    return _guarded_generator(handler) if inspect.isgeneratorfunction(handler) else _guarded_function(handler)


def _guarded_generator(handler: Callable) -> Callable:
    @functools.wraps(handler)
    def run(*values: Any, **more: Any) -> Iterator[Any]:
        try:
            yield from handler(*values, **more)
        except LabError as error:
            raise shown(error) from None

    return run


def _guarded_function(handler: Callable) -> Callable:
    @functools.wraps(handler)
    def run(*values: Any, **more: Any) -> Any:
        try:
            return handler(*values, **more)
        except LabError as error:
            raise shown(error) from None

    return run


def shown(error: LabError) -> gr.Error:
    """The sentence as the page shows it."""
    return gr.Error(str(error), title="That does not work", duration=12, print_exception=False)
