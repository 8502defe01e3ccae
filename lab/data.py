"""Datasets: the shipped digits and faces, torchvision's, any Hub dataset with an image column, and folders of images."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from filelock import FileLock
from PIL import Image
from pydantic import Field, model_validator
from safetensors import SafetensorError, safe_open

from lab.borrowed import torch
from lab.captions import captions
from lab.errors import LabError, Unavailable, UnknownName
from lab.images import Images, split_indices, take
from lab.people import check_places
from lab.pictures import ENDINGS, check_name, read_named, set_names, sets_folder
from lab.places import ASSETS, beside, home
from lab.variants import Registry, Variant, unknown

if TYPE_CHECKING:
    from torch import Tensor

SPLITS = ("train", "held_out")
MAX_IMAGES = 200_000


class Dataset(Variant):
    """Images to train on or to judge by."""

    labelled: ClassVar[bool] = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of its images, known before they are loaded."""
        return 1, 32, 32

    def load(self, split: str = "train") -> Images:
        """All images of a split, `train` or `held_out`."""
        raise NotImplementedError


class Digits(Dataset):
    """5,000 real MNIST digits, shipped: 4,500 to train on, 500 to judge by; 32×32 grey."""

    kind = "digits"
    labelled = True

    def load(self, split: str = "train") -> Images:
        """Digits padded from 28×28 to 32×32 with black."""
        return _digits(check_split(split))


@lru_cache(maxsize=2)
def _digits(split: str) -> Images:
    path = ASSETS / "digits.safetensors"
    try:
        with safe_open(path, "pt") as file:
            pixels, labels, held_out = (file.get_tensor(name) for name in ("images", "labels", "held_out"))
    except (OSError, SafetensorError) as error:
        raise Unavailable(
            f"The shipped digits cannot be read ({error}); make them with assets/make_digits.py."
        ) from None
    chosen = held_out.bool() == (split == "held_out")
    padded = torch.nn.functional.pad(pixels[chosen], (2, 2, 2, 2))
    return Images(padded[:, None], labels[chosen].long())


class EmojiFaces(Dataset):
    """142 smileys, animal and creature faces of Noto Color Emoji, shipped; 32×32 in colour on white."""

    kind = "emoji"
    labelled = True

    @property
    def shape(self) -> tuple[int, int, int]:
        """In colour."""
        return 3, 32, 32

    def load(self, split: str = "train") -> Images:
        """Each face in its place and moved by a pixel along an axis to train on, moved diagonally to judge by.

        A mirror image counts as one of them too: training draws it half of the time, judging holds it beside.
        """
        pixels, labels = _faces()
        axis = [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0)]
        diagonal = [(1, 1), (1, -1), (-1, 1), (-1, -1)]
        if check_split(split) == "train":
            return Images(torch.cat([_moved(pixels, *by) for by in axis]), labels.repeat(5), flip=True)
        moved = torch.cat([_moved(pixels, *by) for by in diagonal])
        return Images(torch.cat([moved, moved.flip(-1)]), labels.repeat(8))


@lru_cache(maxsize=1)
def _faces() -> tuple[Tensor, Tensor]:
    path = ASSETS / "emoji.safetensors"
    try:
        with safe_open(path, "pt") as file:
            return file.get_tensor("images"), file.get_tensor("labels").long()
    except (OSError, SafetensorError) as error:
        raise Unavailable(
            f"The shipped emoji cannot be read ({error}); make them with assets/make_emoji.py."
        ) from None


def _moved(pixels: Tensor, down: int, right: int) -> Tensor:
    """Moved by whole pixels: a face has two white ones on each side, so that what comes round is white."""
    return pixels.roll((down, right), (-2, -1))


class TorchvisionDataset(Dataset):
    """A dataset that torchvision downloads."""

    labelled = True
    loader: ClassVar[str]
    flip: ClassVar[bool] = False
    side: ClassVar[int] = 32
    channels: ClassVar[int] = 1

    @property
    def shape(self) -> tuple[int, int, int]:
        """Padded to this side."""
        return self.channels, self.side, self.side

    def load(self, split: str = "train") -> Images:
        """Downloads once into the lab's own folder; train is the dataset's train split, held_out its test split."""
        dataset = _torchvision(self.loader, check_split(split) == "train")
        pixels = torch.as_tensor(np.asarray(dataset.data))
        pixels = pixels.permute(0, 3, 1, 2) if pixels.ndim == 4 else pixels[:, None]
        border = (self.side - pixels.shape[-1]) // 2
        pixels = torch.nn.functional.pad(pixels, (border,) * 4)
        return Images(pixels.contiguous(), torch.as_tensor(dataset.targets).long(), self.flip)


def _torchvision(loader: str, train: bool) -> Any:
    from torchvision import datasets

    folder = home() / "datasets" / loader
    done = folder / f"complete-{'train' if train else 'test'}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(beside(folder.parent) / f"{loader}.lock"):  # of several processes one downloads
        try:
            dataset = getattr(datasets, loader)(str(folder), train=train, download=not done.exists())
        except (OSError, RuntimeError, ValueError, HTTPException) as error:
            # Half a download or a damaged file would be refused each time; both splits share their files.
            shutil.rmtree(folder, ignore_errors=True)
            raise Unavailable(
                f"{loader} could not be downloaded ({_first_line(error)}); the shipped 'digits' need no network."
            ) from None
        done.touch()
    return dataset


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160].rstrip(".")


class Mnist(TorchvisionDataset):
    """All 70,000 MNIST digits, downloaded; padded to 32×32 grey."""

    kind = "mnist"
    loader = "MNIST"


class FashionMnist(TorchvisionDataset):
    """70,000 pictures of clothes (Fashion-MNIST, arXiv:1708.07747), downloaded; padded to 32×32 grey."""

    kind = "fashion_mnist"
    loader = "FashionMNIST"
    flip = True


class Cifar10(TorchvisionDataset):
    """60,000 photographs in 10 classes (CIFAR-10), downloaded; 32×32 colour."""

    kind = "cifar10"
    loader = "CIFAR10"
    channels = 3
    flip = True


class Cifar100(TorchvisionDataset):
    """60,000 photographs in 100 classes (CIFAR-100), downloaded; 32×32 colour."""

    kind = "cifar100"
    loader = "CIFAR100"
    channels = 3
    flip = True


class SizedDataset(Dataset):
    """A dataset whose images are brought to one size."""

    side: int = Field(
        default=32,
        ge=8,
        le=256,
        description="images are cropped to a square and resized to this side, pixels",
    )
    colour: bool = Field(default=True, description="three channels; off means grey")
    flip: bool = Field(default=True, description="a mirror image is one of them too")
    held_out: float = Field(
        default=0.1, gt=0, lt=1, description="share kept for judging, chosen by a fixed seed"
    )

    @property
    def shape(self) -> tuple[int, int, int]:
        """As the options say."""
        return 3 if self.colour else 1, self.side, self.side

    def whole(self) -> Images:
        """All images, before any are kept apart."""
        raise NotImplementedError

    def load(self, split: str = "train") -> Images:
        """The images of a split, chosen by a fixed seed."""
        kept = check_split(split)
        images = self.whole()
        return take(images, split_indices(len(images), self.held_out, kept))

    def _gathered(self, pictures: Iterable[Image.Image], said: list[str] | None) -> Images:
        """All of them; what is said of each, by the first letters, makes the classes."""
        pixels = [self._square(picture) for picture in pictures]  # one by one: large pictures do not pile up
        if len(pixels) < 2:
            raise LabError("A dataset needs at least two images.")
        names = tuple(sorted(set(said or ())))
        labels = torch.tensor([names.index(words) for words in said]) if said else None
        return Images(torch.stack(pixels), labels, self.flip, names=names)

    def _below(self, root: Path) -> Images:
        files = sorted(file for file in root.rglob("*") if file.suffix.lower() in ENDINGS and file.is_file())
        if len(files) > MAX_IMAGES:
            raise LabError(f"{root.name} holds {len(files)} images; at most {MAX_IMAGES} are read.")
        return self._gathered((read_named(file.name, file) for file in files), captions(files, root))

    def _square(self, picture: Image.Image) -> Tensor:
        side = min(picture.size)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        picture = picture.convert("RGB" if self.colour else "L").crop((left, top, left + side, top + side))
        array = np.asarray(picture.resize((self.side, self.side), Image.Resampling.BILINEAR))
        return torch.from_numpy(array.copy()).reshape(self.side, self.side, -1).permute(2, 0, 1)


class HubDataset(SizedDataset):
    """Any dataset of the Hugging Face Hub with an image column (CelebA-HQ, LSUN bedroom, …), downloaded."""

    kind = "hub"
    repo: str = Field(
        default="", max_length=120, pattern=r"^(\w[\w.-]*/\w[\w.-]*)?$", description="dataset id, owner/name"
    )
    revision: str = Field(
        default="main", max_length=60, pattern=r"^[\w./-]+$", description="branch, tag or commit"
    )
    column: str = Field(default="image", max_length=80, description="name of the image column")
    limit: int = Field(default=20_000, ge=2, le=MAX_IMAGES, description="at most this many images")

    def whole(self) -> Images:
        """The images of the dataset's own train split; no remote code is run."""
        if not self.repo:
            raise LabError("Name the Hub dataset, for example repo=owner/name.")
        return self._gathered(self._pictures(), None)

    def _pictures(self) -> Iterator[Image.Image]:
        if importlib.util.find_spec("datasets") is None:
            raise Unavailable("Hub datasets need the 'datasets' package: pip install datasets.")
        from datasets import load_dataset  # pyright: ignore[reportMissingImports]  # optional

        try:
            stream = load_dataset(self.repo, revision=self.revision, split="train", streaming=True)
            for row in stream.take(self.limit):
                yield self._picture(row)
        except LabError:
            raise
        except Exception as error:  # of datasets, of the Hub, of pyarrow, of the network
            raise Unavailable(f"{self.repo} could not be loaded ({_first_line(error)}).") from None

    def _picture(self, row: Mapping[str, Any]) -> Image.Image:
        if self.column not in row:
            raise LabError(f"{self.repo} has no column {self.column!r}; there are {', '.join(sorted(row))}.")
        if not isinstance(row[self.column], Image.Image):
            raise LabError(f"Column {self.column!r} of {self.repo} does not hold images.")
        return row[self.column]


class Folder(SizedDataset):
    """A folder of your own images; sub-folders, where there are any, are the classes."""

    kind = "folder"
    path: str = Field(
        default="", max_length=4096, description="folder with PNG, JPEG, WebP, BMP or GIF files"
    )

    @model_validator(mode="after")
    def _is_named_by_the_operator(self) -> Folder:
        """Checked when it is named, since the worker that opens it may open everything."""
        if self.path:
            check_places()
        return self

    def whole(self) -> Images:
        """All pictures below the folder, sorted by name; a broken one stops the loading with its name."""
        root = Path(self.path).expanduser()
        if not self.path or not root.is_dir():
            raise LabError(f"{self.path or 'The empty path'!r} is not a folder of images.")
        return self._below(root)


class Uploaded(SizedDataset):
    """Images of your own, uploaded on the page and kept under a name."""

    kind = "uploaded"
    name: str = Field(
        default="",
        title="data set",
        max_length=40,
        description="name of the data set",
        json_schema_extra={"widget": "own"},
    )

    def whole(self) -> Images:
        """The images kept under this name; raises UnknownName with the nearest name."""
        root = sets_folder() / check_name(self.name)
        if not root.is_dir():
            raise UnknownName(unknown("data set of your own", self.name, set_names()))
        return self._below(root)


DATASETS: Registry[Dataset] = Registry(
    "dataset", Digits, EmojiFaces, Mnist, FashionMnist, Cifar10, Cifar100, HubDataset, Folder, Uploaded
)


def check_split(split: str) -> str:
    """`train` or `held_out`; anything else is refused."""
    if split not in SPLITS:
        raise LabError(f"A split is train or held_out; got {str(split)[:40]!r}.")
    return split
