"""Zip files from strangers: honest ones become data sets, hostile ones get one sentence and leave nothing."""

from __future__ import annotations

import io
import random
import shutil
import stat
import struct
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

from lab import archives, pictures
from lab.errors import LabError

MIB = 2**20


def picture(shade: int = 0, side: int = 8) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (side, side), shade).save(buffer, "PNG")
    return buffer.getvalue()


def packed(folder: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    """A zip file of these names and bytes."""
    path = folder / "set.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def refusal(path: Path, lab_home: Path) -> str:
    """The sentence of a zip file that must be refused; nothing of it is kept."""
    with pytest.raises(LabError) as caught:
        pictures.keep_set([path], "mine")
    assert [file for file in lab_home.rglob("*") if file.is_file()] == []
    assert pictures.set_names() == []
    text = str(caught.value)
    assert text.endswith(".") and "\n" not in text and len(text) < 300, text
    return text


def kept(name: str = "mine") -> list[int]:
    """The shades of a kept data set's pictures, in order."""
    files = sorted((pictures.sets_folder() / name).iterdir())
    return [Image.open(file).convert("L").getpixel((0, 0)) for file in files]  # type: ignore[misc]


# Honest ones -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", archives.METHODS)
def test_a_zip_of_pictures_becomes_a_data_set(tmp_path, method):
    files = {"b/2.png": picture(20), "a/1.PNG": picture(10), "c.png": picture(30)}
    pictures.keep_set([packed(tmp_path, files, method)], "mine")
    assert kept() == [10, 20, 30]


def test_zips_and_pictures_can_be_uploaded_together(tmp_path):
    (tmp_path / "one.png").write_bytes(picture(5))
    pictures.keep_set([tmp_path / "one.png", packed(tmp_path, {"1.png": picture(9)})], "mine")
    assert kept() == [5, 9]


def test_what_systems_leave_in_a_folder_does_not_count(tmp_path):
    rest = ["__MACOSX/._1.png", "a/.DS_Store", "Thumbs.db", "a/desktop.ini"]
    files = {"1.png": picture(1), "2.png": picture(2), **dict.fromkeys(rest, b"x")}
    pictures.keep_set([packed(tmp_path, files)], "mine")
    assert kept() == [1, 2]


def test_names_in_the_zip_decide_no_path(tmp_path, lab_home):
    files = {"sub/folder/x.png": picture(1), "sub/folder/y.png": picture(2)}
    pictures.keep_set([packed(tmp_path, files)], "mine")
    written = sorted(str(path.relative_to(lab_home)) for path in lab_home.rglob("*.png"))
    assert written == ["uploads/mine/00000.png", "uploads/mine/00001.png"]


# Hostile ones ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["../out.png", "a/../../out.png", "/etc/out.png", "C:/out.png", "a\\..\\out.png"]
)
def test_a_name_that_leads_out_is_refused(tmp_path, lab_home, name):
    path = packed(tmp_path, {"1.png": picture(), name: picture()})
    assert "leads out" in refusal(path, lab_home)
    assert not list(tmp_path.rglob("out.png"))


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_links_and_devices_are_refused(tmp_path, lab_home, kind):
    link = zipfile.ZipInfo("link.png")
    link.create_system, link.external_attr = 3, (kind | 0o777) << 16
    path = packed(tmp_path, {"1.png": picture(), "2.png": picture()})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    assert "link" in refusal(path, lab_home)


@pytest.mark.parametrize("name", ["run.py", "page.svg", "inner.zip", "noending", "1.png.exe"])
def test_what_is_no_picture_is_refused(tmp_path, lab_home, name):
    path = packed(tmp_path, {"1.png": picture(), "2.png": picture(), name: b"print()"})
    assert f"'{name}'" in refusal(path, lab_home)


def test_a_text_called_picture_is_refused_with_its_name(tmp_path, lab_home):
    path = packed(tmp_path, {"1.png": picture(), "a/2.png": b"hello"})
    assert "2.png: This file is not a complete picture" in refusal(path, lab_home)


def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on nothing may be unpacked."""
    monkeypatch.setattr(archives, "unpacked", lambda *_: pytest.fail("it was unpacked"))


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, lab_home, monkeypatch):
    unread(monkeypatch)
    path = packed(tmp_path, {"1.png": bytes(pictures.MAX_BYTES + 1), "2.png": picture()})
    assert path.stat().st_size < 20_000
    assert "'1.png' in this zip file is larger than 4 MiB" in refusal(path, lab_home)


def test_many_small_bombs_are_refused_before_they_are_unpacked(tmp_path, lab_home, monkeypatch):
    unread(monkeypatch)
    path = packed(tmp_path, {f"{k}.png": bytes(4 * MIB) for k in range(65)})
    assert path.stat().st_size < MIB
    assert "Unpacked, this zip file is larger than 256 MiB" in refusal(path, lab_home)


def test_more_files_than_a_data_set_has_are_refused_unread(tmp_path, lab_home, monkeypatch):
    unread(monkeypatch)
    path = packed(tmp_path, {f"{k}.png": b"" for k in range(pictures.MAX_SET + 1)})
    assert "2001 files; at most 2000" in refusal(path, lab_home)


def test_a_list_of_files_that_would_fill_the_memory_is_not_read(tmp_path, lab_home, monkeypatch):
    path = packed(tmp_path, {f"{k:06d}": b"" for k in range(25_000)})
    monkeypatch.setattr(archives.zipfile, "ZipFile", lambda *_: pytest.fail("its list was read"))
    assert "too many files" in refusal(path, lab_home)


def test_a_large_file_is_not_opened(tmp_path, lab_home):
    path = tmp_path / "large.zip"
    with path.open("wb") as file:
        file.truncate(archives.MAX_ZIP + 1)  # takes no room on the disk
    assert "larger than 64 MiB" in refusal(path, lab_home)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compression_without_a_bound_is_refused(tmp_path, lab_home, method):
    path = packed(tmp_path, {"1.png": picture(), "2.png": picture()}, method)
    assert "rare way" in refusal(path, lab_home)


def with_changed(path: Path, change: Callable[[bytearray, int], None]) -> Path:
    """A zip file with its first directory entry changed by hand."""
    data = bytearray(path.read_bytes())
    change(data, data.index(b"PK\x01\x02"))
    path.write_bytes(bytes(data))
    return path


def test_a_file_that_unpacks_to_more_than_it_says_is_cut_and_refused(tmp_path, lab_home):
    path = packed(tmp_path, {"1.png": bytes(8 * MIB), "2.png": picture()})
    lying = with_changed(path, lambda data, at: struct.pack_into("<L", data, at + 24, 1000))
    with zipfile.ZipFile(lying) as archive:
        assert archive.infolist()[0].file_size == 1000
    assert "'1.png' is damaged" in refusal(lying, lab_home)


def test_an_encrypted_file_is_refused(tmp_path, lab_home):
    path = packed(tmp_path, {"1.png": picture(), "2.png": picture()})
    locked = with_changed(path, lambda data, at: struct.pack_into("<H", data, at + 8, 1))
    assert "encrypted" in refusal(locked, lab_home)


def test_a_directory_whose_numbers_stand_elsewhere_is_refused(tmp_path, lab_home):
    path = packed(tmp_path, {"1.png": picture(), "2.png": picture()})
    data = path.read_bytes()
    end = data.index(archives.END)
    path.write_bytes(data[:end] + struct.pack("<4sLQL", archives.END_64, 0, end, 1) + data[end:])
    assert "zip64" in refusal(path, lab_home)


@pytest.mark.parametrize("data", [b"", b"PK", b"hello" * 50, b"PK\x05\x06" + bytes(3), picture()], ids=repr)
def test_what_is_no_zip_is_refused(tmp_path, lab_home, data):
    (tmp_path / "set.zip").write_bytes(data)
    assert "not a complete zip file" in refusal(tmp_path / "set.zip", lab_home)


def test_an_empty_zip_and_one_picture_are_too_few(tmp_path, lab_home):
    assert "these are 0" in refusal(packed(tmp_path, {}), lab_home)
    assert "these are 1" in refusal(packed(tmp_path, {"1.png": picture()}), lab_home)


def test_damaged_zips_never_raise_anything_else(tmp_path):
    whole, chance = (
        packed(tmp_path, {f"{k}.png": picture(k) for k in range(3)}).read_bytes(),
        random.Random(0),
    )
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 6)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        (tmp_path / "set.zip").write_bytes(bytes(data[: chance.randint(len(data) // 2, len(data))]))
        with suppress(LabError):
            pictures.keep_set([tmp_path / "set.zip"], "mine")
            shutil.rmtree(pictures.sets_folder() / "mine")
