"""A checkpoint as files that leave the lab and come back: folder, card, pictures and checksums, as one zip or on the Hub."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL.Image import Image

from lab.archives import Limits, checked, copied, files_of, opened, unpacked
from lab.attacks import ATTACKS
from lab.data import DATASETS
from lab.errors import BadCheckpoint, LabError
from lab.evaluate import Row
from lab.modelcard import model_card
from lab.models import (
    INDEX,
    SCHEDULER_CONFIG,
    UNET_CONFIG,
    WEIGHTS,
    Card,
    as_json,
    find,
    load,
    names,
    roots,
    sha256,
)
from lab.pictures import keep, kept, png, read_named, to_image
from lab.sampling import SAMPLERS
from lab.triggers import TARGETS, TRIGGERS
from lab.trust import MAX_JSON, parse_json

VERSION = 1
LARGEST = 2**30  # bytes of the weights
MANIFEST, CARD, README = "manifest.json", "card.json", "README.md"
CONFIGS = (str(UNET_CONFIG), str(SCHEDULER_CONFIG), str(INDEX))
OWN = re.compile(r"pictures/own-([a-z0-9][a-z0-9_-]{0,39})\.png")
SHOWN = ("pictures/trigger.png", "pictures/target.png")
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,59}")
LIMITS = Limits(archive=LARGEST + 2**26, file=LARGEST, whole=LARGEST + 2**26, count=100)
LICENCE = "apache-2.0"


@dataclass(frozen=True)
class Bundle:
    """A checkpoint's files by the names that they have outside: bytes, or where they lie."""

    card: Card
    files: dict[str, bytes | Path]

    @classmethod
    def of(cls, name: str, licence: str = LICENCE) -> Bundle:
        """All that leaves the lab of a checkpoint: what was checked while it was loaded, and nothing else of its folder."""
        checkpoint, folder = load(name), find(name)
        checkpoint = replace(checkpoint, card=_outside(checkpoint.card))
        files: dict[str, bytes | Path] = {
            str(WEIGHTS): folder / WEIGHTS,
            **{str(path): as_json(content) for path, content in checkpoint.json_files().items()},
            **_pictures(checkpoint.card, checkpoint.shape),
            README: readme(checkpoint.card, licence).encode(),
        }
        return cls(checkpoint.card, {**files, MANIFEST: _manifest(files)})

    def write(self, path: Path) -> Path:
        """One zip, under a temporary name first. Weights are stored as they are: they do not become smaller."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}-{os.getpid()}")
        try:
            with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
                for name in sorted(self.files):
                    _put(archive, name, self.files[name])
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        return path


def _put(archive: zipfile.ZipFile, name: str, content: bytes | Path) -> None:
    info = zipfile.ZipInfo(name)  # of 1980: the same checkpoint gives the same zip
    info.external_attr = 0o100644 << 16
    if isinstance(content, bytes):
        archive.writestr(info, content)
        return
    info.file_size = content.stat().st_size
    with content.open("rb") as source, archive.open(info, "w") as out:
        shutil.copyfileobj(source, out)


def _manifest(files: dict[str, bytes | Path]) -> bytes:
    return as_json({"version": VERSION, "files": {name: _digest(files[name]) for name in sorted(files)}})


def _digest(content: bytes | Path) -> str:
    return sha256(content) if isinstance(content, Path) else hashlib.sha256(content).hexdigest()


def _outside(card: Card) -> Card:
    """The card without folders of this machine: of a data set's path, or a base's, its last part stays."""
    content = json.dumps(card.model_dump(mode="json"))
    for path in ((card.recipe.get("dataset") or {}).get("path"), card.recipe.get("base")):
        if isinstance(path, str) and "/" in path:
            content = content.replace(json.dumps(path)[1:-1], Path(path).name)
    return Card.of(**json.loads(content))


def readme(card: Card, licence: str = LICENCE) -> str:
    """The model card that a checkpoint with this card carries outside, as Markdown."""
    return model_card(_outside(card), licence, SHOWN if len(_parts(card)) == 2 else ())


# Pictures --------------------------------------------------------------------------------------------------------


def _parts(card: Card) -> tuple[dict[str, Any], ...]:
    """Trigger and target of a card, as JSON."""
    found = (card.attack.get(name) for name in ("trigger", "target"))
    return tuple(each for each in found if isinstance(each, dict))


def own_names(card: Card) -> list[str]:
    """Pictures of one's own that its trigger or target is made of."""
    return [str(part.get("name")) for part in _parts(card) if part.get("kind") == "own"]


def is_picture(name: str) -> bool:
    """Whether a bundle calls one of its pictures so."""
    return name in SHOWN or bool(OWN.fullmatch(name))


def _pictures(card: Card, shape: tuple[int, int, int]) -> dict[str, bytes]:
    """Trigger and target as they look on this model's images, and the pictures of one's own behind them."""
    found = {f"pictures/own-{name}.png": png(kept(name)) for name in own_names(card)}
    if len(_parts(card)) == 2:
        trigger, target = TRIGGERS.parse(card.attack["trigger"]), TARGETS.parse(card.attack["target"])
        drawn = trigger.draw(shape), target.draw(shape, trigger)
        found |= {path: png(to_image(each)) for path, each in zip(SHOWN, drawn, strict=True)}
    return found


# Coming back -----------------------------------------------------------------------------------------------------


def bring(source: Path, name: str = "") -> Card:
    """A zip of `Bundle.write` as a checkpoint of this lab, under a free name; returns its card.

    Nothing in it is trusted: only files of known names, each with its checksum, then all that a checkpoint has to pass.
    A card's word that a model is clean is not believed; that it is backdoored is.
    """
    if name and not NAME.fullmatch(name):
        raise LabError(f"A checkpoint's name is 1 to 60 of a-z, 0-9 and -; got {name[:70]!r}.")
    if not source.is_file():
        raise LabError(f"There is no file {source.name!r}; give a zip that this lab exported.")
    root = roots()[1]
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".import-", dir=root) as near:
        folder = Path(near)
        _unpack(source, folder)
        checkpoint = load(folder)
        _check_card(checkpoint.card)
        name = _free(name, checkpoint.card.name)
        card = _here(checkpoint.card, folder, sha256(source)).model_copy(update={"name": name})
        return replace(checkpoint, card=card).save(root / name).card


def _unpack(source: Path, folder: Path) -> None:
    with opened(source, LIMITS) as archive:
        found = {info.filename: info for info in checked(files_of(archive), LIMITS)}
        _check_names(found)
        promised = _promised(archive, found)
        for name in promised:
            _copied(archive, found[name], folder)
            if sha256(folder / name) != promised[name]:
                raise BadCheckpoint(f"{name} in this zip file is not what its manifest says; export it anew.")


def _copied(archive: zipfile.ZipFile, info: zipfile.ZipInfo, folder: Path) -> None:
    """One file, if it may be so large; it lies in the zip as it is, so that none becomes larger than what was sent."""
    limit = LARGEST if info.filename == str(WEIGHTS) else 4 * MAX_JSON
    if info.file_size > limit:
        raise BadCheckpoint(f"{info.filename} in this zip file is larger than {limit // 2**20} MiB.")
    if info.compress_type != zipfile.ZIP_STORED:
        raise BadCheckpoint(
            f"{info.filename} in this zip file is compressed, which no export does; export it anew."
        )
    copied(archive, info, folder / info.filename)


def _check_names(found: Iterable[str]) -> None:
    found = set(found)
    fixed = {str(WEIGHTS), *CONFIGS, CARD, README, MANIFEST, *SHOWN}
    strange = sorted(name for name in found - fixed if not is_picture(name))
    if strange:
        raise BadCheckpoint(f"{strange[0][-60:]!r} is no part of an exported checkpoint; export it anew.")
    missing = sorted(fixed - {README, *SHOWN} - found)
    if missing:
        raise BadCheckpoint(f"{missing[0]} is missing in this zip file; give one that this lab exported.")


def _promised(archive: zipfile.ZipFile, found: dict[str, zipfile.ZipInfo]) -> dict[str, str]:
    """The checksums of all files but the manifest's own."""
    if found[MANIFEST].file_size > MAX_JSON:
        raise BadCheckpoint(f"{MANIFEST} is larger than {MAX_JSON // 2**20} MiB; that is no manifest.")
    content = parse_json(unpacked(archive, found[MANIFEST]), MANIFEST)
    files = content.get("files")
    if content.get("version") != VERSION or not isinstance(files, dict):
        raise BadCheckpoint(f"This zip file was not made by this version of the lab ({MANIFEST}).")
    if set(files) != set(found) - {MANIFEST}:
        raise BadCheckpoint(f"{MANIFEST} and this zip file name different files; export it anew.")
    return files


def _check_card(card: Card) -> None:
    """Refuse a card whose recipe, sampler or numbers this lab could not read later."""
    try:
        if card.recipe.get("attack") is not None:
            ATTACKS.parse(card.recipe["attack"])
        if card.recipe.get("dataset") is not None:
            DATASETS.parse(card.recipe["dataset"])
        SAMPLERS.parse(card.sampler)
        for row in card.scores:
            SAMPLERS.parse(Row.of(**row).sampler)
    except LabError as error:
        raise BadCheckpoint(f"{CARD} in this zip file is refused: {error}") from None


def _here(card: Card, folder: Path, checksum: str) -> Card:
    """The card as this lab keeps it: its pictures are kept here too, and its word that it is clean is not.

    What it says of its origin stays as its word: only what was pulled here counts as a repository's own.
    """
    content = with_own_pictures(card.recipe, folder)
    clean = None if card.backdoored is False else card.backdoored
    said = {"from" if name == "repo" else name: value for name, value in card.origin.items()}
    origin = {**said, "imported": checksum}
    return card.model_copy(update={"recipe": content, "backdoored": clean, "origin": origin})


def with_own_pictures(recipe: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The recipe with the pictures behind its trigger and target kept here, under the names that they have here."""
    content = json.loads(json.dumps(recipe))
    own = [part for part in _parts(Card(recipe=content)) if part.get("kind") == "own"]
    images = [_own_picture(folder, str(part.get("name"))) for part in own]  # all of them before any is kept
    for part, image in zip(own, images, strict=True):
        part["name"] = _kept(image, part["name"])
    return content


def _own_picture(folder: Path, name: str) -> Image:
    path = folder / f"pictures/own-{name}.png"
    if not OWN.fullmatch(f"pictures/{path.name}") or not path.is_file():
        raise BadCheckpoint(f"The picture {name[:40]!r} that this model needs is missing beside it.")
    return read_named(path.name, path)


def _kept(image: Image, name: str) -> str:
    """Keep a picture of the zip; where another one has its name, under a name made from its pixels."""
    with suppress(LabError):
        return keep(image, name)
    return keep(image)  # refused for another reason it is refused again


def _free(wanted: str, own: str) -> str:
    """The wanted name if it is free, else the card's own, or its next free one."""
    if wanted:
        if wanted in names():
            raise LabError(f"There is already a checkpoint called {wanted!r}; choose another name.")
        return wanted
    stem = re.sub(r"[^a-z0-9]+", "-", own.lower()).strip("-")[:50].strip("-") or "imported"
    taken, number = set(names()), 1
    while (name := stem if number == 1 else f"{stem}-{number}") in taken:
        number += 1
    return name
