"""Where things lie: what ships with the lab, and what a person of this lab keeps."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ASSETS = ROOT / "assets"
CHECKPOINTS = ROOT / "checkpoints"


def home() -> Path:
    """Folder of this lab's own files: $LAB_HOME, else ~/.trojan-noise."""
    return Path(os.environ.get("LAB_HOME") or Path.home() / ".trojan-noise")
