"""What every long loop yields, so that a page, a terminal or a test can follow and stop it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Tick:
    """One step of a long loop: where it is, and what there is to see."""

    step: int
    total: int
    values: Mapping[str, float] = field(default_factory=dict)
    images: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""
