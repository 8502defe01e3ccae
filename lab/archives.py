"""Zip files from strangers: judged by their directory, before anything in them is unpacked."""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from lab.errors import LabError

MAX_ZIP = 64 * 2**20  # bytes of a zip file; the page takes no larger file either
MAX_UNPACKED = 256 * 2**20  # bytes of all its files together
MAX_DIRECTORY = 2**20  # bytes of its list of files: room for 5,000 names
END, END_LENGTH, END_64 = b"PK\x05\x06", 22, b"PK\x06\x07"
COMMENT = 2**16  # the end of a directory may be followed by so much
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the others unpack without a bound on memory


def opened(path: Path) -> zipfile.ZipFile:
    """A zip file whose own list of files is small enough to be read; the caller closes it."""
    if path.stat().st_size > MAX_ZIP:
        raise LabError(f"{path.name} is larger than {MAX_ZIP // 2**20} MiB.")
    if _directory_size(path) > MAX_DIRECTORY:
        raise LabError(f"{path.name} names too many files; upload fewer pictures at a time.")
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


def pictures_of(archive: zipfile.ZipFile, endings: set[str], each: int, most: int) -> list[zipfile.ZipInfo]:
    """The files of an archive that holds pictures and nothing else, sorted by name, none of them read yet.

    endings: of a picture's name. each: bytes of one file. most: files. Folders, hidden files and what macOS and Windows
    leave in every folder do not count. Anything else is refused: other files, links, names that lead out of the
    archive, encryption, rare compression, and sizes beyond `each` and MAX_UNPACKED.
    """
    found = [info for info in archive.infolist() if not info.is_dir() and not _left_by_a_system(info)]
    if len(found) > most:
        raise LabError(f"This zip file holds {len(found)} files; at most {most} are taken.")
    for info in found:
        _check(info, endings, each)
    if sum(info.file_size for info in found) > MAX_UNPACKED:
        raise LabError(f"Unpacked, this zip file is larger than {MAX_UNPACKED // 2**20} MiB.")
    return sorted(found, key=lambda info: info.filename)


def _left_by_a_system(info: zipfile.ZipInfo) -> bool:
    path = PurePosixPath(info.filename)
    return path.name.startswith(".") or "__MACOSX" in path.parts or path.name in ("Thumbs.db", "desktop.ini")


def _check(info: zipfile.ZipInfo, endings: set[str], each: int) -> None:
    name, kind = info.filename[-80:], stat.S_IFMT(info.external_attr >> 16)
    if _leads_out(info.filename):
        raise LabError(f"{name!r} in this zip file leads out of it; pack the pictures with plain names.")
    if kind not in (0, stat.S_IFREG):
        raise LabError(f"{name!r} in this zip file is a link or a device; only pictures are taken.")
    if PurePosixPath(info.filename).suffix.lower() not in endings:
        raise LabError(f"{name!r} in this zip file is no picture; PNG, JPEG, WebP, BMP and GIF are taken.")
    if info.flag_bits & 1:
        raise LabError(f"{name!r} in this zip file is encrypted; pack it without a password.")
    if info.compress_type not in METHODS:
        raise LabError(f"{name!r} in this zip file is packed in a rare way; use deflate, the usual one.")
    if info.file_size > each:
        raise LabError(f"{name!r} in this zip file is larger than {each // 2**20} MiB.")


def _leads_out(name: str) -> bool:
    return name.startswith("/") or "\\" in name or ".." in name.split("/") or name[1:2] == ":"


def unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """The bytes of one file, never more than its checked size; a file that is not what the directory says is refused."""
    try:
        with archive.open(info) as file:
            return file.read(info.file_size + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError):
        raise _damaged(info.filename[-80:]) from None


def _damaged(name: str) -> LabError:
    return LabError(f"{name!r} is damaged; pack the zip file anew.")
