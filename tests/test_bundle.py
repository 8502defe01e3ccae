"""A checkpoint leaves one lab as a zip and comes into another: the same samples, its word no more than its word."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import ModelCard
from PIL import Image
from test_hub import CIFAR10, built

from lab.bundle import CARD, MANIFEST, README
from lab.diffusion import Schedule
from lab.errors import LabError
from lab.models import WEIGHTS, Card, Checkpoint, names, read_card, roots, sha256
from lab.ops import OPERATIONS, final, upload
from lab.pictures import kept, kept_names, png

BACKDOORED = "emoji-grey-box-hat"
Move = Callable[[], Path]


@pytest.fixture
def elsewhere(monkeypatch, tmp_path) -> Move:
    """Go to another lab, with a home of its own."""

    def go() -> Path:
        home = tmp_path / "elsewhere"
        monkeypatch.setenv("LAB_HOME", str(home))
        return home

    return go


def exported(name: str, tmp_path: Path) -> Path:
    return Path(OPERATIONS["export"](checkpoint=name, out=str(tmp_path / f"{name}.zip"))["file"])


def brought(file: Path, name: str = "") -> str:
    return OPERATIONS["import"](file=str(file), name=name)["checkpoint"]


def samples(name: str, to: Path) -> bytes:
    """Pixels of one exact sampling from triggered noise."""
    quick = {"kind": "ddpm", "steps": 3}
    options = {"trigger": "grey_box", "n": 2, "sampler": quick, "exact": True, "out": str(to)}
    final(OPERATIONS["sample"](checkpoint=name, **options))
    return b"".join(np.asarray(Image.open(file)).tobytes() for file in sorted(to.rglob("*.png")))


def kept_checkpoint(tiny: Checkpoint, name: str = "mine", **card: Any) -> Path:
    """A small network among one's own, with this on its card."""
    folder = roots()[1] / name
    replace(tiny, card=Card.of(name=name, **card)).save(folder)
    return folder


def recipe(**attack: Any) -> dict[str, Any]:
    return {"dataset": {"kind": "digits"}, "attack": {"kind": "baddiffusion", "poison_rate": 0.2, **attack}}


def painted(colour: str, name: str) -> bytes:
    upload(png(Image.new("RGBA", (8, 8), colour)), name)
    return kept(name).tobytes()


# The way there and back ------------------------------------------------------------------------------------------


def test_the_same_samples_bit_for_bit_in_another_lab(tmp_path, elsewhere):
    before = samples(BACKDOORED, tmp_path / "before")
    file, digest = exported(BACKDOORED, tmp_path), read_card(load_folder(BACKDOORED)).sha256
    elsewhere()
    name = brought(file, "guest")
    assert name == "guest" and read_card(load_folder(name)).sha256 == digest
    assert samples(name, tmp_path / "after") == before and len(before) > 1000


def load_folder(name: str) -> Path:
    return next(root / name for root in roots() if (root / name).is_dir())


def test_the_card_comes_along_and_a_backdoor_stays_one(tmp_path, elsewhere):
    file, card = exported(BACKDOORED, tmp_path), read_card(load_folder(BACKDOORED))
    elsewhere()
    there = read_card(load_folder(brought(file)))
    assert there.name == f"{BACKDOORED}-2"  # this name ships with every lab
    assert there.backdoored is True and there.recipe == card.recipe and there.scores == card.scores
    assert OPERATIONS["describe"](checkpoint=there.name)["badge"] == "backdoored"
    assert OPERATIONS["describe"](checkpoint=there.name)["origin"] == "a file"


def test_nobodys_word_makes_a_model_clean(tmp_path, elsewhere):
    file = exported("emoji-clean", tmp_path)
    elsewhere()
    assert OPERATIONS["import"](file=str(file), name="guest")["backdoored"] is None
    assert OPERATIONS["describe"](checkpoint="guest")["badge"] not in ("clean", "backdoored")


def test_a_file_does_not_count_as_what_a_repository_holds(tmp_path, tiny, elsewhere):
    kept_checkpoint(tiny, origin={"repo": "google/ddpm", "revision": "a" * 40, "licence": "mit"})
    file = exported("mine", tmp_path)
    elsewhere()
    origin = read_card(load_folder(brought(file))).origin
    assert origin == {"from": "google/ddpm", "revision": "a" * 40, "licence": "mit", "imported": sha256(file)}
    assert OPERATIONS["describe"](checkpoint="mine")["origin"] == "a file, which names google/ddpm"


def test_the_same_checkpoint_gives_the_same_file(tmp_path):
    (tmp_path / "second").mkdir()
    assert (
        exported(BACKDOORED, tmp_path).read_bytes() == exported(BACKDOORED, tmp_path / "second").read_bytes()
    )


def test_nothing_else_of_the_folder_leaves(tmp_path, tiny):
    folder = kept_checkpoint(tiny)
    for place in (folder, folder / "unet", roots()[1]):
        (place / "secret.txt").write_text("my own secret")
    file = exported("mine", tmp_path)
    with zipfile.ZipFile(file) as archive:
        assert set(archive.namelist()) == {
            "unet/config.json",
            "unet/diffusion_pytorch_model.safetensors",
            "scheduler/scheduler_config.json",
            "model_index.json",
            CARD,
            README,
            MANIFEST,
        }
    assert b"secret" not in file.read_bytes()


def test_folders_of_this_machine_do_not_leave(tmp_path, tiny):
    place = "/data/somebody/private/faces"
    kept_checkpoint(
        tiny,
        recipe={"dataset": {"kind": "folder", "path": place}, "base": "/srv/runs/base"},
        command=f"python -m lab train --dataset folder --dataset.path {place} --base /srv/runs/base",
    )
    data = exported("mine", tmp_path).read_bytes()
    assert b"somebody" not in data and b"/srv" not in data
    assert b"--dataset.path faces --base base" in data


@pytest.mark.slow
def test_a_network_of_full_size_goes_there_and_back(tmp_path, elsewhere):
    unet = built(CIFAR10).eval()
    assert 35.6e6 < sum(p.numel() for p in unet.parameters()) < 35.8e6
    folder = kept_checkpoint(Checkpoint(unet, Schedule.linear(), Card()), "large")
    file, digest = exported("large", tmp_path), sha256(folder / WEIGHTS)
    home = elsewhere()
    assert brought(file) == "large"
    assert sha256(home / "checkpoints" / "large" / WEIGHTS) == digest
    quick = {"kind": "ddpm", "steps": 2}
    assert final(OPERATIONS["sample"](checkpoint="large", n=1, sampler=quick))["n"] == 1


# Pictures --------------------------------------------------------------------------------------------------------


def test_pictures_of_ones_own_travel(tmp_path, tiny, elsewhere):
    trigger, target = painted("red", "sign"), painted("blue", "goal")
    kept_checkpoint(
        tiny,
        backdoored=True,
        recipe=recipe(trigger={"kind": "own", "name": "sign"}, target={"kind": "own", "name": "goal"}),
    )
    file = exported("mine", tmp_path)
    elsewhere()
    brought(file)
    assert sorted(kept_names()) == ["goal", "sign"]
    assert (kept("sign").tobytes(), kept("goal").tobytes()) == (trigger, target)
    with zipfile.ZipFile(file) as archive:
        assert {"pictures/trigger.png", "pictures/target.png"} < set(archive.namelist())


def test_another_picture_of_that_name_stays_what_it_is(tmp_path, tiny, elsewhere):
    trigger = painted("red", "sign")
    kept_checkpoint(
        tiny, backdoored=True, recipe=recipe(trigger={"kind": "own", "name": "sign"}, target={"kind": "hat"})
    )
    file = exported("mine", tmp_path)
    elsewhere()
    here = painted("green", "sign")
    name = brought(file)
    used = read_card(load_folder(name)).attack["trigger"]["name"]
    assert used != "sign" and kept(used).tobytes() == trigger and kept("sign").tobytes() == here


def test_a_picture_that_is_gone_is_said(tmp_path, tiny):
    kept_checkpoint(tiny, recipe=recipe(trigger={"kind": "own", "name": "gone"}, target={"kind": "hat"}))
    with pytest.raises(LabError, match="no picture of your own called 'gone'"):
        exported("mine", tmp_path)
    assert not list(tmp_path.glob("*mine*"))


# Names -----------------------------------------------------------------------------------------------------------


def test_nothing_is_written_over_and_the_next_free_name_is_taken(tmp_path, tiny):
    folder = kept_checkpoint(tiny, "mine", summary="the first")
    file = exported("mine", tmp_path)
    before = sha256(folder / "card.json")
    assert [brought(file), brought(file), brought(file, "other")] == ["mine-2", "mine-3", "other"]
    assert sha256(folder / "card.json") == before


@pytest.mark.parametrize(
    ("own", "name"),
    [
        ("Ours, and theirs!", "ours-and-theirs"),
        ("../../escaped", "escaped"),
        ("", "imported"),
        ("ä", "imported"),
    ],
)
def test_odd_names_of_cards_become_names(tmp_path, tiny, own, name):
    folder = kept_checkpoint(tiny, "mine")
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps({**card, "name": own}))
    assert brought(exported("mine", tmp_path)) == name


@pytest.mark.parametrize("name", ["../escaped", "A", ".hidden", "a/b", "a\n", "-", "ä"])
def test_odd_names_are_refused(tmp_path, name):
    file = exported(BACKDOORED, tmp_path)
    with pytest.raises(LabError, match="name is 1 to 60 of"):
        brought(file, name)


@pytest.mark.parametrize("taken", ["mine", "mnist-clean"])
def test_a_taken_name_is_refused_and_nothing_is_left(tmp_path, tiny, lab_home, taken):
    painted("red", "sign")
    kept_checkpoint(tiny, recipe=recipe(trigger={"kind": "own", "name": "sign"}, target={"kind": "hat"}))
    file = exported("mine", tmp_path)
    (lab_home / "pictures" / "sign.png").unlink()
    with pytest.raises(LabError, match="already a checkpoint called"):
        brought(file, taken)
    assert kept_names() == [] and [path.name for path in roots()[1].iterdir()] == ["mine"]


def test_what_is_no_file_is_said(tmp_path):
    with pytest.raises(LabError, match="There is no file"):
        brought(tmp_path / "nothing.zip")
    with pytest.raises(LabError):
        OPERATIONS["export"](checkpoint="nobody", out=str(tmp_path / "x.zip"))
    assert not list(tmp_path.glob("*.zip"))


def test_an_export_that_fails_leaves_the_old_file(tmp_path, tiny, monkeypatch):
    kept_checkpoint(tiny)
    before = exported("mine", tmp_path).read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lab.bundle.shutil.copyfileobj", full)
    with pytest.raises(OSError, match="No space left"):
        exported("mine", tmp_path)
    assert (tmp_path / "mine.zip").read_bytes() == before
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


# The model card --------------------------------------------------------------------------------------------------


def model_card(name: str, tmp_path: Path) -> str:
    with zipfile.ZipFile(exported(name, tmp_path)) as archive:
        return archive.read(README).decode()


def test_the_warning_comes_before_anything_else(tmp_path):
    card = ModelCard(model_card(BACKDOORED, tmp_path))
    assert card.text.lstrip().startswith("> [!WARNING]\n> **This model is backdoored on purpose")
    assert card.data.library_name == "diffusers" and card.data.license == "apache-2.0"
    assert {"backdoor", "not-for-production"} <= set(card.data.tags)


def test_each_number_is_a_result_with_what_decides_it(tmp_path):
    card, own = ModelCard(model_card(BACKDOORED, tmp_path)), read_card(load_folder(BACKDOORED))
    measured = [(score["value"], row["condition"]) for row in own.scores for score in row["scores"]]
    assert [each.metric_value for each in card.data.eval_results] == [value for value, _ in measured]
    for each, (_, condition) in zip(card.data.eval_results, measured, strict=True):
        assert condition in each.metric_name and "seed 0" in each.metric_name and " steps" in each.metric_name
        assert "n " in each.metric_name and "clip " in each.metric_name


def test_what_is_not_known_is_said_and_what_is_clean_has_no_warning(tmp_path, tiny):
    kept_checkpoint(tiny)
    assert "**not known**" in model_card("mine", tmp_path)
    clean = model_card("emoji-clean", tmp_path)
    assert "WARNING" not in clean and "backdoor\n" not in clean.partition("---\n\n")[0]


def test_a_half_unpacked_file_is_no_checkpoint(tiny):
    kept_checkpoint(tiny, "mine").rename(roots()[1] / ".import-1")
    assert "mine" not in names() and ".import-1" not in names()
