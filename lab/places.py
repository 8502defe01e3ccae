"""Where things lie: what ships with the lab, and what a person of this lab keeps."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ASSETS = ROOT / "assets"
CHECKPOINTS = ROOT / "checkpoints"


def home() -> Path:
    """Folder of this lab's own files: $LAB_HOME, else ~/.trojan-noise."""
    return Path(os.environ.get("LAB_HOME") or Path.home() / ".trojan-noise")


def beside(folder: Path) -> Path:
    """Where a folder's index, locks and marks lie: in it, or in a folder of its own below $LAB_INDEX.

    They need a disk of this machine, and a home may lie on a network volume that has no locks. All of them may be lost.
    """
    if not (index := os.environ.get("LAB_INDEX")):
        return folder
    place = Path(index) / hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    place.mkdir(parents=True, exist_ok=True)
    return place
