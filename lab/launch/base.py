"""What starts a run somewhere: three calls."""

from __future__ import annotations

from typing import Any

from lab.store import Stored
from lab.variants import Variant


class Launcher(Variant):
    """Starts the line `python -m lab work RUN_DIR` in some place; the run's folder is all that both sides share."""

    def start(self, run: Stored) -> dict[str, Any]:
        """Start the run and say, as plain JSON, how it is found again."""
        raise NotImplementedError

    def is_alive(self, run: Stored, handle: dict[str, Any]) -> bool:
        """Whether what was started is still there, waiting or working."""
        raise NotImplementedError

    def stop(self, run: Stored, handle: dict[str, Any]) -> None:
        """End it at once; it was asked before and had time to save."""
        raise NotImplementedError
