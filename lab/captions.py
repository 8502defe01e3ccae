"""What a folder of pictures says of each: the sub-folder it lies in, or a line of metadata.csv or metadata.jsonl.

The file's name and its column file_name are those of Hugging Face's image folders, so that sets made for it are read.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path

from lab.errors import LabError

TABLES = ("metadata.csv", "metadata.jsonl")
# columns that say what a picture shows; the first that is there counts
WORDS = ("label", "prompt", "text", "caption")
LARGEST = 64 * 2**20  # bytes of a table


def captions(files: Sequence[Path], root: Path) -> list[str] | None:
    """What is said of each file; None where nothing is: pictures that lie in the folder itself, without a table."""
    for name in TABLES:
        if (root / name).is_file():
            return _from_table(root / name, files, root)
    if not files or any(file.parent == root for file in files):
        return None
    return [file.relative_to(root).parts[0] for file in files]


def _from_table(table: Path, files: Sequence[Path], root: Path) -> list[str]:
    said = {str(row.get("file_name")): _words(row, table.name) for row in _rows(table)}
    missing = [name for file in files if (name := file.relative_to(root).as_posix()) not in said]
    if missing:
        raise LabError(f"{table.name} says nothing of {missing[0][-80:]!r}; it has to name each picture.")
    return [said[file.relative_to(root).as_posix()] for file in files]


def _rows(table: Path) -> list[dict[str, object]]:
    if table.stat().st_size > LARGEST:
        raise LabError(f"{table.name} is larger than {LARGEST // 2**20} MiB.")
    try:
        text = table.read_text(encoding="utf-8-sig")
        if table.suffix == ".csv":
            return list(csv.DictReader(io.StringIO(text)))  # type: ignore[arg-type]  # of words to words
        rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, csv.Error):
        raise LabError(f"{table.name} cannot be read; it is UTF-8, with a line for each picture.") from None
    if not all(isinstance(row, dict) for row in rows):
        raise LabError(f"{table.name} holds a line that is no JSON object.")
    return rows


def _words(row: dict[str, object], table: str) -> str:
    for column in WORDS:
        if row.get(column) not in (None, ""):
            return str(row[column])
    raise LabError(f"{table} needs one of the columns {', '.join(WORDS)}, filled in for each picture.")


def class_of(caption: str, names: Sequence[str]) -> int:
    """The class that words mean: its name, its number, or the one name that is a part of the prompt; else a LabError.

    Of names that are part of each other, as truck and garbage truck, the longest counts.
    """
    words = _plain(caption)
    plain = [_plain(name) for name in names]
    if words in plain:
        return plain.index(words)
    if words.isdecimal() and int(words) < len(names):
        return int(words)
    found = {name for name in plain if name and re.search(rf"\b{re.escape(name)}\b", words)}
    longest = {name for name in found if not any(name != other and name in other for other in found)}
    if len(longest) != 1:
        raise LabError(
            f"{caption[:80]!r} names {'more than one' if longest else 'none'} of the classes {', '.join(names)[:200]}."
        )
    return plain.index(longest.pop())


def _plain(words: str) -> str:
    return " ".join(re.sub(r"[_\-]+", " ", words.lower()).split())
