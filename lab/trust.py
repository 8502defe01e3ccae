"""Whether files from anywhere are a checkpoint: JSON, names, shapes, types and sizes, before memory is taken for them."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from lab.borrowed import diffusers_class, torch
from lab.diffusion import BETA_SCHEDULES
from lab.errors import BadCheckpoint

if TYPE_CHECKING:
    from diffusers import UNet2DModel

MAX_JSON = 2**20
MAX_DEPTH = 50  # of JSON: a report of ours has 8
MAX_HEADER = 8 * 2**20  # bytes of a safetensors file's list of tensors; a large UNet's has 100 kB
MAX_PARAMETERS = 200_000_000
MAX_MEMORY = 4 * 2**30  # bytes: weights, and what one image takes on its way through
MAX_SIDE = 256
FLOAT = 4  # bytes
DTYPES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
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
VARIANCES = ("fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log")
CHOICES: dict[str, tuple[Any, ...]] = {  # entries of a UNet2DModel that may be left out, and what is taken
    "act_fn": ("silu", "swish", "mish", "gelu", "relu"),
    "time_embedding_type": ("positional",),
    "class_embed_type": (None,),
    "downsample_type": ("conv", "resnet"),
    "upsample_type": ("conv", "resnet"),
    "resnet_time_scale_shift": ("default", "scale_shift"),
    "mid_block_type": ("UNetMidBlock2D", None),
    "downsample_padding": (0, 1),
    "add_attention": (True, False),
    "center_input_sample": (True, False),
    "flip_sin_to_cos": (True, False),
}
WHOLE = {
    "num_class_embeds": 100_000,
    "attention_head_dim": 2048,
    "time_embedding_dim": 8192,
    "attn_norm_num_groups": 1024,
    "num_train_timesteps": 10_000,
}
REAL = ("dropout", "norm_eps", "freq_shift", "mid_block_scale_factor")
NEEDED = {"in_channels": 16, "out_channels": 16, "layers_per_block": 8, "norm_num_groups": 1024}
LISTS = ("down_block_types", "up_block_types", "block_out_channels")
# of diffusers before 0.17
LEGACY = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
MARKUP = re.compile(r"<[a-zA-Z/!?]")


# JSON and text ---------------------------------------------------------------------------------------------------


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file of at most 1 MiB: no link, no name twice, no number that is none."""
    if path.is_symlink() or path.parent.is_symlink():
        raise BadCheckpoint(f"{path.name} is a link; a checkpoint holds its own files.")
    if not path.is_file():
        raise BadCheckpoint(f"{path.parent.name}/{path.name} is missing; a checkpoint is a diffusers folder.")
    if path.stat().st_size > MAX_JSON:
        raise BadCheckpoint(f"{path.name} is larger than {MAX_JSON // 2**20} MiB; that is no configuration.")
    return parse_json(path.read_bytes(), path.name)


def parse_json(data: bytes, name: str) -> dict[str, Any]:
    """The JSON object in some bytes; `name` is what a refusal calls them."""
    try:
        content = json.loads(data, object_pairs_hook=_once, parse_constant=_no_number)
    except BadCheckpoint as error:
        raise BadCheckpoint(f"{name} is refused: {error}") from None
    except (ValueError, RecursionError):
        raise BadCheckpoint(f"{name} is not JSON.") from None
    if not isinstance(content, dict):
        raise BadCheckpoint(f"{name} is not a JSON object.")
    if _depth(content) > MAX_DEPTH:
        raise BadCheckpoint(f"{name} is nested more than {MAX_DEPTH} deep; that is no configuration.")
    return content


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadCheckpoint("it has an entry twice.")
    return found


def _no_number(text: str) -> None:
    raise BadCheckpoint(f"{text} is not a number of JSON.")


def _depth(content: Any) -> int:
    """How deep lists and objects lie within each other, without recursion."""
    depth, level = 0, [content]
    while level and depth <= MAX_DEPTH:
        inner = [each.values() if isinstance(each, dict) else each for each in level]
        level = [value for values in inner for value in values if isinstance(value, dict | list)]
        depth += 1
    return depth


def check_texts(content: Any, what: str) -> None:
    """A BadCheckpoint where a text anywhere in some JSON holds markup, or signs that hide or turn what is read."""
    level = [content]
    while level:
        value = level.pop()
        if isinstance(value, dict):
            level += [*value, *value.values()]
        elif isinstance(value, list | tuple):
            level += value
        elif isinstance(value, str) and (MARKUP.search(value) or plain(value) != value):
            raise BadCheckpoint(
                f"{what} holds markup or hidden signs ({ascii(value)[:60]}); it is plain text only."
            )


def plain(text: str) -> str:
    """Text without control signs, half characters, and signs that turn the direction of reading."""
    if text.isprintable():  # nearly any: there is no such sign in it
        return text
    return "".join(sign for sign in text if sign in "\n\t" or unicodedata.category(sign)[0] != "C")


# Configurations --------------------------------------------------------------------------------------------------


def scheduler_config(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The entries that the lab uses of a scheduler's file, checked; the others have no part in its sampling."""
    _one_of("_class_name", stored.get("_class_name", SCHEDULERS[0]), SCHEDULERS)
    for key in ("trained_betas", "rescale_betas_zero_snr"):
        if stored.get(key):
            raise BadCheckpoint(f"{key} of a scheduler is not supported; leave it out.")
    config = {key: stored.get(key, default) for key, default in SCHEDULER_DEFAULTS.items()}
    T, start, end = config["num_train_timesteps"], config["beta_start"], config["beta_end"]
    if not (_whole(T) and 1 <= T <= 10_000):
        raise BadCheckpoint(f"num_train_timesteps is a whole number from 1 to 10,000; got {_said(T)}.")
    if not (_number(start) and _number(end) and 0 < start <= end < 1):
        raise BadCheckpoint("beta_start and beta_end are numbers with 0 < beta_start <= beta_end < 1.")
    _one_of("beta_schedule", config["beta_schedule"], BETA_SCHEDULES)
    _one_of("prediction_type", config["prediction_type"], ("epsilon",))
    _one_of("variance_type", config["variance_type"], VARIANCES)
    if not isinstance(config["clip_sample"], bool):
        raise BadCheckpoint(f"clip_sample is true or false; got {_said(config['clip_sample'])}.")
    return config


def unet_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a UNet2DModel, checked one by one; BadCheckpoint where one is unknown or out of bounds."""
    _one_of("_class_name", config.get("_class_name"), ("UNet2DModel",))
    for key in ("down_block_types", "up_block_types"):
        if not all(isinstance(block, str) and BLOCKS.fullmatch(block) for block in _short_list(config, key)):
            raise BadCheckpoint(f"{key} names a block that UNet2DModel does not have.")
    _bounded("sample_size", config.get("sample_size"), MAX_SIDE)
    for key, most in NEEDED.items():
        _bounded(key, config.get(key, 1), most)
    if config.get("in_channels") != config.get("out_channels"):
        raise BadCheckpoint(
            "in_channels and out_channels differ; a network here predicts noise of its images' shape."
        )
    for width in _short_list(config, "block_out_channels"):
        _bounded("block_out_channels", width, 2048)
    entries = {key: value for key, value in config.items() if not key.startswith("_")}
    for key, value in entries.items():
        if key not in (*LISTS, *NEEDED, "sample_size"):
            _check_option(key, value)
    return entries


def _check_option(key: str, value: object) -> None:
    if key in CHOICES:
        if not any(value is each or (type(value) is type(each) and value == each) for each in CHOICES[key]):
            allowed = ", ".join(str(each) for each in CHOICES[key])
            raise BadCheckpoint(f"{key} {_said(value)} is not supported; allowed: {allowed}.")
    elif key in WHOLE:
        if value is not None:
            _bounded(key, value, WHOLE[key])
    elif key in REAL:
        if not (_number(value) and 0 <= value <= 1000):  # type: ignore[operator]
            raise BadCheckpoint(f"{key} is a number from 0 to 1000; got {_said(value)}.")
    else:
        raise BadCheckpoint(f"UNet2DModel has no entry {_said(key)}.")


def _one_of(key: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise BadCheckpoint(f"{key} {_said(value)} is not supported; allowed: {', '.join(allowed)}.")


def _said(value: object) -> str:
    """A value from outside within a sentence: short, and without signs that do something."""
    text = str(value) if not _whole(value) or abs(value) < 10**30 else "a giant number"  # type: ignore[arg-type]
    return ascii(text[:40])


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _short_list(config: Mapping[str, Any], key: str) -> list:
    value = config.get(key)
    if not isinstance(value, list) or not 1 <= len(value) <= 8:
        raise BadCheckpoint(f"{key} is a list of 1 to 8 entries.")
    return value


def _bounded(key: str, value: object, most: int) -> None:
    if not (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most):
        raise BadCheckpoint(f"{key} is a whole number from 1 to {most}; got {_said(value)}.")


PIPELINES = ("DDPMPipeline", "DDIMPipeline", "PNDMPipeline")  # of unconditional models


def check_index(index: Mapping[str, Any]) -> None:
    """A BadCheckpoint where model_index.json asks for anything but a UNet2DModel and a scheduler of diffusers."""
    _one_of("_class_name of model_index.json", index.get("_class_name", PIPELINES[0]), PIPELINES)
    for name, part in index.items():
        allowed = part in [["diffusers", each] for each in ("UNet2DModel", *SCHEDULERS)]
        if isinstance(part, list) and not allowed:
            raise BadCheckpoint(
                f"model_index.json asks for {_said(name)} as {_said(part)}; that is no part of a DDPM here."
            )


# Networks --------------------------------------------------------------------------------------------------------


def check_count(parameters: int) -> None:
    """Refuse a network that is larger than the lab takes."""
    if parameters > MAX_PARAMETERS:
        raise BadCheckpoint(
            f"This network has {parameters:,} parameters; at most {MAX_PARAMETERS:,} are loaded."
        )


def network(config: Mapping[str, Any]) -> UNet2DModel:
    """The network of a checked configuration, shapes only: nothing is allocated, and it is small enough to be."""
    check_memory(config)
    build = diffusers_class("UNet2DModel")
    try:
        with torch.device("meta"):
            unet = build(**config)
    except Exception as error:  # diffusers checks little itself and raises whatever it stumbles over
        raise BadCheckpoint(f"UNet2DModel refuses this configuration: {short(error)}.") from None
    check_count(sum(p.numel() for p in unet.parameters()))
    return unet


def check_memory(config: Mapping[str, Any]) -> None:
    """A BadCheckpoint where weights and one image on its way take more than 4 GiB, by a count from above."""
    wanted = FLOAT * (_least_parameters(config) + _activations(config))
    if wanted > MAX_MEMORY:
        raise BadCheckpoint(
            f"This network takes about {wanted / 2**30:,.0f} GiB for one image; at most {MAX_MEMORY // 2**30} are given."
        )


def _least_parameters(config: Mapping[str, Any]) -> int:
    """Values of the 3×3 convolutions on the way down: a network has more, and this needs no network."""
    return sum(
        18 * width**2 * config.get("layers_per_block", 2) for width in config["block_out_channels"]
    ) - sum(18 * width**2 for width in config["block_out_channels"][:1])


def _activations(config: Mapping[str, Any]) -> int:
    """Values that one image leaves on its way: what is kept for the way up, and the largest attention."""
    side, layers = config["sample_size"], config.get("layers_per_block", 2)
    kept, largest = 0, 0
    for level, width in enumerate(config["block_out_channels"]):
        pixels = max(1, side // 2**level) ** 2
        kept += (2 * layers + 4) * pixels * width
        attends = any("Attn" in block for block in _blocks_at(config, level))
        head = config.get("attention_head_dim", 8)
        if attends:
            largest = max(largest, pixels**2 * (max(1, width // head) if head else 1))
    return kept + largest


def _blocks_at(config: Mapping[str, Any], level: int) -> list[str]:
    return [
        *config["down_block_types"][level : level + 1],
        *config["up_block_types"][::-1][level : level + 1],
    ]


def short(error: BaseException) -> str:
    """The first line of an error, for a sentence."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160].rstrip(".")


# Weights ---------------------------------------------------------------------------------------------------------


def weights(path: Path, promised: Mapping[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file that holds exactly what is promised: name → shape."""
    from safetensors.torch import load_file

    _check_file(path, sum(math.prod(shape) for shape in promised.values()))
    try:
        with safe_open(path, "pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  (it is no dict)
            found = {name: (tuple(each.get_shape()), each.get_dtype()) for name, each in slices.items()}
        _check_tensors({current(name): each for name, each in found.items()}, promised)
        tensors = {current(name): tensor for name, tensor in load_file(path).items()}
    except (SafetensorError, OSError, ValueError) as error:
        if isinstance(error, BadCheckpoint):
            raise
        raise BadCheckpoint(f"{path.name} is not a complete safetensors file ({short(error)}).") from None
    check_finite(tensors)
    return tensors


def current(name: str) -> str:
    """Today's name of a tensor; diffusers called parts of its attention otherwise once."""
    return ".".join(LEGACY.get(part, part) for part in name.split("."))


def check_finite(tensors: Mapping[str, torch.Tensor]) -> None:
    """A BadCheckpoint where a value is infinite or no number."""
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise BadCheckpoint(f"Tensor {_said(name)} holds values that are not finite numbers.")


def _check_file(path: Path, values: int) -> None:
    """Kind and size of the file, and of the list of tensors at its beginning, which a reader would read whole."""
    if path.is_symlink() or path.parent.is_symlink():
        raise BadCheckpoint(f"{path.name} is a link; a checkpoint holds its own files.")
    if not path.is_file():
        raise BadCheckpoint(f"{path.name} is missing; weights are read from safetensors only.")
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
    if header > MAX_HEADER:
        raise BadCheckpoint(
            f"{path.name} begins with a list of {header:,} bytes; at most {MAX_HEADER:,} are read."
        )
    if path.stat().st_size > 8 + MAX_HEADER + max(DTYPES.values()) * values:
        raise BadCheckpoint(f"{path.name} is larger than this network can be.")


def _check_tensors(
    found: Mapping[str, tuple[tuple[int, ...], str]], promised: Mapping[str, tuple[int, ...]]
) -> None:
    missing, extra = sorted(promised.keys() - found), sorted(found.keys() - promised.keys())
    if missing:
        raise BadCheckpoint(f"{len(missing)} tensors are missing, the first is {_said(missing[0])}.")
    if extra:
        raise BadCheckpoint(
            f"{len(extra)} tensors do not belong to this network, the first is {_said(extra[0])}."
        )
    for name, shape in promised.items():
        if found[name][0] != shape:
            raise BadCheckpoint(
                f"Tensor {name[:80]!r} has shape {found[name][0]}, the configuration says {shape}."
            )
        if found[name][1] not in DTYPES:
            raise BadCheckpoint(
                f"Tensor {name[:80]!r} is of type {_said(found[name][1])}; allowed: {', '.join(DTYPES)}."
            )
