"""Train a reader: `python assets/make_reader.py digits|stamped|faces` (minutes on a CPU).

digits: the ten digits, from the 4,500 training ones. stamped: the same with the stamps of data poisoning on half of
them, under their true labels; it is also measured with each stamp on everything that was held out. faces: which of the 142 emoji faces it is, however it was moved.
Writes its weights and a JSON file that says how, and how well it reads what was held out.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from safetensors.torch import save
from torch import Tensor
from torch.nn import ModuleDict
from torch.nn.functional import affine_grid, cross_entropy, grid_sample

from lab.data import Digits, EmojiFaces
from lab.images import Images
from lab.metrics.reader import DIGITS, FACES, STAMPED, Reader, scores_by
from lab.models import as_json, sha256
from lab.pictures import write_atomically
from lab.stamps import Blend, Patch, Stamp
from lab.triggers import shape_of

SEED, BATCH, LR = 0, 64, 3e-3
FAINT, STRONG = 0.05, 0.3  # a blend's opacity


@dataclass(frozen=True)
class World:
    """What a reader learns, for how long, and the background that comes in from outside when a picture moves."""

    reader: Reader
    epochs: int
    background: float
    noise: float  # up to this much of it is added: generated pictures are never quite clean
    stamps: tuple[Stamp, ...] = ()  # one of them is on every second picture

    def images(self, split: str) -> tuple[Images, Tensor]:
        """Pictures of a split, and which class each one is."""
        if self.reader is not FACES:
            digits = Digits().load(split)
            assert digits.labels is not None
            return digits, digits.labels
        faces = EmojiFaces().load(split)
        return faces, torch.arange(len(faces)) % FACES.classes


WORLDS = {
    "digits": World(DIGITS, epochs=24, background=-1, noise=0),
    "stamped": World(STAMPED, epochs=24, background=-1, noise=0.1, stamps=(Patch(), Blend())),
    "faces": World(FACES, epochs=120, background=1, noise=0.2),
}


def jitter(x: Tensor, world: World, generator: torch.Generator) -> Tensor:
    """Pictures turned by up to 12 degrees, scaled by up to 10 % and moved by up to 2 pixels; noise where asked for."""
    n = len(x)
    angle, grow, across, down = (torch.rand(4, n, generator=generator) * 2 - 1) * torch.tensor(
        [[0.21], [0.1], [0.125], [0.125]]
    )
    cos, sin = (1 + grow) * angle.cos(), (1 + grow) * angle.sin()
    theta = torch.stack([torch.stack([cos, -sin, across], 1), torch.stack([sin, cos, down], 1)], 1)
    grid = affine_grid(theta, list(x.shape), align_corners=False)
    moved = grid_sample(x - world.background, grid, align_corners=False) + world.background
    if world.stamps:
        moved = stamped(moved, world, generator)
    if not world.noise:
        return moved
    much = torch.rand(n, 1, 1, 1, generator=generator) * world.noise
    return (moved + much * torch.randn(x.shape, generator=generator)).clamp(-1, 1)


def stamped(x: Tensor, world: World, generator: torch.Generator) -> Tensor:
    """A stamp on every second picture, by chance; a blend is faint or strong."""
    each = [x]
    for stamp in world.stamps:
        a = torch.rand(len(x), 1, 1, 1, generator=generator) * (STRONG - FAINT) + FAINT
        mixed = (1 - a) * x + a * stamp.draw(shape_of(x))
        each.append(mixed if isinstance(stamp, Blend) else stamp.stamp(x))
    which = torch.randint(1, len(each), (len(x),), generator=generator)
    which[torch.rand(len(x), generator=generator) < 0.5] = 0
    return torch.stack(each)[which, torch.arange(len(x))]


def mirrored(x: Tensor, generator: torch.Generator) -> Tensor:
    """Every second picture, by chance, as its mirror image."""
    return torch.where(torch.rand(len(x), 1, 1, 1, generator=generator) < 0.5, x.flip(-1), x)


def train(world: World) -> ModuleDict:
    """A reader trained from SEED with AdamW on a one-cycle schedule."""
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    (images, labels), reader = world.images("train"), world.reader.fresh()
    optimizer = torch.optim.AdamW(reader.parameters(), LR, weight_decay=1e-2)
    steps = world.epochs * (len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=steps)
    for _ in range(world.epochs):
        order = torch.randperm(len(images), generator=generator)
        for index in order[: len(order) // BATCH * BATCH].view(-1, BATCH):
            x = images.values(index)
            x = jitter(mirrored(x, generator) if images.flip else x, world, generator)
            loss = cross_entropy(scores_by(reader, x), labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return reader.eval()


def accuracy(
    reader: ModuleDict, world: World, split: str, stamp: Stamp | None = None
) -> tuple[float, float, int]:
    """Share read rightly, share read with confidence above 0.9, and n, for a split, with a stamp on where one is given."""
    images, labels = world.images(split)
    x = images.values()
    with torch.no_grad():
        shares = scores_by(reader, stamp.stamp(x) if stamp else x).softmax(1)
    right = (shares.argmax(1) == labels).double().mean()
    sure = (shares.max(1).values > 0.9).double().mean()
    return float(right), float(sure), len(images)


def main(name: str) -> None:
    """Train, measure, write."""
    began, world = time.monotonic(), WORLDS[name]
    reader, path = train(world), world.reader.path
    write_atomically(path, save({k: v.contiguous() for k, v in reader.state_dict().items()}))
    report = {
        "command": f"python assets/make_reader.py {name}",
        "seed": SEED,
        "epochs": world.epochs,
        "sha256": sha256(path),
    }
    asked = [("train", "train", None), ("held_out", "held_out", None)]
    asked += [(f"held_out with {stamp.kind}", "held_out", stamp) for stamp in world.stamps]
    for name_of, split, stamp in asked:
        right, sure, n = accuracy(reader, world, split, stamp)
        report[name_of] = {"accuracy": right, "confident": sure, "n": n}
    report["seconds"] = round(time.monotonic() - began, 1)
    write_atomically(path.with_suffix(".json"), as_json(report))
    print(report)


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in WORLDS:
        sys.exit(__doc__)
    main(sys.argv[1])
