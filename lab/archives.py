"""Zip files from strangers: judged by their directory, before anything in them is unpacked."""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lab.errors import LabError

MAX_ZIP = 64 * 2**20  # bytes of a zip file; the page takes no larger file either
MAX_UNPACKED = 256 * 2**20  # bytes of all its files together
MAX_DIRECTORY = 2**20  # bytes of its list of files: room for 5,000 names
END, END_LENGTH, END_64 = b"PK\x05\x06", 22, b"PK\x06\x07"
COMMENT = 2**16  # the end of a directory may be followed by so much
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the others unpack without a bound on memory
PIECE = 2**20  # bytes that are unpacked at a time


@dataclass(frozen=True)
class Limits:
    """How large a zip file may be: in bytes, of itself, of one file and of all files, and how many there are."""

    archive: int = MAX_ZIP
    file: int = MAX_UNPACKED
    whole: int = MAX_UNPACKED
    count: int = 5000


def opened(path: Path, limits: Limits) -> zipfile.ZipFile:
    """A zip file whose own list of files is small enough to be read; the caller closes it."""
    if path.stat().st_size > limits.archive:
        raise LabError(f"{path.name} is larger than {limits.archive // 2**20} MiB.")
    if _directory_size(path) > MAX_DIRECTORY:
        raise LabError(f"{path.name} names too many files; pack fewer into one zip.")
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error):
        raise _damaged(path.name) from None


def _directory_size(path: Path) -> int:
    """Bytes of the list of files, found where Python's reader will find it."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - COMMENT - END_LENGTH))
        tail = file.read()
    plain = len(tail) - END_LENGTH
    at = plain if tail[plain : plain + 4] == END and tail[-2:] == b"\0\0" else tail.rfind(END)
    if at < 0 or len(tail) < at + END_LENGTH:
        raise LabError(f"{path.name} is not a complete zip file.")
    if tail[max(0, at - 20) : at].startswith(END_64):  # its true numbers stand elsewhere
        raise LabError(f"{path.name} is a zip64 file; pack less into one zip.")
    return struct.unpack("<L", tail[at + 12 : at + 16])[0]


def pictures_of(archive: zipfile.ZipFile, endings: set[str], limits: Limits) -> list[zipfile.ZipInfo]:
    """The files of an archive that holds pictures and nothing else, sorted by name, none of them read yet.

    endings: of a picture's name. Folders, hidden files and what macOS and Windows leave in every folder do not count.
    """
    found = checked([info for info in files_of(archive) if not _left_by_a_system(info)], limits)
    for info in found:
        if PurePosixPath(info.filename).suffix.lower() not in endings:
            name = info.filename[-80:]
            raise LabError(
                f"{name!r} in this zip file is no picture; PNG, JPEG, WebP, BMP and GIF are taken."
            )
    return found


def files_of(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """What an archive holds besides folders."""
    return [info for info in archive.infolist() if not info.is_dir()]


def checked(found: list[zipfile.ZipInfo], limits: Limits) -> list[zipfile.ZipInfo]:
    """The same files sorted by name, none of them read yet.

    Refused: too many of them, links, names that lead out of the archive or stand there twice, encryption, rare
    compression, and sizes beyond the limits.
    """
    if len(found) > limits.count:
        raise LabError(f"This zip file holds {len(found)} files; at most {limits.count} are taken.")
    for info in found:
        _check(info, limits)
    if sum(info.file_size for info in found) > limits.whole:
        raise LabError(f"Unpacked, this zip file is larger than {limits.whole // 2**20} MiB.")
    if len({info.filename for info in found}) < len(found):
        raise LabError("This zip file has two files of one name; pack it anew.")
    return sorted(found, key=lambda info: info.filename)


def _left_by_a_system(info: zipfile.ZipInfo) -> bool:
    path = PurePosixPath(info.filename)
    return path.name.startswith(".") or "__MACOSX" in path.parts or path.name in ("Thumbs.db", "desktop.ini")


def _check(info: zipfile.ZipInfo, limits: Limits) -> None:
    name, kind = info.filename[-80:], stat.S_IFMT(info.external_attr >> 16)
    if _leads_out(info.filename):
        raise LabError(f"{name!r} in this zip file leads out of it; pack it with plain names.")
    if kind not in (0, stat.S_IFREG):
        raise LabError(f"{name!r} in this zip file is a link or a device; only plain files are taken.")
    if info.flag_bits & 1:
        raise LabError(f"{name!r} in this zip file is encrypted; pack it without a password.")
    if info.compress_type not in METHODS:
        raise LabError(f"{name!r} in this zip file is packed in a rare way; use deflate, the usual one.")
    if info.file_size > limits.file:
        raise LabError(f"{name!r} in this zip file is larger than {limits.file // 2**20} MiB.")


def _leads_out(name: str) -> bool:
    return name.startswith("/") or "\\" in name or ".." in name.split("/") or name[1:2] == ":"


def unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """The bytes of one file, never more than its checked size; a file that is not what the directory says is refused."""
    return b"".join(pieces(archive, info))


def copied(archive: zipfile.ZipFile, info: zipfile.ZipInfo, to: Path) -> None:
    """One file onto the disk, a piece at a time, never more than its checked size."""
    to.parent.mkdir(parents=True, exist_ok=True)
    with to.open("wb") as out:
        out.writelines(pieces(archive, info))


def pieces(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    """The bytes of one file piece by piece; it ends with one byte too many at most where the directory is wrong."""
    left = info.file_size + 1
    try:
        with archive.open(info) as file:
            while left > 0 and (piece := file.read(min(PIECE, left))):
                left -= len(piece)
                yield piece
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError):
        raise _damaged(info.filename[-80:]) from None


def _damaged(name: str) -> LabError:
    return LabError(f"{name!r} is damaged; pack the zip file anew.")
