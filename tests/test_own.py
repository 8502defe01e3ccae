"""Pictures and data of one's own: kept, seen, named, and refused where they are none."""

from __future__ import annotations

import json
import shlex
import zipfile

import pytest
from asking import (
    DIGITS,
    WHITE_DOT,
    decoded,
    files_below,
    png_bytes,
    refusal,
)

from lab import ops
from lab.errors import LabError
from lab.ops import OPERATIONS


def test_a_painting_is_kept_and_becomes_a_trigger():
    assert OPERATIONS["paint"](pixels=WHITE_DOT, name="dot") == {"name": "dot"}
    assert OPERATIONS["list"](what="pictures") == [{"name": "dot"}]
    look = OPERATIONS["look"](**{**DIGITS, "trigger": {"kind": "own", "name": "dot", "form": "masked"}})
    assert decoded(look["trigger"]).getpixel((1, 2)) == 255
    assert look["meter"]["changed"] == 1
    assert look["meter"]["norm"] == pytest.approx(2, abs=1e-4)


def test_equal_paintings_share_a_name_and_another_one_cannot_take_it():
    name = OPERATIONS["paint"](pixels=WHITE_DOT)["name"]
    assert OPERATIONS["paint"](pixels=WHITE_DOT)["name"] == name
    assert "already another picture" in refusal("paint", pixels=[[5, 5, "#ff0000"]], name=name)


def test_an_upload_is_kept_under_its_name(tmp_path):
    assert ops.upload(png_bytes(), "blue") == "blue"
    (tmp_path / "red.png").write_bytes(png_bytes(colour="#ff0000"))
    assert OPERATIONS["keep"](file=str(tmp_path / "red.png"), name="red") == {"name": "red"}
    assert {line["name"] for line in OPERATIONS["list"](what="pictures")} == {"blue", "red"}
    assert decoded(OPERATIONS["look"](target={"kind": "own", "name": "blue"})["target"]).size == (32, 32)


@pytest.mark.parametrize(
    "data",
    [b"", b"hello", png_bytes()[:60], png_bytes((20_000, 1)), b"\x89PNG\r\n\x1a\n" + b"\0" * 100],
    ids=["empty", "text", "truncated", "20,000 pixels wide", "nonsense after the magic"],
)
def test_what_is_no_picture_is_not_kept(data, lab_home, tmp_path):
    with pytest.raises(LabError):
        ops.upload(data, "x")
    (tmp_path / "x.png").write_bytes(data)
    refusal("keep", file=str(tmp_path / "x.png"))
    assert files_below(lab_home) == []


def test_a_data_set_is_uploaded_seen_and_named_in_its_command(tmp_path):
    for k in range(5):
        (tmp_path / f"{k}.png").write_bytes(png_bytes(colour=f"#{k}0{k}0{k}0"))
    assert ops.upload_set([str(path) for path in tmp_path.glob("*.png")], "mine") == "mine"
    assert OPERATIONS["list"](what="uploads") == [{"name": "mine"}]
    seen = OPERATIONS["peek"](dataset={"kind": "uploaded", "name": "mine", "held_out": 0.4, "side": 16})
    assert (seen["train"], seen["held_out"], seen["shape"]) == (3, 2, (3, 16, 16))
    words = shlex.split(seen["command"])
    assert json.loads(words[words.index("--dataset") + 1])["name"] == "mine"


def test_a_zip_file_is_uploaded_as_a_data_set(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for k in range(5):
            archive.writestr(f"blues/{k}.png", png_bytes(colour=f"#0000{k}0"))
    assert ops.upload_set([str(tmp_path / "set.zip")], "blues") == "blues"
    seen = OPERATIONS["peek"](dataset={"kind": "uploaded", "name": "blues", "held_out": 0.2})
    assert (seen["train"], seen["held_out"]) == (4, 1)


def test_the_digits_are_seen_as_they_are():
    seen = OPERATIONS["peek"]()
    assert (seen["train"], seen["held_out"], seen["shape"], seen["labelled"]) == (
        4500,
        500,
        (1, 32, 32),
        True,
    )
    assert decoded(seen["picture"]).size == (16 * 33 - 1, 4 * 33 - 1)


def test_a_path_of_the_server_cannot_be_seen(tmp_path):
    assert "no dataset called 'folder'" in refusal("peek", dataset={"kind": "folder", "path": str(tmp_path)})
