"""Hostile inputs, made anew by this script: `python tests/hostile.py FOLDER` writes them, test_hostile.py feeds them to the lab.

An entry has a name, a function that builds it in a folder of its own and returns what is fed, and the entry point that
would meet it. All bytes are the same in each run.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import shutil
import struct
import sys
import warnings
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HUGE = 10**9
MARK = "executed"  # the file that a payload would make, in the entry's folder
UNET, SCHEDULER = Path("unet/config.json"), Path("scheduler/scheduler_config.json")
WEIGHTS = Path("unet/diffusion_pytorch_model.safetensors")
RTL = "\u202egnp.exe"


@dataclass(frozen=True)
class Entry:
    """A hostile input: what it is called, how it is built from a folder, and who meets it."""

    name: str
    build: Callable[[Path], Any]
    meets: str


def make(folder: Path, good: Path) -> list[tuple[Entry, Any]]:
    """Build the corpus in a folder; good: a sound checkpoint, which many entries spoil."""
    made = []
    for number, entry in enumerate(CORPUS):
        place = folder / f"{number:03d}"
        place.mkdir(parents=True)
        if entry.meets in ("load", "card", "pull", "import"):
            shutil.copytree(good, place / "net")
        made.append((entry, entry.build(place)))
    return made


# Checkpoints -----------------------------------------------------------------------------------------------------


def config(path: Path = UNET, **changes: Any) -> Callable[[Path], Path]:
    """Other entries in a configuration."""

    def build(place: Path) -> Path:
        file = place / "net" / path
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
        return place / "net"

    return build


def scheduler(**changes: Any) -> Callable[[Path], Path]:
    return config(SCHEDULER, **changes)


def card(**changes: Any) -> Callable[[Path], Path]:
    return config(Path("card.json"), **changes)


def written(path: Path, data: bytes) -> Callable[[Path], Path]:
    def build(place: Path) -> Path:
        (place / "net" / path).write_bytes(data)
        return place / "net"

    return build


def linked(path: str, to: str) -> Callable[[Path], Path]:
    def build(place: Path) -> Path:
        old = place / "net" / path
        if old.is_dir():
            old.rename(place / "elsewhere")
            old.symlink_to(place / "elsewhere")
        else:
            old.unlink()
            old.symlink_to(to)
        return place / "net"

    return build


def header(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], Path]:
    """Another list of tensors at the beginning of the weights."""

    def build(place: Path) -> Path:
        file = place / "net" / WEIGHTS
        data = file.read_bytes()
        length = int.from_bytes(data[:8], "little")
        listed = json.loads(data[8 : 8 + length])
        change(listed)
        text = json.dumps(listed).encode()
        file.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
        return place / "net"

    return build


def tensors(listed: dict[str, Any]) -> list[dict[str, Any]]:
    return [listed[name] for name in sorted(listed) if name != "__metadata__"]


def overlap(listed: dict[str, Any]) -> None:
    first, second = tensors(listed)[:2]
    second["data_offsets"] = first["data_offsets"]


def beyond(listed: dict[str, Any]) -> None:
    tensors(listed)[0]["data_offsets"] = [0, 2**60]


def filled(value: float) -> Callable[[Path], Path]:
    """One value of the weights is this one."""

    def build(place: Path) -> Path:
        file = place / "net" / WEIGHTS
        data = file.read_bytes()
        file.write_bytes(data[:-4] + struct.pack("<f", value))
        return place / "net"

    return build


def truncated(place: Path) -> Path:
    file = place / "net" / WEIGHTS
    file.write_bytes(file.read_bytes()[:-100])
    return place / "net"


def pipe(place: Path) -> Path:
    (place / "net" / UNET).unlink()
    os.mkfifo(place / "net" / UNET)  # whoever opens it waits for ever
    return place / "net"


def giant_weights(place: Path) -> Path:
    """A sparse file of 50 GB behind an honest beginning."""
    with (place / "net" / WEIGHTS).open("r+b") as file:
        file.truncate(50 * 10**9)
    return place / "net"


def long_list(place: Path) -> Path:
    """A list of 60 MB that says nothing, in a sparse file."""
    with (place / "net" / WEIGHTS).open("wb") as file:
        file.write((60 * 10**6).to_bytes(8, "little") + b"{")
        file.truncate(70 * 10**6)
    return place / "net"


class Trap:
    """A pickle that makes a file when it is read."""

    def __init__(self, place: Path) -> None:
        self.command = f"touch '{place / MARK}'"

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


def pickle_bomb(place: Path) -> Path:
    (place / "net" / WEIGHTS).write_bytes(pickle.dumps(Trap(place)))
    return place / "net"


def pickle_only(place: Path) -> Path:
    (place / "net" / WEIGHTS).unlink()
    (place / "net" / WEIGHTS).with_suffix(".bin").write_bytes(pickle.dumps(Trap(place)))
    return place / "net"


DEEP = b'{"a": ' * 5_000 + b"1" + b"}" * 5_000
TWICE = b'{"_class_name": "UNet2DModel", "_class_name": "os.system"}'
LOADED = {
    "config with 10^9 channels": config(block_out_channels=[HUGE, HUGE]),
    "config with a number of 400 digits": config(in_channels=10**400),
    "config with a number of 5,000 digits": written(UNET, b'{"in_channels": ' + b"9" * 5_000 + b"}"),
    "config with negative sizes": config(block_out_channels=[-8, -16], sample_size=-32),
    "config with 10^9 layers": config(layers_per_block=HUGE),
    "config as wide and deep as is allowed": config(
        block_out_channels=[2048] * 8,
        down_block_types=["AttnDownBlock2D"] * 8,
        up_block_types=["AttnUpBlock2D"] * 8,
        layers_per_block=8,
        sample_size=256,
    ),
    "config with attention over all pixels": config(
        sample_size=256, down_block_types=["AttnDownBlock2D", "DownBlock2D"]
    ),
    "config with a border of 10^6 pixels": config(downsample_padding=10**6),
    "config with a time of 10^9 values": config(time_embedding_dim=HUGE),
    "config naming os.system as a block": config(down_block_types=["os.system", "DownBlock2D"]),
    "config with code of its own": config(_class_name=["pipeline", "Evil"]),
    "config with an unknown entry": config(auto_map={"AutoModel": "evil.Model"}),
    "config nested 5,000 deep": written(UNET, DEEP),
    "config with an entry twice": written(UNET, TWICE),
    "config of 2 MiB": written(UNET, b'{"a": "' + b"x" * 2**21 + b'"}'),
    "config that is not UTF-8": written(UNET, b'{"a": "\xff\xfe\xfa"}'),
    "config with Infinity": written(UNET, b'{"sample_size": Infinity}'),
    "config that is a link": linked(str(UNET), "/etc/passwd"),
    "config that is a device": linked(str(UNET), "/dev/zero"),
    "config that is a pipe": pipe,
    "folder that is a link": linked("unet", ""),
    "schedule with 10^9 steps": scheduler(num_train_timesteps=HUGE),
    "schedule with a text for clip_sample": scheduler(clip_sample="no"),
    "schedule naming os.system": scheduler(_class_name="os.system"),
    "model_index naming os.system": config(Path("model_index.json"), unet=["os", "system"]),
    "model_index with a pipeline of its own": config(Path("model_index.json"), _class_name=["evil", "Pipe"]),
    "weights that are a pickle bomb": pickle_bomb,
    "weights that are only a pickle bomb": pickle_only,
    "weights with a list of 10 GB": written(WEIGHTS, (10 * 10**9).to_bytes(8, "little") + b"{}"),
    "weights with a list of 60 MB": long_list,
    "weights of 50 GB": giant_weights,
    "weights with overlapping offsets": header(overlap),
    "weights with offsets beyond the file": header(beyond),
    "weights of whole numbers": header(lambda listed: [each.update(dtype="I32") for each in tensors(listed)]),
    "weights of an unknown type": header(lambda listed: [each.update(dtype="F128") for each in tensors(listed)]),
    "weights of a shape that overflows": header(lambda listed: tensors(listed)[0].update(shape=[2**62, 2**62])),
    "weights with a tensor less": header(lambda listed: listed.pop(min(listed))),
    "weights with a turned name": header(lambda listed: listed.update({RTL: listed.pop(min(listed))})),
    "weights with NaN": filled(float("nan")),
    "weights with infinity": filled(float("inf")),
    "weights cut off": truncated,
    "weights that are empty": written(WEIGHTS, b""),
    "weights that are a link": linked(str(WEIGHTS), "/dev/zero"),
}  # fmt: skip
CARDS = {
    "card with script tags": card(summary="<script>alert(1)</script>"),
    "card with an image that runs": card(name="<img src=x onerror=alert(1)>"),
    "card with markup deep within": card(recipe={"attack": {"kind": ["<svg/onload=alert(1)>"]}}),
    "card with text from right to left": card(name=RTL),
    "card with NUL": card(summary="clean\0backdoored"),
    "card with half a character": written(Path("card.json"), b'{"name": "\\ud800"}'),
    "card with an entry twice": written(Path("card.json"), b'{"backdoored": true, "backdoored": false}'),
    "card with NaN": written(Path("card.json"), b'{"authors_scores": {"FID": NaN}}'),
    "card with an unknown entry": card(run="os.system"),
    "card nested 5,000 deep": written(Path("card.json"), b'{"recipe": ' + DEEP + b"}"),
    "card of 2 MiB": card(summary="x" * 2**21),
}


# Pictures and sets -----------------------------------------------------------------------------------------------


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *more: bytes, data: bytes = zlib.compress(b"\0" * 100)) -> bytes:
    """A PNG that says to be of this size."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


SVG = b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>'
HTML = b"<!doctype html><script>alert(1)</script>"
PICTURES = {
    "SVG named .png": SVG,
    "HTML named .png": HTML,
    "PNG of 60,000 pixels a side": png(60_000, 60_000),
    "PNG of 2^31 pixels a side": png(2**31 - 1, 2**31 - 1),
    "PNG without size": png(0, 0),
    "PNG cut off": png(4000, 4000)[:60],
    "PNG with a text that unpacks to 100 MB": png(
        8, 8, chunk(b"zTXt", b"a\0\0" + zlib.compress(b"x" * 10**8, 9))
    ),
    "PostScript named .png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run\n",
    "GIF of 65,535 pixels a side": b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\2\2D\1\0;",
    "picture of 5 MiB of nothing": b"\0" * (5 * 2**20),
    "picture that is empty": b"",
}


def zipped(*files: tuple[str | zipfile.ZipInfo, bytes]) -> Callable[[Path], Path]:
    """A zip file with these files."""

    def build(place: Path) -> Path:
        with zipfile.ZipFile(place / "set.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files:
                info = name if isinstance(name, zipfile.ZipInfo) else zipfile.ZipInfo(name)
                archive.writestr(info, data, zipfile.ZIP_DEFLATED)
        return place / "set.zip"

    return build


def special(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


def bomb(place: Path) -> Path:
    """A gigabyte of zeros in a megabyte."""
    with (
        zipfile.ZipFile(place / "set.zip", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("bomb.png", "w", force_zip64=True) as file,
    ):
        for _ in range(1000):
            file.write(b"\0" * 10**6)
    return place / "set.zip"


def lying(place: Path) -> Path:
    """A zip file whose picture is larger than its list of files says."""
    path = zipped(("a.png", b"\0" * 10**6), ("b.png", b"\0" * 10**6))(place)
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02")
    data[at + 24 : at + 28] = struct.pack("<I", 100)
    path.write_bytes(bytes(data))
    return path


def cut_zip(place: Path) -> Path:
    path = zipped(("a.png", SVG))(place)
    path.write_bytes(path.read_bytes()[:-10])
    return path


SETS = {
    "zip with ../ in a name": zipped(("../../escaped.png", png(8, 8)), ("b.png", png(8, 8))),
    "zip with an absolute name": zipped(("/tmp/escaped.png", png(8, 8)), ("b.png", png(8, 8))),
    "zip with a name of Windows": zipped(("..\\escaped.png", png(8, 8)), ("b.png", png(8, 8))),
    "zip with a link": zipped((special("a.png", 0o120777), b"/etc/passwd"), ("b.png", png(8, 8))),
    "zip with a device": zipped((special("a.png", 0o020666), b""), ("b.png", png(8, 8))),
    "zip bomb": bomb,
    "zip that lies about a size": lying,
    "zip within a zip": zipped(("inner.zip", b"PK\5\6" + b"\0" * 18), ("b.png", png(8, 8))),
    "zip with a program": zipped(("setup.py", b"import os"), ("b.png", png(8, 8))),
    "zip with SVG and HTML named .png": zipped(("a.png", SVG), ("b.png", HTML)),
    "zip with 10,000 files": zipped(*((f"{k}.png", b"") for k in range(10_000))),
    "zip that is cut off": cut_zip,
}


# Exported checkpoints --------------------------------------------------------------------------------------------

Files = dict[str, bytes]


def parcel(
    change: Callable[[Files, Path], Any], after: Callable[[Files], Any] = dict
) -> Callable[[Path], Path]:
    """An exported checkpoint whose files were changed before their checksums were taken, or after that."""

    def build(place: Path) -> Path:
        paths = (UNET, SCHEDULER, WEIGHTS, Path("model_index.json"), Path("card.json"))
        files = {path.as_posix(): (place / "net" / path).read_bytes() for path in paths}
        change(files, place)
        sums = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        files["manifest.json"] = json.dumps({"version": 1, "files": sums}).encode()
        after(files)
        return stored(place, list(files.items()))

    return build


def stored(
    place: Path, files: list[tuple[str | zipfile.ZipInfo, bytes]], method: int = zipfile.ZIP_STORED
) -> Path:
    with warnings.catch_warnings(), zipfile.ZipFile(place / "model.zip", "w") as archive:
        warnings.simplefilter("ignore")  # of a name that stands there twice
        for name, data in files:
            info = name if isinstance(name, zipfile.ZipInfo) else zipfile.ZipInfo(name)
            archive.writestr(info, data, method)
    return place / "model.zip"


def more(*added: tuple[str | zipfile.ZipInfo, bytes]) -> Callable[[Path], Path]:
    """A sound export with more files."""

    def build(place: Path) -> Path:
        with zipfile.ZipFile(parcel(unchanged)(place)) as archive:
            files = [(name, archive.read(name)) for name in archive.namelist()]
        return stored(place, [*files, *added])

    return build


def unchanged(files: Files, place: Path) -> None:
    """As it was exported."""


def with_card(**changes: Any) -> Callable[[Path], Path]:
    """Other entries in the card of an export, whose checksums are right."""

    def change(files: Files, _: Path) -> None:
        files["card.json"] = json.dumps({**json.loads(files["card.json"]), **changes}).encode()

    return parcel(change)


def with_weights(data: Callable[[bytes, Path], bytes]) -> Callable[[Path], Path]:
    def change(files: Files, place: Path) -> None:
        files[str(WEIGHTS)] = data(files[str(WEIGHTS)], place)

    return parcel(change)


def with_manifest(content: bytes | Callable[[dict[str, Any]], Any]) -> Callable[[Path], Path]:
    """Another manifest: these bytes, or the right one changed."""

    def after(files: Files) -> None:
        if callable(content):
            told = json.loads(files["manifest.json"])
            content(told)
            files["manifest.json"] = json.dumps(told).encode()
        else:
            files["manifest.json"] = content

    return parcel(unchanged, after)


def own(picture: bytes | None, name: Any = "mine") -> Callable[[Path], Path]:
    """A trigger that is a picture of one's own, with this picture, or none."""

    def change(files: Files, _: Path) -> None:
        attack = {"kind": "baddiffusion", "trigger": {"kind": "own", "name": name}, "target": {"kind": "hat"}}
        files["card.json"] = json.dumps({"name": "own", "recipe": {"attack": attack}}).encode()
        if picture is not None:
            files["pictures/own-mine.png"] = picture

    return parcel(change)


def giant_export(place: Path) -> Path:
    """Weights of a gigabyte of zeros, packed into a megabyte."""
    path = parcel(unchanged, lambda files: files.pop(str(WEIGHTS)))(place)
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive,
        archive.open(str(WEIGHTS), "w", force_zip64=True) as file,
    ):
        for _ in range(1000):
            file.write(b"\0" * 10**6)
    return path


def marked(at: int, value: bytes) -> Callable[[Path], Path]:
    """An export with other bytes in the first line of its list of files."""

    def build(place: Path) -> Path:
        path = parcel(unchanged)(place)
        data = bytearray(path.read_bytes())
        first = int.from_bytes(data[-6:-2], "little")  # where the list begins
        assert data[first : first + 4] == b"PK\x01\x02"
        data[first + at : first + at + len(value)] = value
        path.write_bytes(bytes(data))
        return path

    return build


def no_zip(place: Path) -> Path:
    (place / "model.zip").write_bytes(pickle.dumps(Trap(place)))
    return place / "model.zip"


def renamed(told: dict[str, Any]) -> None:
    told["files"]["../../escaped"] = told["files"].pop("card.json")


NO_SCORE = {"checkpoint": "a", "condition": "triggered"}
EXPORTS = {
    "export with a zip bomb for weights": giant_export,
    "export with ../ in a name": more(("../../escaped.json", b"{}")),
    "export with an absolute name": more(("/tmp/escaped.json", b"{}")),
    "export with a link": more((special("README.md", 0o120777), b"/etc/passwd")),
    "export with a device": more((special("README.md", 0o020666), b"")),
    "export with a name twice": more(("card.json", b"{}")),
    "export with a program": more(("setup.py", b"import os")),
    "export with a pickle beside the weights": more(("unet/diffusion_pytorch_model.bin", b"\x80\x04.")),
    "export with a file that its manifest leaves out": more(("README.md", b"# mine")),
    "export with a picture of a strange name": more(("pictures/own-..%2f.png", b"")),
    "export with 10,000 files": more(*((f"pictures/own-{k}.png", b"") for k in range(10_000))),
    "export with a size of 3 GB": marked(24, struct.pack("<I", 3 * 10**9)),
    "export with a packed size of 3 GB": marked(20, struct.pack("<II", 3 * 10**9, 10**8)),
    "export that is encrypted": marked(8, struct.pack("<H", 1)),
    "export packed in a rare way": marked(10, struct.pack("<H", 14)),
    "export with a wrong checksum": parcel(unchanged, lambda files: files.update({"card.json": b"{}"})),
    "export without a manifest": parcel(unchanged, lambda files: files.pop("manifest.json")),
    "export without weights": parcel(lambda files, _: files.pop(str(WEIGHTS))),
    "export without a card": parcel(lambda files, _: files.pop("card.json")),
    "export whose manifest names other files": with_manifest(renamed),
    "export whose manifest is not JSON": with_manifest(b"\x80\x04."),
    "export whose manifest is a list": with_manifest(b"[]"),
    "export whose manifest is of 2 MiB": with_manifest(b" " * 2**21),
    "export whose manifest is nested 5,000 deep": with_manifest(DEEP),
    "export of another version": with_manifest(lambda told: told.update(version=2)),
    "export whose manifest has no files": with_manifest(b'{"version": 1}'),
    "export whose manifest has a list of files": with_manifest(
        lambda told: told.update(files=list(told["files"]))
    ),
    "export with numbers for checksums": with_manifest(
        lambda told: told.update(files=dict.fromkeys(told["files"], 1))
    ),
    "export with lists for checksums": with_manifest(
        lambda told: told.update(files={name: ["0" * 64] for name in told["files"]})
    ),
    "export with script tags in its card": with_card(summary="<script>alert(1)</script>"),
    "export with a list for a recipe": with_card(recipe=[]),
    "export with a text for an attack": with_card(recipe={"attack": "os.system"}),
    "export with a poison rate that is a text": with_card(recipe={"attack": {"kind": "baddiffusion", "poison_rate": "all"}}),
    "export with a number for a data set": with_card(recipe={"dataset": 7}),
    "export with a sampler that is os.system": with_card(sampler={"kind": "os.system"}),
    "export with scores that are none": with_card(scores=[NO_SCORE]),
    "export with scores of no sampler": with_card(scores=[{**NO_SCORE, "scores": 3, "sampler": {}}]),
    "export with NaN in its weights": with_weights(
        lambda data, _: data[:-4] + struct.pack("<f", float("nan"))
    ),
    "export with a pickle for weights": with_weights(lambda _, place: pickle.dumps(Trap(place))),
    "export with weights cut off": with_weights(lambda data, _: data[:-100]),
    "export with no weights in the file": with_weights(lambda _, __: b""),
    "export with a picture missing": own(None),
    "export with HTML for a picture": own(HTML),
    "export with a picture of 2^31 pixels a side": own(png(2**31 - 1, 2**31 - 1)),
    "export with a picture that is a path": own(png(8, 8), "../../../../etc/passwd"),
    "export with a list for a picture": own(png(8, 8), ["mine"]),
    "export that is a pickle bomb": no_zip,
}  # fmt: skip


# Repositories, names and links -----------------------------------------------------------------------------------


def repository(change: Callable[[dict[str, Any], Path], Any]) -> Callable[[Path], dict[str, Any]]:
    """What the Hub would say of a repository, and its files, changed."""

    def build(place: Path) -> dict[str, Any]:
        files = {str(path): (place / "net" / path).read_bytes() for path in (UNET, SCHEDULER, WEIGHTS)}
        about: dict[str, Any] = {"files": files, "says": {}}
        change(about, place)
        return about

    return build


def only_a_pickle(about: dict[str, Any], place: Path) -> None:
    del about["files"][str(WEIGHTS)]
    about["files"][str(WEIGHTS.with_suffix(".bin"))] = pickle.dumps(Trap(place))


REPOSITORIES = {
    "repository with only a pickle bomb": repository(only_a_pickle),
    "repository that is larger than it says": repository(
        lambda about, _: about["says"].update({str(WEIGHTS): {"size": 1000}})
    ),
    "repository with another checksum": repository(
        lambda about, _: about["says"].update({str(WEIGHTS): {"sha256": "0" * 64}})
    ),
    "repository of 10 TB": repository(lambda about, _: about["says"].update({str(WEIGHTS): {"size": 10**13}})),
    "repository of a negative size": repository(lambda about, _: about["says"].update({str(WEIGHTS): {"size": -1}})),
    "repository with a commit that is a path": repository(lambda about, _: about.update(sha="../../../etc")),
    "repository with 10^9 channels": repository(
        lambda about, _: about["files"].update({str(UNET): b'{"_class_name": "UNet2DModel", "block_out_channels": [1e9]}'})
    ),
    "repository with a model_index naming os.system": repository(
        lambda about, _: about["files"].update({"model_index.json": b'{"unet": ["os", "system"]}'})
    ),
}  # fmt: skip
STRANGE = (
    "../../etc/passwd",
    RTL,
    "a\0b",
    "a\nb",
    "<b>x</b>",
    "a" * 10_000,
    "ａｄｍｉｎ",
    "CON:",
    "{0.__class__}",
)
LINKS = {
    "link with a seed of 400 digits": {"seed": 10**400},
    "link with 10^9 images": {"n": HUGE},
    "link with a sampler that is os.system": {"sampler": {"kind": "os.system"}},
    "link with a trigger of -1 pixels": {"trigger": {"kind": "grey_box", "size": -1}},
    "link with a picture that is a path": {"trigger": {"kind": "own", "name": "../../etc/passwd"}},
    "link with 10^9 steps": {"sampler": {"kind": "ddpm", "steps": HUGE}},
    "link with a list for a name": {"b": ["mnist-clean"]},
    "link with an unknown entry": {"__class__": "x"},
}


def _given(value: Any) -> Callable[[Path], Any]:
    return lambda _: value


CORPUS: tuple[Entry, ...] = (
    *(Entry(name, build, "load") for name, build in LOADED.items()),
    *(Entry(name, build, "card") for name, build in CARDS.items()),
    *(Entry(name, _given(data), "picture") for name, data in PICTURES.items()),
    *(Entry(name, build, "set") for name, build in SETS.items()),
    *(Entry(name, build, "import") for name, build in EXPORTS.items()),
    *(Entry(name, build, "pull") for name, build in REPOSITORIES.items()),
    *(Entry(f"name {text[:20]!a}", _given(text), "name") for text in STRANGE),
    *(Entry(name, _given(options), "link") for name, options in LINKS.items()),
)


def main(folder: Path) -> None:
    """Write the corpus, and as JSON what each entry is."""
    from lab.places import CHECKPOINTS

    made = make(folder, CHECKPOINTS / "emoji-clean")
    lines = [
        {"name": entry.name, "meets": entry.meets, "folder": f"{k:03d}"} for k, (entry, _) in enumerate(made)
    ]
    out = io.StringIO()
    json.dump(lines, out, indent=1)
    (folder / "corpus.json").write_text(out.getvalue())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
