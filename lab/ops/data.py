"""Look at a data set before anything is trained on it."""

from __future__ import annotations

import shlex
from typing import Any

from pydantic import Field

from lab import pictures
from lab.borrowed import torch
from lab.data import DATASETS, Digits, Folder
from lab.images import Images
from lab.ops.exploring import compact
from lab.pictures import columns, uri
from lab.variants import Options, Registry

SHOWN = 64
# What a page may open: a path of the server is for its command line only.
OPEN_DATASETS: Registry = Registry(
    "dataset", *(dataset for dataset in DATASETS.values() if dataset is not Folder)
)


class PeekOptions(Options):
    """A data set."""

    dataset: OPEN_DATASETS.Field = Field(default=Digits(), description=f"dataset: {', '.join(OPEN_DATASETS)}")


def peek(options: PeekOptions) -> dict[str, Any]:
    """Look at a data set: some training images, how many there are, and how to train on it."""
    train, held_out = options.dataset.load("train"), options.dataset.load("held_out")
    words = ["python", "-m", "lab", "train", "--dataset", compact(options.dataset)]
    return {
        "dataset": options.dataset.as_json(),
        "train": len(train),
        "held_out": len(held_out),
        "shape": train.shape,
        "labelled": train.labels is not None,
        "sha256": train.digest(),
        "picture": uri(pictures.png(_sheet(train))),
        "command": shlex.join(words),
    }


def _sheet(images: Images) -> Any:
    # evenly spaced, since a data set may be sorted by its labels
    chosen = images.values(torch.linspace(0, len(images) - 1, min(SHOWN, len(images))).long())
    return pictures.tile(chosen, 2 * columns(len(chosen)))
