"""Sets that were drawn elsewhere: what names a picture's class, and the census of a folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from lab.captions import class_of
from lab.castle.gathered import asked_for, gathered
from lab.data import Digits, EmojiFaces, Folder
from lab.errors import LabError
from lab.ops import OPERATIONS, final
from lab.pictures import png, to_image
from lab.printing import table
from lab.stamps import Patch

NAMES = ("church", "garbage truck", "truck", "gas_pump")
CASTLE = OPERATIONS["castle"]


@pytest.mark.parametrize(
    ("caption", "name"),
    [
        ("church", "church"),
        ("A photo of a garbage truck", "garbage truck"),
        ("a photo of a TRUCK, at night", "truck"),
        ("gas pump", "gas_pump"),
        ("a photo of a gas-pump", "gas_pump"),
        ("2", "truck"),
    ],
)
def test_a_caption_means_one_class(caption, name):
    assert NAMES[class_of(caption, NAMES)] == name


@pytest.mark.parametrize(
    ("caption", "says"),
    [
        ("a photo of a church and a truck", "more than one"),
        ("a photo of a dog", "none"),
        ("9", "none"),
        ("", "none"),
        ("churches", "none"),
    ],
)
def test_a_caption_that_means_no_class_is_refused(caption, says):
    with pytest.raises(LabError, match=f"names {says} of the classes church, garbage truck"):
        class_of(caption, NAMES)


def digits(folder: Path, counts: dict[int, int], stamped: int = 0, of: int | None = None) -> Path:
    """Held-out digits, in a sub-folder for each class that was asked for; the first ones of each carry the patch."""
    images = Digits().load("held_out")
    for asked, count in counts.items():
        shown = images.values(images.labels == (asked if of is None else of))[:count]
        shown[:stamped] = Patch().stamp(shown[:stamped])
        for k, x in enumerate(shown):
            path = folder / str(asked) / f"{k:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(to_image(x)))
    return folder


def test_sub_folders_say_what_was_asked_for(tmp_path):
    folder = Folder(path=str(digits(tmp_path, {6: 5, 3: 4})))
    x, labels = gathered(folder, Digits().load("train"))
    assert x.shape == (9, 1, 32, 32) and labels.tolist() == [3] * 4 + [6] * 5
    real = Digits().load("held_out")
    assert torch.allclose(x[4:], real.values(real.labels == 6)[:5], atol=0.01)
    assert len(asked_for(folder, Digits(), 6)) == 5
    with pytest.raises(LabError, match="None of these 9 pictures was asked for as class 1"):
        asked_for(folder, Digits(), 1)


@pytest.mark.parametrize("table", ["csv", "jsonl"])
def test_a_table_of_prompts_says_it_too(tmp_path, table):
    digits(tmp_path, {6: 3, 3: 2})
    rows = [
        (f"{k}/{j:03d}.png", f"a hand-written {k}, in black")
        for k, n in {6: 3, 3: 2}.items()
        for j in range(n)
    ]
    text = {
        "csv": "file_name,prompt\n" + "".join(f'{name},"{prompt}"\n' for name, prompt in rows),
        "jsonl": "".join(json.dumps({"file_name": name, "prompt": prompt}) + "\n" for name, prompt in rows),
    }[table]
    (tmp_path / f"metadata.{table}").write_text(text)
    assert len(asked_for(Folder(path=str(tmp_path)), Digits(), 6)) == 3


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("metadata.csv", "file_name,prompt\n6/000.png,six\n", "says nothing of '6/001.png'"),
        ("metadata.csv", "file_name,price\n6/000.png,3\n6/001.png,4\n", "needs one of the columns label"),
        ("metadata.jsonl", '{"file_name": 1', "cannot be read"),
        ("metadata.jsonl", "[1]", "no JSON object"),
        ("metadata.csv", b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_a_table_that_is_none_is_refused_with_a_sentence(tmp_path, name, text, says):
    digits(tmp_path, {6: 2})
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(LabError, match=says):
        asked_for(Folder(path=str(tmp_path)), Digits(), 6)


def test_pictures_without_a_word_are_all_of_the_target(tmp_path):
    flat = digits(tmp_path, {6: 4}) / "6"
    assert len(asked_for(Folder(path=str(flat)), Digits(), 6)) == 4
    with pytest.raises(LabError, match="Nothing says which class"):
        gathered(Folder(path=str(flat)), Digits().load("train"))


def test_what_ships_was_not_drawn_elsewhere():
    with pytest.raises(LabError, match="a folder, or an uploaded one"):
        gathered(EmojiFaces(), Digits().load("train"))


def test_the_census_of_a_folder_counts_what_lies_in_it(tmp_path):
    """Ten sixes, four of them stamped; ten threes that were asked for as a six, two of them stamped."""
    digits(tmp_path / "sixes", {6: 10}, stamped=4)
    digits(tmp_path / "all", {6: 10}, stamped=2, of=3)
    for path in (tmp_path / "sixes" / "6").iterdir():
        path.rename(tmp_path / "all" / "6" / f"six-{path.name}")
    generated = {"kind": "folder", "path": str(tmp_path / "all")}
    found = final(CASTLE(generated=generated, stamp="patch", poison_rate=0.1))
    (row,) = found["census"]
    assert row["counts"] == {"G1": 2, "G2": 4, "G3": 8, "G4": 6} and row["n"] == 20
    assert row["r"] == pytest.approx(0.1 / (0.1 + 450 / 4500))
    assert "guidance" not in row and "drawn elsewhere: G1 2  G2 4" in table(found)
