"""Pictures of one's own: painted, read from a file, or uploaded, and kept under a name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from lab import pictures
from lab.pictures import uri
from lab.variants import Options


class PaintOptions(Options):
    """Painted pixels and the name to keep them under."""

    pixels: list[Any] = Field(max_length=65536, description="[[x, y, '#rrggbb'], …]")
    size: int = Field(default=32, ge=1, le=256, description="side of the canvas in pixels")
    name: str = Field(
        default="", max_length=40, description="name to keep it under; made from the pixels if empty"
    )


def paint(options: PaintOptions) -> dict[str, Any]:
    """Keep painted pixels as a picture of your own."""
    return {"name": pictures.keep(pictures.painting(options.pixels, options.size), options.name)}


class KeepOptions(Options):
    """A picture file and the name to keep it under."""

    file: str = Field(max_length=4096, description="PNG, JPEG, WebP, BMP or GIF file")
    name: str = Field(
        default="", max_length=40, description="name to keep it under; made from the pixels if empty"
    )


def keep(options: KeepOptions) -> dict[str, Any]:
    """Keep a picture file as a picture of your own, for triggers and targets of kind 'own'."""
    return {"name": pictures.keep(pictures.read_picture(Path(options.file).expanduser()), options.name)}


def upload(data: bytes, name: str = "") -> str:
    """Keep an uploaded picture under a name and return the name."""
    return pictures.keep(pictures.read_picture(data), name)


def picture(name: str) -> str | None:
    """A picture of your own as a data URI."""
    return uri(pictures.png(pictures.kept(name)))


def upload_set(files: list[str], name: str) -> str:
    """Keep uploaded pictures, or those in uploaded zip files, as a data set under a name and return the name."""
    return pictures.keep_set([Path(file) for file in files], name)
