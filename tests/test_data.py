"""Datasets: the shipped digits, the poisoned set, folders, and downloads that fail cleanly."""

from __future__ import annotations

import importlib.machinery
import sys
import types
from http.client import BadStatusLine, IncompleteRead
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lab.data import DATASETS, Digits, EmojiFaces, Folder, HubDataset
from lab.errors import LabError, Unavailable, UnknownName
from lab.images import Images, poisoned_indices, split_indices
from lab.pictures import keep_set

DOWNLOADED = ("mnist", "fashion_mnist", "cifar10", "cifar100")


def picture(path: Path, colour: str = "red", size: tuple[int, int] = (30, 20)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


class FakeHub:
    """A 'datasets' package in memory, so that no test touches the network."""

    def __init__(self, rows: list[dict[str, Any]], error: Exception | None = None):
        self.rows, self.error, self.asked = rows, error, {}

    def load_dataset(self, repo: str, **options: Any) -> FakeHub:
        self.asked = {"repo": repo, **options}
        if self.error:
            raise self.error
        return self

    def take(self, n: int) -> list[dict[str, Any]]:
        return self.rows[:n]

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        package = types.ModuleType("datasets")
        package.__spec__ = importlib.machinery.ModuleSpec("datasets", None)
        package.load_dataset = self.load_dataset  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "datasets", package)


# Emoji faces -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("split", "n", "flip"), [("train", 142 * 5, True), ("held_out", 142 * 8, False)])
def test_faces_are_in_colour_on_white_with_labels(split, n, flip):
    images = EmojiFaces().load(split)
    assert (len(images), images.shape, images.flip) == (n, (3, 32, 32), flip)
    for edge in (
        images.pixels[..., 0, :],
        images.pixels[..., -1, :],
        images.pixels[..., 0],
        images.pixels[..., -1],
    ):
        assert (edge == 255).all()
    assert images.pixels.float().std(1).mean() > 5
    share = images.labels.bincount()
    assert (share * 142 // n).tolist() == [96, 35, 11]


def test_no_face_is_judged_where_it_was_learned():
    train, held_out = (
        {row.numpy().tobytes() for row in EmojiFaces().load(s).pixels} for s in ("train", "held_out")
    )
    assert len(train) == 142 * 5
    assert not train & held_out


def test_a_moved_face_is_the_same_face():
    train = EmojiFaces().load("train").pixels
    assert torch.equal(train[142][:, 5:20, 6:21], train[0][:, 5:20, 5:20])


@pytest.mark.parametrize("kind", ["digits", "emoji"])
def test_a_shipped_data_set_says_its_shape_before_it_is_loaded(kind):
    assert DATASETS.parse(kind).shape == DATASETS.parse(kind).load("held_out").shape


@pytest.mark.parametrize(
    ("kind", "shape"), [("mnist", (1, 32, 32)), ("cifar10", (3, 32, 32)), ("cifar100", (3, 32, 32))]
)
def test_a_download_says_its_shape_before_it_is_loaded(kind, shape):
    assert DATASETS.parse(kind).shape == shape


# Digits --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("split", "n"), [("train", 4500), ("held_out", 500)])
def test_digits_are_split_for_good(split, n):
    images = Digits().load(split)
    assert len(images) == n
    assert images.shape == (1, 32, 32)
    assert not images.flip
    assert torch.equal(images.pixels, Digits().load(split).pixels)


def test_each_digit_is_held_out_fifty_times():
    assert Digits().load("held_out").labels.bincount().tolist() == [50] * 10
    assert Digits().load("train").labels.bincount().tolist() == [450] * 10


def test_no_digit_is_in_both_splits():
    train, held_out = (
        {row.numpy().tobytes() for row in Digits().load(s).pixels} for s in ("train", "held_out")
    )
    assert not train & held_out


def test_digits_are_in_range_and_their_border_is_exactly_black():
    x = Digits().load("held_out").values()
    assert x.dtype == torch.float32
    assert float(x.min()) == -1.0
    assert 0.99 < float(x.max()) < 1.0
    inner = torch.zeros(32, 32, dtype=torch.bool)
    inner[2:30, 2:30] = True
    assert (x[..., ~inner] == -1.0).all()


def test_values_of_chosen_images():
    images = Digits().load("held_out")
    assert torch.equal(images.values(torch.tensor([3, 1])), images.values()[[3, 1]])


def test_digest_names_the_pixels(specks):
    other = Images(specks.pixels.clone())
    assert specks.digest() == other.digest()
    other.pixels[0, 0, 0, 0] ^= 1
    assert specks.digest() != other.digest()
    assert len(specks.digest()) == 16


@pytest.mark.parametrize("split", ["test", "", None, 3])
def test_unknown_split_is_refused(split):
    with pytest.raises(LabError, match="train or held_out"):
        Digits().load(split)


# Poisoned and held-out sets ------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(1, 5000), st.floats(0, 1), st.integers(0, 2**31 - 1))
def test_poisoned_set_has_exactly_its_share(n, rate, seed):
    chosen = poisoned_indices(n, rate, seed)
    assert len(chosen) == int(n * rate) == len(chosen.unique())
    assert all(0 <= k < n for k in chosen.tolist())
    assert torch.equal(chosen, poisoned_indices(n, rate, seed))


def test_other_seeds_poison_other_images():
    sets = {tuple(poisoned_indices(4500, 0.1, seed).tolist()) for seed in range(10)}
    assert len(sets) == 10


def test_a_larger_rate_poisons_the_same_images_and_more():
    assert set(poisoned_indices(1000, 0.1, 0).tolist()) < set(poisoned_indices(1000, 0.2, 0).tolist())


@given(st.integers(2, 500), st.floats(0.001, 0.999))
def test_split_takes_every_image_once(n, share):
    train, held_out = split_indices(n, share, "train"), split_indices(n, share, "held_out")
    assert sorted(torch.cat([train, held_out]).tolist()) == list(range(n))
    assert len(train) >= 1 and len(held_out) >= 1


# Folders -------------------------------------------------------------------------------------------------------------


def test_sub_folders_are_classes(tmp_path):
    for k in range(6):
        picture(tmp_path / f"{'cats' if k % 2 else 'dogs'}/{k}.png", "white" if k % 2 else "black")
    dataset = Folder(path=str(tmp_path), side=16, held_out=0.34)
    train, held_out = dataset.load("train"), dataset.load("held_out")
    assert (len(train), len(held_out)) == (4, 2)
    assert train.shape == (3, 16, 16)
    assert train.flip
    for images in (train, held_out):
        assert images.labels.tolist() == [0 if pixel == 255 else 1 for pixel in images.pixels[:, 0, 0, 0]]


def test_a_flat_folder_has_no_classes(tmp_path):
    picture(tmp_path / "a.png"), picture(tmp_path / "b.jpg")
    (tmp_path / "notes.txt").write_text("not an image")
    images = Folder(path=str(tmp_path), colour=False, flip=False, side=8).load()
    assert images.labels is None
    assert images.shape == (1, 8, 8)
    assert not images.flip


def test_the_middle_square_is_taken(tmp_path):
    wide = Image.new("RGB", (30, 10), "black")
    wide.paste("white", (10, 0, 20, 10))
    for name in "ab":
        wide.save(tmp_path / f"{name}.png")
    assert (Folder(path=str(tmp_path), side=8).load().pixels == 255).all()


def test_a_broken_file_is_named(tmp_path):
    picture(tmp_path / "a.png")
    (tmp_path / "broken.png").write_text("text")
    with pytest.raises(LabError, match=r"^broken\.png: This file is not a complete picture"):
        Folder(path=str(tmp_path)).load()


@pytest.mark.parametrize("path", ["", "nowhere", "a\x00b"])
def test_what_is_no_folder_is_refused(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LabError, match="not a folder of images"):
        Folder(path=path).load()


def test_one_image_is_not_enough(tmp_path):
    picture(tmp_path / "a.png")
    with pytest.raises(LabError, match="at least two"):
        Folder(path=str(tmp_path)).load()


def test_too_many_files_are_refused_before_reading(tmp_path, monkeypatch):
    monkeypatch.setattr("lab.data.MAX_IMAGES", 2)
    for k in range(3):
        (tmp_path / f"{k}.png").write_text("never read")
    with pytest.raises(LabError, match="holds 3 images; at most 2"):
        Folder(path=str(tmp_path)).load()


# Downloads that fail -------------------------------------------------------------------------------------------------


def half_a_download(url: Any, filename: Any, *_: Any, **__: Any) -> None:
    Path(filename).write_bytes(b"half a file")
    raise URLError("Network is unreachable")


def test_an_uploaded_data_set_is_loaded_by_its_name(tmp_path):
    for k in range(10):
        Image.new("RGB", (20, 20), (20 * k, 0, 0)).save(tmp_path / f"{k}.png")
    keep_set(sorted(tmp_path.glob("*.png")), "reds")
    images = DATASETS.parse({"kind": "uploaded", "name": "reds", "side": 8, "held_out": 0.2}).load()
    assert images.pixels.shape == (8, 3, 8, 8)
    assert set(images.pixels[:, 0].flatten().tolist()) <= {20 * k for k in range(10)}
    with pytest.raises(UnknownName, match="did you mean 'reds'"):
        DATASETS.parse({"kind": "uploaded", "name": "red"}).load()
    with pytest.raises(LabError, match="A name is"):
        DATASETS.parse({"kind": "uploaded", "name": "../reds"}).load()


@pytest.mark.parametrize("kind", DOWNLOADED)
def test_without_network_nothing_half_written_stays(kind, lab_home, monkeypatch):
    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", half_a_download)
    with pytest.raises(Unavailable) as caught:
        DATASETS.parse(kind).load()
    assert "could not be downloaded" in str(caught.value)
    assert str(caught.value).count("\n") == 0
    assert not [path for path in lab_home.rglob("*") if path.is_file() and path.suffix != ".lock"]


@pytest.mark.parametrize("kind", DOWNLOADED)
def test_a_closed_proxy_gives_the_same_sentence(kind, lab_home, monkeypatch):
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setattr("urllib.request._opener", None)  # it remembers the proxies of its first use
    with pytest.raises(Unavailable, match="could not be downloaded"):
        DATASETS.parse(kind).load()
    assert not [path for path in lab_home.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_a_wrong_download_is_not_kept(lab_home, monkeypatch):
    monkeypatch.setattr(
        "torchvision.datasets.utils._urlretrieve", lambda url, filename, *_: Path(filename).write_bytes(b"?")
    )
    with pytest.raises(Unavailable):
        DATASETS.parse("cifar10").load()
    assert not [path for path in lab_home.rglob("*") if path.is_file() and path.suffix != ".lock"]


@pytest.mark.parametrize("error", [IncompleteRead(b"half"), BadStatusLine("?")], ids=repr)
def test_a_broken_connection_gets_the_same_sentence(error, lab_home, monkeypatch):
    def broken(url, filename, *_):
        Path(filename).write_bytes(b"half")
        raise error

    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", broken)
    with pytest.raises(Unavailable, match="could not be downloaded"):
        DATASETS.parse("cifar10").load()
    assert not [path for path in lab_home.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_a_damaged_download_is_taken_away_so_that_the_next_try_repairs_it(lab_home):
    folder = lab_home / "datasets" / "CIFAR10"
    folder.mkdir(parents=True)
    (folder / "complete-train").touch()
    (folder / "cifar-10-python.tar.gz").write_bytes(b"damaged")
    with pytest.raises(Unavailable):
        DATASETS.parse("cifar10").load()
    assert not folder.exists()


def test_hub_needs_a_name():
    with pytest.raises(LabError, match="repo=owner/name"):
        HubDataset().load()


def test_hub_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(Unavailable, match="pip install datasets"):
        HubDataset(repo="some/thing").load()


def test_hub_without_network_gets_one_sentence(monkeypatch):
    FakeHub([], ConnectionError("no route to host\nlong\ntrace")).install(monkeypatch)
    with pytest.raises(Unavailable, match=r"some/thing could not be loaded \(no route to host\)\.$"):
        HubDataset(repo="some/thing").load()


def test_hub_streams_the_column_and_revision_asked_for(monkeypatch):
    rows = [{"photo": Image.new("RGB", (9, 9)), "id": k} for k in range(10)]
    hub = FakeHub(rows)
    hub.install(monkeypatch)
    dataset = HubDataset(repo="some/thing", revision="v1", column="photo", side=8, limit=5, held_out=0.2)
    assert dataset.load().pixels.shape == (4, 3, 8, 8)
    assert hub.asked == {"repo": "some/thing", "revision": "v1", "split": "train", "streaming": True}


def test_hub_names_the_columns_there_are(monkeypatch):
    FakeHub([{"photo": 1, "id": 2}]).install(monkeypatch)
    with pytest.raises(LabError, match="no column 'image'; there are id, photo"):
        HubDataset(repo="some/thing").load()
    with pytest.raises(LabError, match="does not hold images"):
        HubDataset(repo="some/thing", column="id").load()


@pytest.mark.parametrize("repo", ["../x", "a/b/c", "a b/c", "https://x/y", "noslash"])
def test_what_is_no_hub_name_is_refused(repo):
    with pytest.raises(LabError, match=r"^repo "):
        DATASETS.parse({"kind": "hub", "repo": repo})
