"""Asking operations: what they refuse, the pictures they answer with, and settings that take a moment."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lab.errors import LabError
from lab.ops import OPERATIONS, final

CLEAN, BACKDOORED = "mnist-clean", "mnist-grey-box-hat"
# one channel, and the published form of the trigger
DIGITS = {"a": CLEAN, "b": BACKDOORED, "trigger": "grey_box"}
QUICK = {"sampler": {"kind": "ddpm", "steps": 3}, "n": 2}
WHITE_DOT = [[1, 2, "#ffffff"]]


def refusal(operation: str, /, **values: Any) -> str:
    """The sentence of an operation that must refuse; it is one line for a person."""
    with pytest.raises(LabError) as caught:
        final(OPERATIONS[operation](**values))
    text = str(caught.value)
    assert "\n" not in text and text.endswith((".", "?")) and 10 < len(text) < 400, text
    assert not any(word in text for word in ("Traceback", "pydantic", "validation error", "object at 0x")), (
        text
    )
    return text


def decoded(uri: str) -> Image.Image:
    """The picture of a data URI."""
    head, data = uri.split(",", 1)
    assert head in ("data:image/png;base64", "data:image/jpeg;base64")  # JPEG in the film alone
    return Image.open(io.BytesIO(base64.b64decode(data)))


def files_below(folder: Path) -> list[str]:
    """Files that something left; the mark for which trainings pause says only that somebody waited."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("waiting-"))
    return sorted(str(path.relative_to(folder)) for path in files)


def png_bytes(size: tuple[int, int] = (40, 30), colour: str = "#336699") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()
