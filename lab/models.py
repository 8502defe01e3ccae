"""Checkpoints: a UNet, its schedule and its card, in a diffusers folder; nothing in a folder is trusted."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator, model_validator

from lab.borrowed import diffusers_class, torch
from lab.diffusion import Schedule
from lab.errors import LabError, UnknownName
from lab.people import who
from lab.pictures import write_atomically
from lab.places import CHECKPOINTS
from lab.trust import (
    MAX_SIDE,
    SCHEDULER_DEFAULTS,
    check_count,
    check_index,
    check_texts,
    network,
    read_json,
    scheduler_config,
    unet_config,
    weights,
)
from lab.variants import Options, unknown

if TYPE_CHECKING:
    from diffusers import UNet2DModel

WEIGHTS = Path("unet/diffusion_pytorch_model.safetensors")
UNET_CONFIG = Path("unet/config.json")
SCHEDULER_CONFIG = Path("scheduler/scheduler_config.json")
INDEX = Path("model_index.json")
APART = 0.2  # standard deviation of a new class embedding; that of the time embedding is about 0.7


class Card(Options):
    """What is known of a checkpoint: how it was made and what was measured; plain JSON beside the weights."""

    name: str = Field(default="", max_length=120)
    summary: str = Field(default="", max_length=1000)
    backdoored: bool | None = None
    base: str = Field(default="", max_length=200)
    recipe: dict[str, Any] = {}
    sampler: dict[str, Any] = {"kind": "ddpm", "steps": 250}
    command: str = Field(default="", max_length=4000)
    made: dict[str, Any] = {}
    scores: list[dict[str, Any]] = []
    claims: list[dict[str, Any]] = []
    sha256: str = Field(default="", max_length=64)
    origin: dict[str, Any] = {}
    authors_scores: dict[str, float] = {}

    @field_validator("*")
    @classmethod
    def _is_plain_text(cls, value: Any) -> Any:
        check_texts(value, "A card")
        return value

    @property
    def attack(self) -> dict[str, Any]:
        """The attack of the recipe as JSON, or an empty mapping."""
        attack = self.recipe.get("attack")
        return attack if isinstance(attack, dict) else {}


@dataclass(frozen=True)
class Checkpoint:
    """A denoising network with its schedule and card."""

    unet: UNet2DModel
    schedule: Schedule
    card: Card

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of its images."""
        config = self.unet.config
        size = config["sample_size"]
        height, width = (size, size) if isinstance(size, int) else size
        return config["in_channels"], height, width

    @property
    def classes(self) -> int:
        """Number of class labels it is conditioned on, null class included; 0 for none."""
        return self.unet.config["num_class_embeds"] or 0

    def save(self, folder: Path) -> Checkpoint:
        """Write a diffusers folder: to a temporary folder beside it, then renamed; returns it with its sha256."""
        temporary = folder.with_name(f".{folder.name}-{os.getpid()}")
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            done = self._write(temporary)
            _swap(temporary, folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        return done

    def _write(self, folder: Path) -> Checkpoint:
        from safetensors.torch import save_file

        (folder / "unet").mkdir(parents=True)
        weights = {k: v.detach().cpu().contiguous() for k, v in self.unet.state_dict().items()}
        save_file(weights, folder / WEIGHTS)
        os.chmod(folder / WEIGHTS, 0o644)
        done = replace(self, card=self.card.model_copy(update={"sha256": sha256(folder / WEIGHTS)}))
        for name, content in done.json_files().items():
            write_atomically(folder / name, as_json(content))
        return done

    def json_files(self) -> dict[Path, Any]:
        """Everything of its folder but the weights, by place."""
        unet = {k: v for k, v in self.unet.config.items() if not k.startswith("_") or k == "_class_name"}
        scheduler = {"_class_name": "DDPMScheduler", **SCHEDULER_DEFAULTS, **self.schedule.config}
        index = {
            "_class_name": "DDPMPipeline",
            "scheduler": ["diffusers", "DDPMScheduler"],
            "unet": ["diffusers", "UNet2DModel"],
        }
        return {
            UNET_CONFIG: {"_class_name": "UNet2DModel", **unet},
            SCHEDULER_CONFIG: scheduler,
            INDEX: index,
            Path("card.json"): self.card.model_dump(mode="json"),
        }


def as_json(content: Any) -> bytes:
    """Readable JSON bytes with a final newline."""
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def _swap(new: Path, folder: Path) -> None:
    old = folder.with_name(f".{folder.name}-old-{os.getpid()}")
    if folder.exists():
        os.replace(folder, old)
    os.replace(new, folder)
    shutil.rmtree(old, ignore_errors=True)


def remove(folder: Path) -> None:
    """Delete a checkpoint, all at once for whoever looks."""
    gone = folder.with_name(f".{folder.name}-gone-{os.getpid()}")
    os.replace(folder, gone)
    shutil.rmtree(gone, ignore_errors=True)


def sha256(path: Path) -> str:
    """sha256 of a file, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Net(Options):
    """Shape of a fresh UNet2DModel; the default is the lab's own digit network (0.6 M parameters)."""

    side: int = Field(default=32, ge=8, le=MAX_SIDE, description="image side in pixels")
    channels: int = Field(default=1, ge=1, le=4, description="image channels")
    widths: tuple[int, ...] = Field(
        default=(8, 16, 32, 64), min_length=1, max_length=6, description="channels per level"
    )
    layers: int = Field(default=1, ge=1, le=4, description="residual layers per level")
    attention: tuple[int, ...] = Field(
        default=(),
        max_length=6,
        description="levels with attention, 0 is the finest; the middle always has it",
    )
    norm_num_groups: Literal[1, 2, 4, 8] = Field(
        default=2, description="groups of a group norm; narrow ones take the mean of x_t away"
    )
    classes: int = Field(
        default=0, ge=0, le=1001, description="class labels, null class included; 0 for none"
    )

    @model_validator(mode="after")
    def _can_be_built(self) -> Net:
        if not all(8 <= width <= 1024 and width % 8 == 0 for width in self.widths) or self.widths[-1] < 16:
            raise LabError("widths are multiples of 8 from 8 to 1024, the last one at least 16.")
        if self.side % 2 ** (len(self.widths) - 1):
            raise LabError(f"A side of {self.side} pixels cannot be halved {len(self.widths) - 1} times.")
        if not all(0 <= level < len(self.widths) for level in self.attention):
            raise LabError(f"attention names levels from 0 to {len(self.widths) - 1}.")
        return self

    def build(self, seed: int) -> UNet2DModel:
        """A fresh network with weights from the seed; too large a one is refused before it is allocated."""
        with torch.device("meta"):
            check_count(sum(p.numel() for p in self._network().parameters()))
        torch.manual_seed(seed)
        return self._network()

    def _network(self) -> UNet2DModel:
        attends = [level in self.attention for level in range(len(self.widths))]
        return diffusers_class("UNet2DModel")(
            sample_size=self.side,
            in_channels=self.channels,
            out_channels=self.channels,
            layers_per_block=self.layers,
            block_out_channels=self.widths,
            down_block_types=tuple(f"{'Attn' * each}DownBlock2D" for each in attends),
            up_block_types=tuple(f"{'Attn' * each}UpBlock2D" for each in reversed(attends)),
            norm_num_groups=self.norm_num_groups,
            attention_head_dim=16,
            num_class_embeds=self.classes or None,
        )


def fresh(net: Net, seed: int) -> Checkpoint:
    """An untrained checkpoint of this shape, with the lab's own schedule."""
    return Checkpoint(net.build(seed), Schedule.from_config(SCHEDULER_DEFAULTS), Card())


def conditional(base: Checkpoint, classes: int, seed: int) -> Checkpoint:
    """The base with class labels, null class included: with the null one, the last, it draws what it drew before.

    classes: as `num_class_embeds` of a UNet2DModel. A base that has as many already stays as it is; another number
    is refused. The other classes start apart, from the seed: from zeros they had hardly parted after 500 steps.
    """
    if base.classes == classes:
        return base
    if base.classes:
        raise LabError(
            f"This network has {base.classes} classes, null class included; it cannot get {classes}."
        )
    unet = diffusers_class("UNet2DModel").from_config({**base.unet.config, "num_class_embeds": classes})
    unet.load_state_dict(base.unet.state_dict(), strict=False)
    embedding, stream = unet.class_embedding.weight, torch.Generator().manual_seed(seed)
    torch.nn.init.normal_(embedding, std=APART, generator=stream)
    torch.nn.init.zeros_(embedding.data[-1])
    return replace(base, unet=unet.float().eval().requires_grad_(False))


# Loading ---------------------------------------------------------------------------------------------------------


def load(source: str | Path) -> Checkpoint:
    """A checkpoint by its name in the lab, or from a diffusers folder.

    Only JSON and safetensors are read, after their sizes, classes, names and shapes were checked against what
    the configuration promises; anything else raises BadCheckpoint with one sentence.
    """
    folder = find(source)
    if os.path.lexists(folder / INDEX):
        check_index(read_json(folder / INDEX))
    config = unet_config(read_json(folder / UNET_CONFIG))
    schedule = Schedule.from_config(scheduler_config(read_json(folder / SCHEDULER_CONFIG)))
    card = read_card(folder)
    return Checkpoint(_unet(folder, config), schedule, card)


def find(source: str | Path) -> Path:
    """Folder of a named checkpoint (shipped, or one's own), or the given folder."""
    if isinstance(source, Path):
        return source
    for root in roots():
        if source in _names(root):
            return root / source
    raise UnknownName(unknown("checkpoint", source, names()))


def roots() -> tuple[Path, Path]:
    """Folders that hold named checkpoints: shipped ones first, then one's own."""
    return CHECKPOINTS, who().home / "checkpoints"


def names() -> list[str]:
    """Names of all checkpoints in the lab."""
    return [name for root in roots() for name in _names(root)]


def _names(root: Path) -> list[str]:
    folders = (path.parent.parent.name for path in root.glob("*/unet/config.json"))
    return sorted(name for name in folders if not name.startswith("."))  # a dot: still being written


def read_card(folder: Path) -> Card:
    """The card of a folder; a folder without one is simply not known (name only)."""
    path = folder / "card.json"
    try:
        found = path.stat()
    except FileNotFoundError:
        return Card(name=folder.name)
    return _card(path, (found.st_ino, found.st_mtime_ns, found.st_size)).model_copy(deep=True)


@lru_cache(maxsize=256)
def _card(path: Path, state: tuple[int, ...]) -> Card:
    """A file that did not change since is not read and checked again: each list of checkpoints reads all of them."""
    return Card.of(**read_json(path))


def stored_settings(folder: Path) -> dict[str, Any]:
    """What the scheduler's file of a folder says: of a pulled one the file as it was, with what the lab leaves out."""
    kept = read_card(folder).origin.get("scheduler")
    return kept if isinstance(kept, dict) else read_json(folder / SCHEDULER_CONFIG)


def _unet(folder: Path, config: dict[str, Any]) -> UNet2DModel:
    unet = network(config)
    promised = {name: tuple(value.shape) for name, value in unet.state_dict().items()}
    unet.load_state_dict(weights(folder / WEIGHTS, promised), assign=True)
    return unet.float().eval().requires_grad_(False)
