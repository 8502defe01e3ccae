"""Operations: each says what it does, refuses with one sentence, and does what pages and command lines rely on."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import psutil
import pytest
from asking import (
    BACKDOORED,
    CLEAN,
    QUICK,
    WHITE_DOT,
    files_below,
    png_bytes,
    refusal,
)
from pydantic import Field

from lab import explore as exploring
from lab import ops
from lab.errors import LabError
from lab.evaluate import target_of, trigger_of
from lab.heap import give_back
from lab.models import Card, Checkpoint, Net
from lab.ops import OPERATIONS, TABLES, final
from lab.places import ROOT
from lab.progress import Tick
from lab.triggers import Corner, GreyBox
from lab.variants import Options

# The table of operations -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_explains_itself_and_its_options(name):
    operation = OPERATIONS[name]
    assert operation.name == name
    assert (operation.fn.__doc__ or "").strip().split("\n")[0].endswith(".")
    for option, field in operation.options.model_fields.items():
        explained = field.description or any(entry in TABLES.values() for entry in field.metadata)
        assert explained or field.annotation is Net, f"{name}: option {option} says nothing"


@pytest.mark.parametrize("what", TABLES)
def test_list_names_every_kind_with_its_options(what):
    lines = OPERATIONS["list"](what=what)
    assert [line["name"] for line in lines] == list(TABLES[what])
    for line in lines:
        assert line["help"]
        assert list(line["options"]) == list(TABLES[what][line["name"]].model_fields)
        assert all("(default " in text for text in line["options"].values())


def test_list_shows_the_shipped_checkpoints_and_ones_own(tiny, lab_home):
    tiny.save(lab_home / "checkpoints" / "my-net")
    states = {line["name"]: line["state"] for line in OPERATIONS["list"]()}
    assert (states[CLEAN], states[BACKDOORED], states["my-net"]) == ("clean", "backdoored", "unknown")


# What is refused ---------------------------------------------------------------------------------------------------

NAN, INFINITY = float("nan"), float("inf")
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("list", {"what": "nothing"}, "nothing"),
    ("list", {"wat": 1}, "no option called 'wat'"),
    ("describe", {}, "checkpoint"),
    ("describe", {"checkpoint": "mnist-cleen"}, "did you mean 'mnist-clean'?"),
    ("describe", {"checkpoint": "../assets"}, "no checkpoint"),
    ("describe", {"checkpoint": "x" * 10_000}, "checkpoint"),
    ("explore", {"n": 65}, "n is "),
    ("explore", {"n": NAN}, "n is "),
    ("explore", {"n": 10**40}, "n is "),
    ("explore", {"n": [1]}, "n is "),
    ("explore", {"seed": -1}, "seed"),
    ("explore", {"seed": INFINITY}, "seed"),
    ("explore", {"guidance": NAN}, "guidance"),
    ("explore", {"clip": "hard"}, "clip"),
    ("explore", {"a": "", "b": ""}, "slot A or B"),
    ("explore", {"a": "nope"}, "no checkpoint called 'nope'"),
    ("explore", {"b": "./mnist-clean"}, "no checkpoint"),
    ("explore", {"sampler": {"kind": "ddpm", "steps": 0}}, "steps"),
    ("explore", {"sampler": {"kind": "ddim", "eta": NAN}}, "eta"),
    ("explore", {"sampler": "lms", "clip": "x0"}, "lms has no clip 'x0'"),
    ("look", {"trigger": "grey_bx"}, "did you mean 'grey_box'?"),
    ("look", {"trigger": {"kind": "grey_box", "size": 31}}, "does not fit"),
    ("look", {"trigger": {"kind": "grey_box", "size": 10**9}}, "size"),
    ("look", {"trigger": {"kind": 3}}, "trigger"),
    ("look", {"trigger": [1, 2]}, "trigger"),
    ("submit", {"base": "mnist-clean", "attack": "badnets"}, "draws classes on request"),
    ("submit", {"base": "emoji-clean"}, "choose the data that the base was trained on"),
    (
        "submit",
        {"base": "mnist-clean", "attack": {"kind": "baddiffusion", "target": "own"}},
        "picture of your own",
    ),
    ("look", {"trigger": {"kind": "own"}}, "picture of your own"),
    ("look", {"trigger": {"kind": "own", "name": "missing"}}, "missing"),
    ("look", {"trigger": {"kind": "own", "name": "../../x"}}, "name"),
    ("look", {"target": "nope"}, "no target"),
    ("look", {"sampler": {"kind": "ddpm", "eta": 1}}, "no option called 'eta'"),
    ("paint", {}, "pixels"),
    ("paint", {"pixels": []}, "paint at least one pixel"),
    ("paint", {"pixels": "hello"}, "pixels"),
    ("paint", {"pixels": [[1, 2, 3]]}, "#rrggbb"),
    ("paint", {"pixels": [[32, 0, "#ffffff"]]}, "below 32"),
    ("paint", {"pixels": [[NAN, 0, "#ffffff"]]}, "below 32"),
    ("paint", {"pixels": [[True, 0, "#ffffff"]]}, "below 32"),
    ("paint", {"pixels": WHITE_DOT, "size": 100_000}, "size"),
    ("paint", {"pixels": WHITE_DOT * 1025}, "at most 1024"),
    ("paint", {"pixels": WHITE_DOT, "name": "Two Words"}, "a-z"),
    ("paint", {"pixels": WHITE_DOT, "name": "../up"}, "a-z"),
    ("sample", {"checkpoint": "nope"}, "nope"),
    ("sample", {"checkpoint": "./nope"}, "./nope"),
    ("sample", {"labels": (1,), **QUICK}, "not conditioned on classes"),
    ("sample", {"steps": 1001}, "steps"),
    ("evaluate", {"conditions": ("clean", "purple")}, "purple"),
    ("evaluate", {"conditions": ()}, "conditions"),
    ("evaluate", {"base": "nope", **QUICK}, "nope"),
    ("train", {"name": "../up"}, "name"),
    ("train", {"name": CLEAN}, "already a checkpoint"),
    ("train", {"lr": NAN}, "lr"),
    ("train", {"attack": {"kind": "baddiffusion", "poison_rate": 2}}, "poison_rate"),
    ("train", {"attack": {"kind": "baddiffusion", "trigger": "none"}}, "needs a trigger"),
    ("train", {"net": {"widths": [3]}}, "widths"),
    ("train", {"name": "x", "base": "nope"}, "nope"),
    ("train", {"name": "x", "dataset": {"kind": "folder", "path": "/nowhere"}}, "/nowhere"),
    ("train", {"name": "x", "net": {"side": 16}}, "(1, 32, 32)"),
    ("train", {"name": "x", "attack": {"kind": "baddiffusion", "trigger": {"kind": "own"}}}, "own"),
    ("keep", {"file": "/nowhere/x.png"}, "x.png"),
]


@pytest.mark.usefixtures("fresh_accelerate")
@pytest.mark.parametrize(("name", "values", "words"), REFUSED, ids=lambda value: str(value)[:60])
def test_bad_values_get_a_sentence_and_leave_nothing(name, values, words, lab_home):
    assert words in refusal(name, **values)
    assert files_below(lab_home) == []


def test_models_of_two_shapes_cannot_stand_side_by_side(lab_home):
    small = Net(side=16, widths=(8, 16)).build(seed=0)
    Checkpoint(small, exploring.cached(CLEAN).schedule, Card(name="small")).save(
        lab_home / "checkpoints" / "small"
    )
    assert "different shapes" in refusal("explore", b="small")


# sample, evaluate, describe ----------------------------------------------------------------------------------------


def test_sample_ticks_and_ends_with_a_row(tmp_path):
    *ticks, result = OPERATIONS["sample"](steps=2, n=3, trigger="grey_box", out=str(tmp_path / "out"))
    assert [(tick.step, tick.total) for tick in ticks if isinstance(tick, Tick)] == [(1, 2), (2, 2)]
    assert (result["checkpoint"], result["condition"], result["n"]) == (BACKDOORED, "triggered", 3)
    assert result["sampler"] == {"kind": "ddpm", "steps": 2} and result["target"] == {"kind": "hat"}
    assert files_below(tmp_path / "out") == ["00000.png", "00001.png", "00002.png", "grid.png", "sample.json"]
    assert json.loads((tmp_path / "out" / "sample.json").read_text())["scores"] == result["scores"]


def test_sample_takes_a_picture_file_as_trigger(tmp_path):
    (tmp_path / "t.png").write_bytes(png_bytes())
    result = final(OPERATIONS["sample"](steps=1, n=1, trigger_file=str(tmp_path / "t.png")))
    assert result["trigger"]["kind"] == "own" and result["condition"] == "triggered"


def test_sample_takes_a_picture_file_as_target(tmp_path):
    (tmp_path / "t.png").write_bytes(png_bytes())
    result = final(OPERATIONS["sample"](steps=1, n=1, target_file=str(tmp_path / "t.png"), target="corner"))
    assert result["target"]["kind"] == "own"
    assert result["no_attack"] != final(OPERATIONS["sample"](steps=1, n=1, target="corner"))["no_attack"]


def test_sample_opens_a_folder(tiny, tmp_path):
    tiny.save(tmp_path / "net")
    result = final(OPERATIONS["sample"](checkpoint=str(tmp_path / "net"), steps=1, n=1))
    assert (result["checkpoint"], result["no_attack"]) == ("tiny", None)


def test_evaluate_measures_each_condition_by_the_card():
    result = final(OPERATIONS["evaluate"](steps=1, n=2, conditions=("triggered", "wrong")))
    assert (result["checkpoint"], result["target"]) == (BACKDOORED, {"kind": "hat"})
    assert [row["condition"] for row in result["rows"]] == ["triggered", "wrong"]
    assert [row["trigger"]["kind"] for row in result["rows"]] == ["grey_box", "stop_sign"]
    names = {score["name"] for score in result["rows"][0]["scores"]}
    assert {"success", "MSE", "PSNR", "SSIM", "feature distance"} <= names


def test_describe_gives_the_settings_a_model_opens_with():
    card = OPERATIONS["describe"](checkpoint=BACKDOORED)
    assert (card["badge"], card["target"]) == ("backdoored", {"kind": "hat"})
    assert card["trigger"] == {"kind": "grey_box", "size": 14, "form": "authors"}
    assert card["sampler"] == {"kind": "ddpm", "steps": 250}
    assert OPERATIONS["describe"](checkpoint=CLEAN)["badge"] == "clean"


def test_cards_without_an_attack_open_with_the_defaults():
    assert trigger_of(Card()) == GreyBox()
    assert target_of(Card(recipe={"attack": {"target": {"kind": "corner"}}})) == Corner()


def test_the_device_line_says_where_and_why():
    assert ops.device_line().startswith(("CPU", "GPU", "Apple GPU"))
    assert "float" in ops.device_line()


@pytest.mark.parametrize(
    ("given", "shape"),
    [
        ({"dataset": "emoji"}, (3, 32)),
        ({"dataset": "cifar10"}, (3, 32)),
        ({"dataset": {"kind": "folder", "side": 64, "colour": False}}, (1, 64)),
        ({"dataset": "emoji", "net": {"side": 16, "widths": [16]}}, (1, 16)),
    ],
)
def test_a_fresh_network_takes_the_images_of_its_dataset(given, shape):
    net = OPERATIONS["train"].options.of(**given).recipe().net
    assert (net.channels, net.side) == shape


# Memory --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("left", [False, True])
def test_what_a_long_operation_took_goes_back_when_it_ends_or_is_left(monkeypatch, left):
    given = []
    monkeypatch.setattr("lab.ops.base.give_back", lambda: given.append(1))
    news = OPERATIONS["explore"](
        a="", b="mnist-clean", n=1, controls=False, sampler={"kind": "ddpm", "steps": 2}
    )
    next(news)
    given.clear()
    next(news)
    assert not given
    news.close() if left else final(news)
    assert given == [1]


@pytest.mark.parametrize("a", ["", "emoji-clean"])
def test_what_a_short_operation_took_goes_back_when_it_is_done_or_refused(monkeypatch, a):
    """`look` makes networks ready and reads stored samples: a fifth of a served lab's memory where it stays."""
    given = []
    monkeypatch.setattr("lab.ops.base.give_back", lambda: given.append(1))
    with pytest.raises(LabError, match="different shapes") if a else nullcontext():
        OPERATIONS["look"](a=a, b="mnist-clean")
    assert given == [1]


def test_nothing_goes_back_while_somebody_samples(monkeypatch):
    """A class looks at lists many times a second; each time the network would have to ask for its memory anew."""
    called = []
    monkeypatch.setattr("lab.heap._call", lambda name: lambda *_: called.append(name))
    news = OPERATIONS["explore"](
        a="", b="mnist-clean", n=1, controls=False, sampler={"kind": "ddpm", "steps": 2}
    )
    next(news)
    called.clear()
    OPERATIONS["look"](a="", b="mnist-clean")
    OPERATIONS["runs"]()
    assert "malloc_trim" not in called
    final(news)
    assert called[-1] == "malloc_trim"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's way of keeping memory")
def test_free_memory_between_what_is_held_goes_back():
    process, large, small = psutil.Process(), [], []
    before = process.memory_info().rss
    for _ in range(2000):  # below the size that is mapped on its own, with something small after each
        large.append(bytearray(100_000))
        small.append(bytearray(600))
    large.clear()
    give_back()
    assert process.memory_info().rss - before < 100e6
    assert len(small) == 2000


FAULTS = """
import resource
import numpy as np
from lab.heap import keep

def step():
    held = [np.ones(1_000_000) for _ in range(8)]

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

{keep}
step()
before = faults()
for _ in range(10):
    step()
print(faults() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's way of keeping memory")
def test_a_network_s_memory_is_at_hand_in_its_next_step():
    given_back, kept = (
        int(subprocess.check_output([sys.executable, "-c", FAULTS.format(keep=keep)], cwd=ROOT, text=True))
        for keep in ("", "keep()")
    )
    assert kept < 0.1 * given_back


class Positive(Options):
    """An option with a bound."""

    n: int = Field(default=1, ge=1)


def at_once(options: Options) -> Positive:
    return Positive(n=0)


def on_the_way(options: Options) -> Iterator[Any]:
    yield Tick(1, 2)
    yield Positive(n=0)


@pytest.mark.parametrize("heavy", [False, True])
@pytest.mark.parametrize("fn", [at_once, on_the_way])
def test_what_does_not_go_together_gets_a_sentence_at_once_or_on_the_way(fn, heavy):
    with pytest.raises(LabError, match=r"^n is at least 1; got '0'\.$") as caught:
        final(ops.Operation("some", fn, Options, heavy=heavy)())
    assert "pydantic" not in str(caught.value) and "\n" not in str(caught.value)
