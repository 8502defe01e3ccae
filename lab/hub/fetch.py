"""Files of a listing, brought here piece by piece: what was there before goes on, and what is wrong is thrown away.

huggingface_hub's own download begins anew in each call and cannot be stopped from outside while its faster transport
is at work; so the bytes are read here, over its session, with its headers and its errors.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psutil

from lab.errors import BadCheckpoint, LabError
from lab.hub import wire
from lab.hub.listing import File, Listing
from lab.places import home
from lab.progress import Tick

TRIES = 4  # in a row that bring nothing new
SPARE = 1e9  # bytes that stay free on the disk


def fetch(listing: Listing, names: list[str]) -> Iterator[Tick]:
    """Bring files into the listing's folder, with the bytes so far; closing the iterator stops it, and a later one goes on."""
    total = sum(listing.files[name].size for name in names)
    _check_room(total)
    done = 0
    for name in names:
        for size in _file(listing, name):
            yield Tick(done + size, total, text=f"{name}, {(done + size) / 1e6:.1f} of {total / 1e6:.1f} MB")
        done += listing.files[name].size


def _check_room(total: int) -> None:
    free = psutil.disk_usage(str(_existing(home()))).free
    if 2 * total + SPARE > free:  # what is fetched, and the model made from it
        raise LabError(
            f"{total / 1e6:,.0f} MB do not fit on the disk, of which {free / 1e9:.1f} GB are free."
        )


def _existing(folder: Path) -> Path:
    return folder if folder.exists() else _existing(folder.parent)


def _file(listing: Listing, name: str) -> Iterator[int]:
    """Bytes of one file so far, until it is whole and has its checksum."""
    path, file = listing.folder / name, listing.files[name]
    if not is_intact(path, file):  # read again, since a listing may say otherwise than the last one
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        if not _taken_from_cache(listing, name, part):
            yield from _streamed(listing, name, part)
        if not is_intact(part, file):
            part.unlink(missing_ok=True)
            raise BadCheckpoint(
                f"{name} of {listing.repo} is not what the Hub says that it is (size or checksum); it was thrown away."
            )
        os.replace(part, path)
    yield file.size


def _taken_from_cache(listing: Listing, name: str, part: Path) -> bool:
    """Copy it from huggingface_hub's cache, which a Space fills before it starts."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(listing.repo, name, revision=listing.revision)
    if not isinstance(found, str) or not is_intact(Path(found), listing.files[name]):
        return False
    shutil.copyfile(found, part)
    return True


def _streamed(listing: Listing, name: str, part: Path) -> Iterator[int]:
    """Bytes as they come; a broken connection is taken up where it ended."""
    size, left = part.stat().st_size if part.exists() else 0, TRIES
    while size < listing.files[name].size:
        before = size
        try:
            for now in _piece(listing, name, part, size):
                size = now
                yield size
        except wire.Unreachable:
            left = TRIES if size > before else left - 1
            if left <= 0:
                raise
        else:
            if size == before:
                return  # shorter than the Hub says: its checksum will tell


def _piece(listing: Listing, name: str, part: Path, size: int) -> Iterator[int]:
    """What one request brings, from a byte on; never more than the Hub said."""
    from huggingface_hub import get_session

    url = f"{wire.endpoint()}/{listing.repo}/resolve/{listing.revision}/{quote(name)}"
    headers = {
        **wire.headers(),
        "Accept-Encoding": "identity",
        **({"Range": f"bytes={size}-"} if size else {}),
    }
    with (
        wire.told(f"{name} of {listing.repo}"),
        get_session().stream(
            "GET", url, headers=headers, timeout=wire.TIMEOUT, follow_redirects=True
        ) as answer,
    ):
        wire.check(answer)
        if answer.status_code != 206:  # it begins anew, whatever was asked
            size = 0
        with part.open("r+b" if size else "wb") as out:
            out.seek(size)
            out.truncate()
            for chunk in answer.iter_bytes():
                size += out.write(chunk)
                if size > listing.files[name].size:
                    raise BadCheckpoint(
                        f"{name} of {listing.repo} is larger than the Hub says; it is refused."
                    )
                yield size


def is_intact(path: Path, file: File) -> bool:
    """Whether a file has the size and the checksum that the Hub states; one without a checksum is not trusted."""
    if not path.is_file() or path.stat().st_size != file.size:
        return False
    if file.sha256:
        with path.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest() == file.sha256
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest() == file.blob
