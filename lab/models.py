"""Checkpoints: a UNet, its schedule and its card, in a diffusers folder; nothing in a folder is trusted."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator
from safetensors import SafetensorError, safe_open

from lab.borrowed import diffusers_class, torch
from lab.diffusion import BETA_SCHEDULES, Schedule
from lab.errors import BadCheckpoint, LabError, UnknownName
from lab.pictures import write_atomically
from lab.places import CHECKPOINTS, home
from lab.variants import Options, unknown

if TYPE_CHECKING:
    from diffusers import UNet2DModel

WEIGHTS = Path("unet/diffusion_pytorch_model.safetensors")
UNET_CONFIG = Path("unet/config.json")
SCHEDULER_CONFIG = Path("scheduler/scheduler_config.json")
MAX_JSON = 2**20
MAX_PARAMETERS = 200_000_000
MAX_SIDE = 256
SCHEDULERS = (  # their betas alone decide the process, so that any sampler of the lab may take over
    "DDPMScheduler",
    "DDIMScheduler",
    "PNDMScheduler",
    "DPMSolverMultistepScheduler",
    "UniPCMultistepScheduler",
    "DEISMultistepScheduler",
)
BLOCKS = re.compile(r"(Attn|Resnet|Skip)?(Down|Up|Downsample|Upsample)Block2D")
SCHEDULER_DEFAULTS = {
    "num_train_timesteps": 1000,
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "prediction_type": "epsilon",
    "variance_type": "fixed_small",
    "clip_sample": True,
}


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
        for name, content in done._json_files().items():
            write_atomically(folder / name, as_json(content))
        return done

    def _json_files(self) -> dict[Path, Any]:
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
            Path("model_index.json"): index,
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
        """A fresh network with weights from the seed."""
        torch.manual_seed(seed)
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


# Loading ---------------------------------------------------------------------------------------------------------


def load(source: str | Path) -> Checkpoint:
    """A checkpoint by its name in the lab, or from a diffusers folder.

    Only JSON and safetensors are read, after their sizes, classes, names and shapes were checked against what
    the configuration promises; anything else raises BadCheckpoint with one sentence.
    """
    folder = find(source)
    config = _unet_config(folder)
    schedule = Schedule.from_config(_scheduler_config(folder))
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
    return CHECKPOINTS, home() / "checkpoints"


def names() -> list[str]:
    """Names of all checkpoints in the lab."""
    return [name for root in roots() for name in _names(root)]


def _names(root: Path) -> list[str]:
    folders = (path.parent.parent.name for path in root.glob("*/unet/config.json"))
    return sorted(name for name in folders if not name.startswith("."))  # a dot: still being written


def read_card(folder: Path) -> Card:
    """The card of a folder; a folder without one is simply not known (name only)."""
    path = folder / "card.json"
    if not path.exists():
        return Card(name=folder.name)
    return Card.of(**_json(path))


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise BadCheckpoint(f"{path.parent.name}/{path.name} is missing; a checkpoint is a diffusers folder.")
    if path.stat().st_size > MAX_JSON:
        raise BadCheckpoint(f"{path.name} is larger than {MAX_JSON // 2**20} MiB; that is no configuration.")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise BadCheckpoint(f"{path.name} is not JSON.") from None
    if not isinstance(content, dict):
        raise BadCheckpoint(f"{path.name} is not a JSON object.")
    return content


def _scheduler_config(folder: Path) -> dict[str, Any]:
    stored = _json(folder / SCHEDULER_CONFIG)
    _one_of("_class_name", stored.get("_class_name", SCHEDULERS[0]), SCHEDULERS)
    for key in ("trained_betas", "rescale_betas_zero_snr"):
        if stored.get(key):
            raise BadCheckpoint(f"{key} of a scheduler is not supported; leave it out.")
    config = {key: stored.get(key, default) for key, default in SCHEDULER_DEFAULTS.items()}
    T, start, end = config["num_train_timesteps"], config["beta_start"], config["beta_end"]
    if not (_whole(T) and 1 <= T <= 10_000):
        raise BadCheckpoint(f"num_train_timesteps is a whole number from 1 to 10,000; got {str(T)[:40]}.")
    if not (_number(start) and _number(end) and 0 < start <= end < 1):
        raise BadCheckpoint("beta_start and beta_end are numbers with 0 < beta_start <= beta_end < 1.")
    _one_of("beta_schedule", config["beta_schedule"], BETA_SCHEDULES)
    _one_of("prediction_type", config["prediction_type"], ("epsilon",))
    _one_of(
        "variance_type",
        config["variance_type"],
        ("fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"),
    )
    return config


def _one_of(key: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise BadCheckpoint(f"{key} {str(value)[:40]!r} is not supported; allowed: {', '.join(allowed)}.")


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def _unet_config(folder: Path) -> dict[str, Any]:
    config = _json(folder / UNET_CONFIG)
    _one_of("_class_name", config.get("_class_name"), ("UNet2DModel",))
    for key in ("down_block_types", "up_block_types"):
        if not all(isinstance(block, str) and BLOCKS.fullmatch(block) for block in _short_list(config, key)):
            raise BadCheckpoint(f"{key} names a block that UNet2DModel does not have.")
    _bounded("sample_size", config.get("sample_size"), MAX_SIDE)
    for key, most in (
        ("in_channels", 16),
        ("out_channels", 16),
        ("layers_per_block", 8),
        ("norm_num_groups", 1024),
    ):
        _bounded(key, config.get(key, 1), most)
    if config.get("in_channels") != config.get("out_channels"):
        raise BadCheckpoint(
            "in_channels and out_channels differ; a network here predicts noise of its images' shape."
        )
    for width in _short_list(config, "block_out_channels"):
        _bounded("block_out_channels", width, 2048)
    for key, most in (("num_class_embeds", 100_000), ("attention_head_dim", 2048)):
        if config.get(key) is not None:
            _bounded(key, config[key], most)
    return {key: value for key, value in config.items() if not key.startswith("_")}


def _short_list(config: Mapping[str, Any], key: str) -> list:
    value = config.get(key)
    if not isinstance(value, list) or not 1 <= len(value) <= 8:
        raise BadCheckpoint(f"{key} is a list of 1 to 8 entries.")
    return value


def _bounded(key: str, value: object, most: int) -> None:
    if not (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most):
        raise BadCheckpoint(f"{key} is a whole number from 1 to {most}; got {str(value)[:40]}.")


def _unet(folder: Path, config: dict[str, Any]) -> UNet2DModel:
    network = diffusers_class("UNet2DModel")
    try:
        with torch.device("meta"):  # shapes only: nothing is allocated before it has been counted
            unet = network(**config)
    except Exception as error:  # diffusers checks little itself and raises whatever it stumbles over
        raise BadCheckpoint(f"UNet2DModel refuses this configuration: {_short(error)}.") from None
    count = sum(p.numel() for p in unet.parameters())
    if count > MAX_PARAMETERS:
        raise BadCheckpoint(f"This network has {count:,} parameters; at most {MAX_PARAMETERS:,} are loaded.")
    weights = _weights(folder / WEIGHTS, {k: tuple(v.shape) for k, v in unet.state_dict().items()})
    unet.load_state_dict(weights, assign=True)
    return unet.float().eval().requires_grad_(False)


def _short(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160].rstrip(".")


def _weights(path: Path, promised: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    if not path.is_file():
        raise BadCheckpoint(f"{path.name} is missing; weights are read from safetensors only.")
    try:
        with safe_open(path, "pt") as file:
            found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118  (it is no dict)
        _check_tensors(found, promised)
        weights = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        if isinstance(error, BadCheckpoint):
            raise
        raise BadCheckpoint(f"{path.name} is not a complete safetensors file ({_short(error)}).") from None
    for name, tensor in weights.items():
        if not tensor.is_floating_point() or not torch.isfinite(tensor).all():
            raise BadCheckpoint(f"Tensor {name[:80]!r} holds values that are not finite numbers.")
    return weights


def _check_tensors(found: dict[str, tuple[int, ...]], promised: dict[str, tuple[int, ...]]) -> None:
    missing, extra = sorted(promised.keys() - found), sorted(found.keys() - promised.keys())
    if missing:
        raise BadCheckpoint(f"{len(missing)} tensors are missing, the first is {missing[0][:80]!r}.")
    if extra:
        raise BadCheckpoint(
            f"{len(extra)} tensors do not belong to this network, the first is {extra[0][:80]!r}."
        )
    for name, shape in promised.items():
        if found[name] != shape:
            raise BadCheckpoint(
                f"Tensor {name[:80]!r} has shape {found[name]}, the configuration says {shape}."
            )
