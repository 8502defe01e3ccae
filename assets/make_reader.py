"""Train the digit reader on the 4,500 training digits: `python assets/make_reader.py` (about two minutes on a CPU).

Writes digit_reader.safetensors and digit_reader.json, which says how and how well it reads the 500 held-out digits.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from safetensors.torch import save
from torch import Tensor
from torch.nn import ModuleDict
from torch.nn.functional import affine_grid, cross_entropy, grid_sample

from lab.data import Digits
from lab.metrics.reader import WEIGHTS, fresh, scores_by
from lab.models import as_json, sha256
from lab.pictures import write_atomically

SEED, EPOCHS, BATCH, LR = 0, 24, 64, 3e-3


def jitter(x: Tensor, generator: torch.Generator) -> Tensor:
    """Digits turned by up to 12 degrees, scaled by up to 10 % and moved by up to 2 pixels."""
    n = len(x)
    angle, grow, across, down = (torch.rand(4, n, generator=generator) * 2 - 1) * torch.tensor(
        [[0.21], [0.1], [0.125], [0.125]]
    )
    cos, sin = (1 + grow) * angle.cos(), (1 + grow) * angle.sin()
    theta = torch.stack([torch.stack([cos, -sin, across], 1), torch.stack([sin, cos, down], 1)], 1)
    return grid_sample(x + 1, affine_grid(theta, list(x.shape), align_corners=False), align_corners=False) - 1


def train() -> ModuleDict:
    """A reader trained from SEED with AdamW on a one-cycle schedule."""
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    images, reader = Digits().load("train"), fresh()
    optimizer = torch.optim.AdamW(reader.parameters(), LR, weight_decay=1e-2)
    steps = EPOCHS * (len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=steps)
    for _ in range(EPOCHS):
        order = torch.randperm(len(images), generator=generator)
        for index in order[: len(order) // BATCH * BATCH].view(-1, BATCH):
            x = jitter(images.values(index), generator)
            loss = cross_entropy(scores_by(reader, x), images.labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return reader.eval()


def accuracy(reader: ModuleDict, split: str) -> tuple[float, float, int]:
    """Share read rightly, share read with confidence above 0.9, and n, for a split."""
    images = Digits().load(split)
    with torch.no_grad():
        shares = scores_by(reader, images.values()).softmax(1)
    right = (shares.argmax(1) == images.labels).double().mean()
    sure = (shares.max(1).values > 0.9).double().mean()
    return float(right), float(sure), len(images)


def main() -> None:
    """Train, measure, write."""
    began = time.monotonic()
    reader = train()
    write_atomically(WEIGHTS, save({k: v.contiguous() for k, v in reader.state_dict().items()}))
    report = {
        "command": "python assets/make_reader.py",
        "seed": SEED,
        "epochs": EPOCHS,
        "sha256": sha256(WEIGHTS),
    }
    for split in ("train", "held_out"):
        right, sure, n = accuracy(reader, split)
        report[split] = {"accuracy": right, "confident": sure, "n": n}
    report["seconds"] = round(time.monotonic() - began, 1)
    write_atomically(WEIGHTS.with_suffix(".json"), as_json(report))
    print(report)


if __name__ == "__main__":
    main()
