"""What a repository holds at one commit: its files with sizes and checksums, its licence, and what they mean for trust."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from lab.bundle import OWN
from lab.errors import BadCheckpoint, LabError, Unavailable
from lab.hub import wire
from lab.models import SCHEDULER_CONFIG, UNET_CONFIG, WEIGHTS, as_json
from lab.pictures import MAX_BYTES, write_atomically
from lab.places import home
from lab.trust import MAX_JSON, plain

REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
REVISION = re.compile(r"[A-Za-z0-9][\w./-]{0,99}", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")
LARGEST = float(os.environ.get("LAB_HUB_MB", "1024")) * 1e6  # bytes of a model that is fetched
BIN = "diffusion_pytorch_model.bin"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
PARTS = 2  # trigger and target, each of one picture
# what authors say of a model; config.json too where it is none of a UNet
TOLD = ("model_index.json", "args.json", "score.json", "card.json")


@dataclass(frozen=True)
class File:
    """A file of a repository: bytes, and the checksum that the Hub states for it."""

    size: int
    sha256: str = ""
    blob: str = ""  # git's own checksum, of small files


@dataclass(frozen=True)
class Listing:
    """A repository at one commit."""

    repo: str
    revision: str
    files: dict[str, File]
    licence: str = ""
    downloads: int = 0
    gated: bool = False
    private: bool = False

    DIFFUSERS: ClassVar[tuple[Path, Path, Path]] = (UNET_CONFIG, SCHEDULER_CONFIG, WEIGHTS)

    @property
    def is_flat(self) -> bool:
        """Whether everything lies in one folder, as in google/ddpm-cifar10-32."""
        return str(UNET_CONFIG) not in self.files

    def place(self, path: Path) -> str:
        """Where a file of the diffusers layout lies here."""
        return path.name if self.is_flat else str(path)

    @property
    def marks(self) -> list[str]:
        """safetensors, pickle, code: what kinds of files there are."""
        return marks(self.files)

    def wanted(self, allow_pickle: bool) -> tuple[list[str], str]:
        """The JSON files to fetch, and the weights; a LabError where it is no DDPM of diffusers, or has pickles only."""
        configs = [self.place(UNET_CONFIG), self.place(SCHEDULER_CONFIG)]
        missing = [name for name in configs if name not in self.files]
        if missing:
            raise BadCheckpoint(
                f"{self.repo} is no DDPM of diffusers: it has no {missing[0]}, neither there nor flat."
            )
        told = [name for name in (*TOLD, *(() if self.is_flat else ("config.json",))) if name in self.files]
        return [*configs, *told, *self._pictures()], self._weights(allow_pickle)

    def _pictures(self) -> list[str]:
        """Pictures of its maker's own behind its trigger and target."""
        small = (name for name, file in self.files.items() if OWN.fullmatch(name) and file.size <= MAX_BYTES)
        return sorted(small)[:PARTS]

    def _weights(self, allow_pickle: bool) -> str:
        name = self.place(WEIGHTS)
        if name in self.files:
            return name
        pickled = str(Path(name).with_name(BIN))
        if pickled not in self.files:
            raise BadCheckpoint(f"{self.repo} has no weights called {Path(name).name}.")
        if not allow_pickle:
            raise LabError(
                f"{self.repo} has its weights as a pickle only; say so explicitly (--allow-pickle, or the box on the page) "
                "to have them converted in a process of their own."
            )
        return pickled

    def check_size(self, names: list[str]) -> int:
        """Bytes of these files; a LabError where they are more than the operator allows, or a JSON file is a giant."""
        size = sum(self.files[name].size for name in names)
        if size > LARGEST:
            raise LabError(
                f"{self.repo} is {size / 1e6:,.0f} MB; at most {LARGEST / 1e6:,.0f} MB are fetched (LAB_HUB_MB)."
            )
        for name in names:
            if name.endswith(".json") and self.files[name].size > MAX_JSON:
                raise BadCheckpoint(f"{name} of {self.repo} is larger than {MAX_JSON // 2**20} MiB.")
        return size

    @property
    def folder(self) -> Path:
        """Where its files are kept here."""
        return kept(self.repo) / self.revision


def marks(names: Any) -> list[str]:
    """What kinds of files there are among some names."""
    names = [str(name).lower() for name in names]
    found = {
        "safetensors": any(name.endswith(".safetensors") for name in names),
        "pickle": any(name.endswith(PICKLES) for name in names),
        "code": any(name.endswith(".py") for name in names),
    }
    return [mark for mark, there in found.items() if there]


def kept(repo: str) -> Path:
    """The folder of a repository among what is kept here of the Hub."""
    return home() / "hub" / repo.replace("/", "--")


def checked(repo: str, revision: str = "") -> tuple[str, str]:
    """A repository's name and a revision, as the Hub writes them; `main` where none is given."""
    repo, revision = repo.strip(), revision.strip() or "main"
    if not REPO.fullmatch(repo) or ".." in repo or "--" in repo:
        raise LabError(
            f"A repository is written owner/name, such as google/ddpm-cifar10-32; got {ascii(repo)[:60]}."
        )
    if not REVISION.fullmatch(revision) or ".." in revision:
        raise LabError(f"A revision is a branch, a tag or a commit; got {ascii(revision)[:60]}.")
    return repo, revision


def look(repo: str, revision: str = "") -> Listing:
    """What a repository holds: asked anew, and what was found last where there is no network."""
    repo, revision = checked(repo, revision)
    if wire.is_offline():
        return _remembered(repo, revision) or _not_here(repo)
    try:
        found = _parsed(
            repo,
            wire.get(f"api/models/{repo}/revision/{revision.replace('/', '%2F')}", {"blobs": "true"}, repo),
        )
    except wire.Unreachable:
        if last := _remembered(repo, revision):
            return last
        raise
    _remember(found, revision)
    return found


def _not_here(repo: str) -> Listing:
    raise Unavailable(f"This lab is offline, and {repo} is not kept here.")


def _parsed(repo: str, answer: Any) -> Listing:
    try:
        files = {each["rfilename"]: _file(each) for each in answer["siblings"]}
        card, sha = answer.get("cardData") or {}, answer["sha"]
        licence, downloads = card.get("license"), answer.get("downloads") or 0
        if not (COMMIT.fullmatch(sha) and all(isinstance(name, str) for name in files)):
            raise ValueError
        gated, private = bool(answer.get("gated")), bool(answer.get("private"))
        return Listing(repo, sha, files, one_licence(licence), int(downloads), gated, private)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise Unavailable(f"The Hub's answer for {repo} cannot be read; try again later.") from None


def _file(each: dict[str, Any]) -> File:
    large = each.get("lfs") or {}
    size = int(large.get("size") or each["size"])
    if size < 0:
        raise ValueError
    return File(size, str(large.get("sha256") or ""), str(each.get("blobId") or ""))


def one_licence(value: object) -> str:
    """The licence as text, of a card that may name several."""
    value = ", ".join(map(str, value)) if isinstance(value, list) else value
    return plain(str(value or ""))[:60]


def _remember(listing: Listing, revision: str) -> None:
    write_atomically(listing.folder / "listing.json", as_json(asdict(listing)))
    write_atomically(kept(listing.repo) / f"{revision.replace('/', '%2F')}.ref", listing.revision.encode())


def _remembered(repo: str, revision: str) -> Listing | None:
    """The last that was found of a branch, a tag or a commit; None where nothing was."""
    try:
        sha = revision
        if not COMMIT.fullmatch(revision):
            sha = (kept(repo) / f"{revision.replace('/', '%2F')}.ref").read_text()
        stored = json.loads((kept(repo) / sha / "listing.json").read_bytes())
        return Listing(**{**stored, "files": {name: File(**each) for name, each in stored["files"].items()}})
    except (OSError, ValueError, TypeError):
        return None
