"""Pictures in and out: exact values, hostile files, painted pixels and the store of named pictures."""

from __future__ import annotations

import io
import random
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lab import pictures
from lab.errors import BadPicture, LabError, UnknownName


def encoded(format: str, size: tuple[int, int] = (20, 20), mode: str = "RGB") -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, format)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises a size and holds nothing."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", head) + png_chunk(b"IDAT", zlib.compress(b""))


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


HOSTILE = {
    "empty": b"",
    "text": b"hello, I am a picture" * 20,
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><script/></svg>',
    "truncated png": encoded("PNG")[:-300],
    "truncated jpeg": encoded("JPEG")[:200],
    "header only": png_header(10, 10),
    "20,000 pixels wide": png_header(20_000, 1),
    "a hundred megapixels": png_header(20_000, 5_000),
    "two billion pixels a side": png_header(2**31 - 1, 2**31 - 1),
    "zero pixels": png_header(0, 10),
    "tiff": encoded("TIFF"),
    "too many bytes": bytes(pictures.MAX_BYTES + 1),
    "not a zip": b"PK\x03\x04" + bytes(100),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes_get_one_sentence(name):
    with pytest.raises(BadPicture) as caught:
        pictures.read_picture(HOSTILE[name])
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_get_one_sentence(tmp_path, name):
    path = tmp_path / "picture.png"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(BadPicture):
        pictures.read_picture(path)


@pytest.mark.parametrize("name", ["20,000 pixels wide", "a hundred megapixels", "two billion pixels a side"])
def test_too_large_pictures_are_called_too_large(name):
    with pytest.raises(BadPicture, match="4096"):
        pictures.read_picture(HOSTILE[name])


def test_a_real_picture_20_000_pixels_wide_is_refused():
    buffer = io.BytesIO()
    Image.new("1", (20_000, 1)).save(buffer, "PNG")
    with pytest.raises(BadPicture, match="20000×1"):
        pictures.read_picture(buffer.getvalue())


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "none.png", tmp_path):
        with pytest.raises(BadPicture, match="no picture file"):
            pictures.read_picture(path)


@pytest.mark.parametrize("format", pictures.FORMATS)
def test_damaged_files_never_raise_anything_else(format):
    whole, chance = encoded(format), random.Random(0)
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 12)):
            data[chance.randrange(min(len(data), 400))] = chance.randrange(256)
        with suppress(BadPicture):
            assert pictures.read_picture(bytes(data[: chance.randint(8, len(data))])).mode == "RGBA"


@pytest.mark.parametrize("format", pictures.FORMATS)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_honest_pictures_are_read(format, mode):
    assert pictures.read_picture(encoded(format, (21, 13), mode)).size == (21, 13)


def test_values_are_the_authors():
    values = pictures.to_values(Image.fromarray(np.array([[0, 255, 254]], dtype=np.uint8)), 1).flatten()
    assert float(values[0]) == -1.0
    assert float(values[1]) == pytest.approx(0.99998, abs=1e-6)
    assert float(values[2]) == pytest.approx(0.99214, abs=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_8_bit_pictures_survive_the_way_there_and_back(channels):
    levels = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    values = pictures.to_values(levels, channels)
    assert values.shape == (channels, 16, 16)
    assert np.array_equal(np.asarray(pictures.to_image(values).convert("L")), np.asarray(levels))


def test_bytes_are_clamped_and_keep_leading_dimensions():
    assert pictures.to_bytes(torch.tensor([-9.0, 9.0]).view(2, 1, 1, 1)).flatten().tolist() == [0, 255]
    assert pictures.to_bytes(torch.zeros(2, 5, 3, 4, 6)).shape == (2, 5, 4, 6, 3)


def test_tile_places_images_row_by_row():
    images = torch.linspace(-1, 1, 5).view(5, 1, 1, 1).expand(5, 1, 4, 4)
    sheet = np.asarray(pictures.tile(images, columns=3, gap=2))
    assert sheet.shape == (10, 16)
    assert [int(sheet[0, 0]), int(sheet[0, 6]), int(sheet[6, 6])] == [0, 64, 255]
    assert int(sheet[9, 15]) == 127  # no image: the colour of the gap


def test_png_is_lossless():
    image = pictures.read_picture(encoded("PNG"))
    assert pictures.read_picture(pictures.png(image)).tobytes() == image.tobytes()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "file"
    pictures.write_atomically(path, b"old")
    monkeypatch.setattr(pictures.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk")))
    with pytest.raises(OSError):
        pictures.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["file"]


# Store ---------------------------------------------------------------------------------------------------------------


def dot(colour: str = "#ffffff") -> Image.Image:
    return pictures.painting([[1, 2, colour]], 8)


def test_a_kept_picture_comes_back_pixel_for_pixel():
    name = pictures.keep(dot(), "my-dot")
    assert pictures.kept(name).tobytes() == dot().tobytes()
    assert pictures.kept_names() == ["my-dot"]


def test_without_a_name_equal_pixels_share_one():
    assert pictures.keep(dot()) == pictures.keep(dot())
    assert pictures.keep(dot()) != pictures.keep(dot("#ff0000"))
    assert len(pictures.kept_names()) == 2


def test_other_pixels_under_the_same_name_are_refused():
    pictures.keep(dot(), "mine")
    pictures.keep(dot(), "mine")
    with pytest.raises(LabError, match="already another picture called 'mine'"):
        pictures.keep(dot("#ff0000"), "mine")
    assert pictures.kept("mine").tobytes() == dot().tobytes()


@pytest.mark.parametrize(
    "name",
    ["../x", "/etc/passwd", "a/b", "..", ".", "a.png", "A", "ü", "a\n", "-a", "x" * 41, 7, None, "a\0"],
)
def test_names_that_could_leave_the_folder_are_refused(name, lab_home):
    with pytest.raises(LabError, match="a-z, 0-9"):
        pictures.kept(name)
    if name is not None:
        with pytest.raises(LabError, match="a-z, 0-9"):
            pictures.keep(dot(), name)
    assert not list(lab_home.rglob("*.png"))


def test_an_unknown_name_gets_the_nearest_one():
    pictures.keep(dot(), "my-dot")
    with pytest.raises(UnknownName, match="did you mean 'my-dot'"):
        pictures.kept("my-dott")


def test_a_full_store_says_so(monkeypatch):
    monkeypatch.setattr(pictures, "MAX_KEPT", 1)
    pictures.keep(dot(), "one")
    pictures.keep(dot(), "one")
    with pytest.raises(LabError, match="1 pictures are kept already"):
        pictures.keep(dot("#ff0000"), "two")


def test_shipped_pictures_are_there():
    for name in ("hat", "shoe", "cat", "stop_sign", "glasses"):
        assert min(pictures.shipped(name).size) >= 64


# Data sets of one's own ----------------------------------------------------------------------------------------------


def files(folder: Path, *sizes: tuple[int, int]) -> list[Path]:
    folder.mkdir(exist_ok=True)
    for k, size in enumerate(sizes):
        Image.new("RGB", size, (k, k, k)).save(folder / f"{k}.png")
    return sorted(folder.iterdir())


def test_a_data_set_is_kept_in_order_as_bounded_squares(tmp_path):
    assert pictures.keep_set(files(tmp_path / "in", (300, 400), (9, 8)), "mine") == "mine"
    kept = [Image.open(path) for path in sorted((pictures.sets_folder() / "mine").iterdir())]
    assert [image.size for image in kept] == [(256, 256), (8, 8)]
    assert [image.getpixel((0, 0)) for image in kept] == [(0, 0, 0, 255), (1, 1, 1, 255)]
    assert pictures.set_names() == ["mine"]


def test_of_a_data_set_with_a_broken_file_nothing_stays(tmp_path):
    broken = files(tmp_path / "in", (8, 8), (8, 8), (8, 8))
    broken[2].write_text("hello")
    with pytest.raises(LabError, match=r"^2\.png: This file is not a complete picture"):
        pictures.keep_set(broken, "mine")
    assert list(pictures.sets_folder().iterdir()) == []


def test_a_data_set_is_not_overwritten(tmp_path):
    pair = files(tmp_path / "in", (8, 8), (8, 8))
    pictures.keep_set(pair, "mine")
    with pytest.raises(LabError, match="already a data set called 'mine'"):
        pictures.keep_set([*pair, *pair], "mine")
    assert len(list((pictures.sets_folder() / "mine").iterdir())) == 2


@pytest.mark.parametrize("name", ["", "..", "a/b", "A", "x" * 41])
def test_a_data_set_needs_a_plain_name(tmp_path, name):
    with pytest.raises(LabError, match="A name is 1 to 40"):
        pictures.keep_set(files(tmp_path / "in", (8, 8), (8, 8)), name)


def test_a_data_set_is_bounded(tmp_path, monkeypatch):
    one, *_ = pair = files(tmp_path / "in", (8, 8), (8, 8))
    for count in (0, 1, 2001):
        with pytest.raises(LabError, match="2 to 2000 images"):
            pictures.keep_set([one] * count, "mine")
    monkeypatch.setattr(pictures, "MAX_SETS", 1)
    pictures.keep_set(pair, "first")
    with pytest.raises(LabError, match="1 data sets are kept already"):
        pictures.keep_set(pair, "second")


# Painted pixels ------------------------------------------------------------------------------------------------------


def test_painting_puts_each_pixel_where_it_belongs():
    canvas = pictures.painting([[0, 1, "#ff8000"], (2, 0, "#00FF00")], 3)
    assert canvas.getpixel((0, 1)) == (255, 128, 0, 255)
    assert canvas.getpixel((2, 0)) == (0, 255, 0, 255)
    assert canvas.getpixel((1, 1)) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    "pixel",
    [
        None,
        7,
        "abc",
        [],
        [1, 2],
        [1, 2, "#ffffff", 4],
        [8, 0, "#ffffff"],
        [0, 8, "#ffffff"],
        [-1, 0, "#ffffff"],
        [1.5, 0, "#ffffff"],
        [float("nan"), 0, "#ffffff"],
        [float("inf"), 0, "#ffffff"],
        ["1", 0, "#ffffff"],
        [1, 0, "white"],
        [1, 0, "#fff"],
        [1, 0, "#ffffff\n"],
        [1, 0, 0xFFFFFF],
        [10**30, 0, "#ffffff"],
        {"x": 1},
        [True, False, "#ffffff"],
    ],
    ids=str,
)
def test_what_is_no_pixel_is_refused(pixel):
    with pytest.raises(LabError, match="A painted pixel is"):
        pictures.painting([[0, 0, "#ffffff"], pixel], 8)


@pytest.mark.parametrize("pixels", [None, 7, "abc", {"a": 1}, {1, 2}])
def test_what_is_no_list_is_refused(pixels):
    with pytest.raises(LabError, match="Painted pixels are a list"):
        pictures.painting(pixels, 8)


@pytest.mark.parametrize("size", [0, -1, 257, 10**9, 3.5, "8", None, float("nan"), True])
def test_what_is_no_canvas_is_refused(size):
    with pytest.raises(LabError, match="A canvas is"):
        pictures.painting([[0, 0, "#ffffff"]], size)


def test_more_pixels_than_the_canvas_has_are_refused():
    full = [[x, y, "#010203"] for x in range(4) for y in range(4)]
    assert pictures.painting(full, 4).getextrema() == ((1, 1), (2, 2), (3, 3), (255, 255))
    with pytest.raises(LabError, match="at most 16 pixels"):
        pictures.painting([*full, full[0]], 4)


def test_an_empty_painting_is_refused():
    with pytest.raises(LabError, match="Nothing is painted"):
        pictures.painting([], 8)


def test_home_is_the_tests_own(lab_home: Path):
    assert pictures.kept_folder() == lab_home / "pictures"
