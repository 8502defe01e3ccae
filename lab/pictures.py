"""Pictures in and out: bounded reading of untrusted files, exact pixel values, and the store of named pictures."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageColor, ImageOps, UnidentifiedImageError

from lab import archives
from lab.borrowed import torch
from lab.errors import BadPicture, LabError, UnknownName
from lab.people import who
from lab.places import ASSETS
from lab.variants import unknown

if TYPE_CHECKING:
    from torch import Tensor

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
ENDINGS = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif"}
MAX_BYTES = 4 * 2**20
MAX_SIDE = 4096  # checked on the header, before any pixel is decoded
MAX_KEPT = 500  # pictures of one's own: a shared lab must not fill its disk
MAX_SETS, MAX_SET = 20, 2000  # data sets of one's own, and images in each
IN_A_ZIP = archives.Limits(file=MAX_BYTES, count=MAX_SET)
SET_SIDE = 256  # no network of the lab takes larger images
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")


def read_picture(source: Path | bytes) -> Image.Image:
    """A picture from a file or bytes, at most 4 MiB and 4096 pixels a side, as RGBA.

    Raises BadPicture for anything else; the size is read from the header before pixels are decoded.
    """
    data = _bounded_bytes(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            _check_sides(image.size)
            return image.convert("RGBA")
    except BadPicture:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BadPicture(f"This picture is larger than {MAX_SIDE} pixels a side.") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError, Warning) as error:
        raise BadPicture(
            f"This file is not a complete picture ({type(error).__name__}); PNG, JPEG, WebP, BMP and GIF are read."
        ) from None


def _bounded_bytes(source: Path | bytes) -> bytes:
    if isinstance(source, Path):
        if not source.is_file():
            raise BadPicture(f"There is no picture file {source.name!r}.")
        with source.open("rb") as file:
            source = file.read(MAX_BYTES + 1)
    if len(source) > MAX_BYTES:
        raise BadPicture(f"This picture file is larger than {MAX_BYTES // 2**20} MiB.")
    return source


def _check_sides(size: tuple[int, int]) -> None:
    if max(size) > MAX_SIDE or min(size) < 1:
        raise BadPicture(
            f"This picture is {size[0]}×{size[1]} pixels; at most {MAX_SIDE}×{MAX_SIDE} are read."
        )


def to_values(image: Image.Image, channels: int) -> Tensor:
    """8-bit picture to (C, H, W) float32 with the authors' normalisation 2·(u/255)/(1 + 1e-5) - 1.

    0 becomes exactly -1 and 255 becomes 0.99998; alpha is dropped. channels: 1 (grey) or 3 (RGB).
    """
    array = np.asarray(image.convert("L" if channels == 1 else "RGB"), dtype=np.float32)
    values = 2 * (torch.from_numpy(array.copy()) / 255) / (1 + 1e-5) - 1
    return values.reshape(*array.shape[:2], -1).permute(2, 0, 1).contiguous()


def to_bytes(images: Tensor) -> np.ndarray:
    """(…, C, H, W) in [-1, 1] to uint8 (…, H, W, C), clamped and rounded."""
    scaled = ((images.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return scaled.movedim(-3, -1).cpu().numpy()


def to_image(image: Tensor) -> Image.Image:
    """One (C, H, W) tensor in [-1, 1] as a picture; one channel becomes grey."""
    array = to_bytes(image)
    return Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)


def tile(images: Tensor, columns: int, gap: int = 1) -> Image.Image:
    """(N, C, H, W) in [-1, 1] as one picture of `columns` columns with a thin gap, pixel for pixel."""
    array = to_bytes(images)
    n, h, w, c = array.shape
    rows = -(-n // columns)
    sheet = np.full((rows * (h + gap) - gap, columns * (w + gap) - gap, c), 127, dtype=np.uint8)
    for k, image in enumerate(array):
        y, x = (k // columns) * (h + gap), (k % columns) * (w + gap)
        sheet[y : y + h, x : x + w] = image
    return Image.fromarray(sheet[..., 0] if c == 1 else sheet)


def png(image: Image.Image) -> bytes:
    """The picture as lossless PNG bytes."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


JPEG = b"\xff\xd8"  # how its bytes begin


def jpeg(image: Image.Image) -> bytes:
    """The picture as JPEG bytes, with every pixel's own colour."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85, subsampling=0)
    return buffer.getvalue()


def columns(n: int) -> int:
    """Images beside each other in a grid of n: at most eight."""
    return min(8, n)


def sheet(images: Tensor) -> bytes:
    """Images as one lossless PNG, pixel for pixel."""
    return png(tile(images, columns(len(images))))


def glimpse(images: Tensor) -> bytes:
    """Images as one JPEG, which shows them in a film at a quarter of the size; numbers are never taken from it."""
    return jpeg(tile(images, columns(len(images))))


def uri(picture: bytes) -> str | None:
    """PNG or JPEG bytes as a data URI."""
    kind = "jpeg" if picture.startswith(JPEG) else "png"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}" if picture else None


def write_atomically(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write to a temporary name beside `path`, then rename: a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, mode)  # mkstemp makes files that only their owner can read
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


# The store of named pictures -------------------------------------------------------------------------------------


def shipped(name: str) -> Image.Image:
    """One of the lab's own drawings in assets/pictures."""
    return read_picture(ASSETS / "pictures" / f"{name}.png")


def kept_folder() -> Path:
    """Where pictures of one's own are kept."""
    return who().home / "pictures"


def kept_names() -> list[str]:
    """Names of the pictures of one's own, newest first."""
    files = sorted(kept_folder().glob("*.png"), key=lambda file: (-file.stat().st_mtime, file.stem))
    return [file.stem for file in files]


def kept(name: str) -> Image.Image:
    """A picture of one's own by name; raises UnknownName with the nearest name."""
    path = kept_folder() / f"{check_name(name)}.png"
    if not path.is_file():
        raise UnknownName(unknown("picture of your own", name, kept_names()))
    return read_picture(path)


def keep(image: Image.Image, name: str = "") -> str:
    """Keep a picture under a name and return the name; the same name with other pixels is refused.

    Without a name it gets one made from its pixels, so that equal pictures share it and links stay true.
    """
    data = png(image)
    name = check_name(name) if name else f"picture-{hashlib.sha256(data).hexdigest()[:10]}"
    path = kept_folder() / f"{name}.png"
    if path.exists() and path.read_bytes() != data:
        raise LabError(f"There is already another picture called {name!r}; choose a different name.")
    if not path.exists() and len(kept_names()) >= MAX_KEPT:
        raise LabError(f"{MAX_KEPT} pictures are kept already; delete one in {kept_folder().name}/ first.")
    write_atomically(path, data)
    return name


def sets_folder() -> Path:
    """Where uploaded data sets are kept, a folder each."""
    return who().home / "uploads"


def set_names() -> list[str]:
    """Names of the uploaded data sets."""
    return sorted(path.name for path in sets_folder().glob("*") if NAME.fullmatch(path.name))


def keep_set(files: Sequence[Path], name: str) -> str:
    """Keep picture files as a data set under a name: 2 to 2,000 of them, cropped to squares of at most 256 pixels.

    A zip file stands for the pictures in it, whatever folders they lie in. All or nothing: a file that is no picture
    is named, and nothing of the others stays.
    """
    folder = sets_folder() / check_name(name)
    if folder.exists():
        raise LabError(f"There is already a data set called {name!r}; choose a different name.")
    if len(set_names()) >= MAX_SETS:
        raise LabError(f"{MAX_SETS} data sets are kept already; delete one in {sets_folder().name}/ first.")
    with ExitStack() as open_files:
        found = [picture for file in files for picture in _pictures_in(file, open_files)]
        if not 2 <= len(found) <= MAX_SET:
            raise LabError(f"A data set has 2 to {MAX_SET} images; these are {len(found)}.")
        _write_set(found, folder)
    return name


Reader = Callable[[], Path | bytes]  # what read_picture takes, got when its turn has come


def _pictures_in(file: Path, open_files: ExitStack) -> list[tuple[str, Reader]]:
    """Name and reader of each picture: the file itself, or what a zip file holds."""
    if file.suffix.lower() != ".zip":
        return [(file.name, lambda: file)]
    archive = open_files.enter_context(archives.opened(file, IN_A_ZIP))
    found = archives.pictures_of(archive, ENDINGS, IN_A_ZIP)
    return [(Path(info.filename).name, partial(archives.unpacked, archive, info)) for info in found]


def _write_set(found: Sequence[tuple[str, Reader]], folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as temporary:
        half_written = Path(temporary) / folder.name
        half_written.mkdir()
        for k, (name, read) in enumerate(found):
            (half_written / f"{k:05d}.png").write_bytes(png(_square(read_named(name, read()))))
        os.replace(half_written, folder)


def read_named(name: str, source: Path | bytes) -> Image.Image:
    """A picture from a file or bytes; what is wrong with it is said with its name."""
    try:
        return read_picture(source)
    except BadPicture as error:
        raise LabError(f"{name}: {error}") from None


def _square(picture: Image.Image) -> Image.Image:
    side = min(*picture.size, SET_SIDE)
    return ImageOps.fit(picture, (side, side), Image.Resampling.BILINEAR)


def check_name(name: str) -> str:
    """A name made of a-z, 0-9, - and _, at most 40 characters; anything else is refused."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise LabError(f"A name is 1 to 40 of a-z, 0-9, - and _; got {str(name)[:60]!r}.")
    return name


def painting(pixels: Iterable[Sequence], size: int) -> Image.Image:
    """Painted pixels [[x, y, '#rrggbb'], …] on a transparent size×size canvas, as RGBA."""
    if type(size) is not int or not 1 <= size <= 256:  # True is an int too
        raise LabError(f"A canvas is 1 to 256 pixels a side; got {str(size)[:20]!r}.")
    canvas = Image.new("RGBA", (size, size))
    for count, pixel in enumerate(_pixels(pixels)):
        if count >= size * size:
            raise LabError(f"A {size}×{size} canvas takes at most {size * size} pixels.")
        canvas.putpixel(*_checked_pixel(pixel, size))
    if not canvas.getchannel("A").getextrema()[1]:
        raise LabError("Nothing is painted yet; paint at least one pixel.")
    return canvas


def _pixels(pixels: object) -> list:
    if not isinstance(pixels, list | tuple):
        raise LabError("Painted pixels are a list of [x, y, '#rrggbb'].")
    return list(pixels)


def _checked_pixel(pixel: object, size: int) -> tuple[tuple[int, int], tuple[int, ...]]:
    match pixel:
        case [int(x), int(y), str(colour)] if (
            type(x) is type(y) is int
            and 0 <= x < size
            and 0 <= y < size
            and re.fullmatch("#[0-9a-fA-F]{6}", colour)
        ):
            return (x, y), (*ImageColor.getrgb(colour), 255)
    raise LabError(
        f"A painted pixel is [x, y, '#rrggbb'] with x and y below {size}; got {str(pixel)[:60]!r}."
    )
