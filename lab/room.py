"""Room on the disk: what a run will take, what there is, and a sentence before it runs out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil

from lab.errors import LabError
from lab.models import Checkpoint
from lab.training import TrainSpec

BUDGET = float(os.environ.get("LAB_DISK_GB", "20")) * 1e9  # bytes that all runs together may take
SPARE = 0.5e9  # bytes that stay free on the disk: pictures, logs and other programs need some
FLOAT = 4  # bytes
LOG = 5_000_000  # bytes for losses, samples and log of a run


def needed(start: Checkpoint, spec: TrainSpec) -> int:
    """Bytes that a run takes at its largest: two resumable states, the old one until the new one is whole.

    A state holds weights, AdamW's two moments, and the averaged weights where there are any.
    """
    parameters = sum(parameter.numel() for parameter in start.unet.parameters())
    copies = 4 if spec.ema else 3
    return 2 * copies * parameters * FLOAT + LOG


def check(runs: Path, wanted: int) -> None:
    """A LabError where a run of so many bytes would not fit the budget or the disk; runs: folder of all runs."""
    taken = sum(_sizes(runs))
    if taken + wanted > BUDGET:
        raise LabError(
            f"This run takes up to {in_words(wanted)}, and the runs that are there take {in_words(taken)} of "
            f"{in_words(BUDGET)}; delete some, or raise LAB_DISK_GB."
        )
    free = psutil.disk_usage(str(_existing(runs))).free
    if wanted + SPARE > free:
        raise LabError(
            f"This run takes up to {in_words(wanted)}, and the disk has {in_words(free)} left, of which "
            f"{in_words(SPARE)} stay free; make room first."
        )


def in_words(size: float) -> str:
    """Bytes in words."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _sizes(folder: Path) -> Iterator[int]:
    """Bytes of every file below a folder; what is deleted meanwhile counts nothing."""
    for root, _, files in os.walk(folder):
        for name in files:
            try:
                yield os.lstat(os.path.join(root, name)).st_size
            except OSError:
                continue


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return folder if folder.exists() else _existing(folder.parent)
