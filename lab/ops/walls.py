"""A part of the castle wall, asked of a checkpoint by its name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from lab.castle.walls import Part, Replicate
from lab.castle.world import World
from lab.ops.sampling import open_checkpoint
from lab.progress import Tick


def asked(part: Part, checkpoint: str, clean: str) -> Iterator[Tick | dict[str, Any]]:
    """Ticks and results of a part; clean: the honest model that replication is held against, if any is named."""
    yield from part.run(*_worlds(part, checkpoint, clean))


def planned(part: Part, checkpoint: str, clean: str) -> Iterator[dict[str, Any]]:
    """How long a part will take here."""
    yield {"seconds": part.seconds(*_worlds(part, checkpoint, clean))}


def _worlds(part: Part, checkpoint: str, clean: str) -> tuple[World, World | None]:
    world = World.of(open_checkpoint(checkpoint))
    compares = isinstance(part, Replicate) and clean
    return world, replace(world, checkpoint=open_checkpoint(clean)) if compares else None
