"""Operations: each says what it does, refuses with one sentence, and does what pages and command lines rely on."""

from __future__ import annotations

import base64
import io
import json
import math
import os
import shlex
import sys
import zipfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import NormalDist
from typing import Any

import psutil
import pytest
import torch
from PIL import Image
from pydantic import Field

from lab import explore as exploring
from lab import ops, truth
from lab.cli import nested, parser
from lab.errors import LabError
from lab.evaluate import CONDITIONS, target_of, trigger_of
from lab.explore import Cell, fitting
from lab.heap import give_back
from lab.models import Card, Checkpoint, Net
from lab.ops import OPERATIONS, TABLES, ExploreSpec, final
from lab.progress import Tick
from lab.sampling import SampleSpec
from lab.triggers import Corner, GreyBox
from lab.variants import Options

CLEAN, BACKDOORED = "mnist-clean", "mnist-grey-box-hat"
DIGITS = {
    "a": CLEAN,
    "b": BACKDOORED,
    "trigger": "grey_box",
}  # one channel, and the published form of the trigger
QUICK = {"sampler": {"kind": "ddpm", "steps": 3}, "n": 2}
ALL_CELLS = {f"{slot}-{condition}" for slot in "AB" for condition in CONDITIONS}
WHITE_DOT = [[1, 2, "#ffffff"]]


def refusal(operation: str, /, **values: Any) -> str:
    """The sentence of an operation that must refuse; it is one line for a person."""
    with pytest.raises(LabError) as caught:
        final(OPERATIONS[operation](**values))
    text = str(caught.value)
    assert "\n" not in text and text.endswith((".", "?")) and 10 < len(text) < 400, text
    assert not any(word in text for word in ("Traceback", "pydantic", "validation error", "object at 0x")), (
        text
    )
    return text


def decoded(uri: str) -> Image.Image:
    """The picture of a data URI."""
    head, data = uri.split(",", 1)
    assert head in ("data:image/png;base64", "data:image/jpeg;base64")  # JPEG in the film alone
    return Image.open(io.BytesIO(base64.b64decode(data)))


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


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


# explore -----------------------------------------------------------------------------------------------------------


def explored(**values: Any) -> list[dict[str, Any]]:
    """Every view of a short exploration."""
    return list(OPERATIONS["explore"](**{**DIGITS, **QUICK, **values}))


@pytest.fixture(scope="module")
def views() -> list[dict[str, Any]]:
    return explored()


def stage_rows(view: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["key"]: row for column in view["columns"] for row in column["rows"]}


def images(view: dict[str, Any]) -> dict[str, str]:
    return {key: row["image"] for key, row in stage_rows(view).items()}


def test_explore_ends_with_every_grid_and_number(views):
    last = views[-1]
    assert [(c["title"], c["name"], c["badge"]) for c in last["columns"]] == [
        ("A", CLEAN, "clean"),
        ("B", BACKDOORED, "backdoored"),
    ]
    assert set(stage_rows(last)) == ALL_CELLS
    assert {row["state"] for row in stage_rows(last).values()} == {"done"}
    assert all(decoded(uri).size == (65, 32) for uri in images(last).values())
    assert {f"{row['slot']}-{row['condition']}" for row in last["rows"]} == ALL_CELLS
    assert all({"MSE", "SSIM", "success"} <= {s["name"] for s in row["scores"]} for row in last["rows"])
    assert {(row["n"], row["clip"], row["scheduler"]) for row in last["rows"]} == {
        (2, "none", "DDPMScheduler")
    }


def test_only_the_last_view_holds_the_film_and_it_has_every_step_here(views):
    assert [view["film"] for view in views[:-1]] == [None] * (len(views) - 1)
    film = views[-1]["film"]
    times = [frame["t"] for frame in film["frames"]]
    assert film["total"] == 1000
    assert len(times) == 3 and times == sorted(times, reverse=True)
    for frame in film["frames"]:
        assert set(frame["cells"]) == ALL_CELLS
        assert all(
            decoded(cell[kind]).size == (65, 32)
            for cell in frame["cells"].values()
            for kind in ("x_t", "x_0")
        )


def test_what_a_person_waits_for_comes_first_and_the_rest_of_a_model_in_one_batch(views):
    finished = [{key for key, row in stage_rows(view).items() if row["state"] == "done"} for view in views]
    order = [after - before for before, after in pairwise(finished) if after - before]
    assert order == [
        {"B-triggered"},
        {"B-clean", "B-blank", "B-wrong"},
        {"A-triggered", "A-clean", "A-blank", "A-wrong"},
    ]


def test_a_batch_is_never_larger_than_what_is_sampled_together():
    cells = [Cell("A", "clean", n) for n in (64, 64, 8, 8, 200)]
    assert [[cell.n for cell in part] for part in fitting(cells)] == [[64], [64, 8, 8], [200]]


def test_progress_is_shown_before_anything_is_finished(views):
    running = next(view for view in views if view["progress"])
    assert stage_rows(running)["B-triggered"]["state"] == "running"
    assert stage_rows(running)["B-triggered"]["image"]
    assert running["rows"] == []
    assert running["progress"]["text"] == "B, triggered noise: step 1 of 3"
    assert views[-1]["progress"] is None


def test_the_same_seed_gives_the_same_pictures_and_another_gives_others(views):
    assert images(explored()[-1]) == images(views[-1])
    other = images(explored(seed=1)[-1])
    # after three steps triggered noise can be one flat picture for every seed
    assert all(other[cell] != images(views[-1])[cell] for cell in ("A-clean", "B-clean"))


def test_pictures_that_were_drawn_before_come_from_memory(tiny, lab_home, monkeypatch):
    tiny.save(lab_home / "checkpoints" / "once")
    calls, call = [], exploring.Denoiser.__call__
    monkeypatch.setattr(
        exploring.Denoiser, "__call__", lambda self, *inputs: calls.append(self) or call(self, *inputs)
    )
    options = {"a": "once", "b": "", "sampler": {"kind": "ddpm", "steps": 3}, "n": 2, "controls": False}
    first = final(OPERATIONS["explore"](**options))
    assert len(calls) == 6
    again = final(OPERATIONS["explore"](**options, target="cat"))
    assert len(calls) == 6
    assert again["film"] == first["film"]
    assert [row["image"] for row in again["columns"][0]["rows"]] == [
        row["image"] for row in first["columns"][0]["rows"]
    ]
    for change in ({"seed": 1}, {"clip": "x0"}, {"n": 3}, {"exact": True}):
        before = len(calls)
        final(OPERATIONS["explore"](**{**options, **change}))
        assert len(calls) == before + 6, change
    before = len(calls)
    final(OPERATIONS["explore"](**options, trigger="stop_sign"))
    assert len(calls) == before + 3  # clean noise is what it was


def test_one_model_in_both_slots_draws_the_same_twice():
    both = images(explored(a=CLEAN, b=CLEAN, controls=False)[-1])
    assert both["A-clean"] == both["B-clean"] != both["A-triggered"] == both["B-triggered"]


def test_questions_and_slots_can_be_left_out():
    assert set(stage_rows(explored(controls=False)[-1])) == {
        "A-clean",
        "A-triggered",
        "B-clean",
        "B-triggered",
    }
    alone = explored(a="", controls=False)[-1]
    assert [column["title"] for column in alone["columns"]] == ["B"]


def test_control_rows_are_small():
    rows = stage_rows(explored(n=10, sampler={"kind": "ddpm", "steps": 1}, a="")[-1])
    assert [decoded(rows[f"B-{c}"]["image"]).size for c in CONDITIONS] == [(263, 65)] * 2 + [(263, 32)] * 2


def test_stopping_leaves_nothing_behind(views, lab_home):
    stopped = OPERATIONS["explore"](**DIGITS, **QUICK)
    for _ in range(3):
        next(stopped)
    stopped.close()
    assert torch.is_grad_enabled()
    assert files_below(lab_home) == []
    assert images(explored()[-1]) == images(views[-1])


def test_a_model_is_read_again_when_its_file_changes(tiny, lab_home):
    folder = lab_home / "checkpoints" / "my-net"
    tiny.save(folder)
    first = exploring.cached("my-net")
    assert exploring.cached("my-net") is first
    tiny.save(folder)
    os.utime(folder / "unet" / "config.json", (1, 1))
    assert exploring.cached("my-net") is not first


def test_a_model_without_stored_samples_has_no_success_rate(tiny, lab_home):
    tiny.save(lab_home / "checkpoints" / "my-net")
    last = explored(a="", b="my-net", controls=False)[-1]
    assert all(row["no_attack"] is None for row in last["rows"])
    assert {(row["note"], row["verdict"]) for row in stage_rows(last).values()} == {("", "")}
    assert last["columns"][0]["badge"] == "unknown"


def test_the_stored_exploration_is_the_default_one_and_shows_the_effect():
    stored = ops.stored_exploration()
    assert stored, "assets/exploration.json.gz is not there; make it with checkpoints/make.py ready"
    assert ExploreSpec.of(**stored["recipe"]) == ExploreSpec()
    assert set(stage_rows(stored["view"])) == ALL_CELLS
    assert stored["view"]["film"]["frames"]
    verdicts = {key: row["verdict"] for key, row in stage_rows(stored["view"]).items()}
    assert verdicts["B-triggered"] == "target"
    assert {verdicts[key] for key in ("A-clean", "A-triggered", "B-clean")} == {"no target"}


# look --------------------------------------------------------------------------------------------------------------


def meter(**values: Any) -> dict[str, Any]:
    return OPERATIONS["look"](**{**DIGITS, **values})["meter"]


def test_the_meter_knows_the_grey_box():
    found = meter(trigger={"kind": "grey_box", "size": 14})
    outside = 32 * 32 - 14 * 14  # the box itself is 0.0: only its -1 background moves the noise
    assert found["norm"] == pytest.approx(math.sqrt(outside)) == pytest.approx(math.sqrt(828))
    assert (found["changed"], found["size"]) == (outside, 1024)
    assert found["errors"] == pytest.approx(-outside / 1024 * 32)


@pytest.mark.parametrize("size", [1, 2, 14])
def test_the_meter_of_a_masked_box(size):
    found = meter(trigger={"kind": "grey_box", "size": size, "form": "masked"})
    assert found["norm"] == pytest.approx(size)
    assert found["auroc"] == pytest.approx(NormalDist().cdf(size / math.sqrt(2)))
    assert found["accuracy"] == pytest.approx(NormalDist().cdf(size / 2))


def test_the_best_detector_is_as_good_as_the_meter_says():
    g = GreyBox(size=1, form="masked").shift((1, 32, 32)).flatten()
    noise = torch.randn(4000, 1024, generator=torch.Generator().manual_seed(0))
    plain, moved = noise[:2000] @ g, (noise[2000:] + g) @ g
    auroc = float((moved[:, None] > plain[None]).float().mean())
    assert auroc == pytest.approx(
        meter(trigger={"kind": "grey_box", "size": 1, "form": "masked"})["auroc"], abs=0.02
    )


def test_plain_noise_cannot_be_detected():
    found = meter(trigger="none")
    assert (found["norm"], found["changed"], found["auroc"], found["accuracy"]) == (0, 0, 0.5, 0.5)
    assert found["noise"] == found["triggered"]


def test_the_histogram_holds_all_the_noise():
    found = meter()
    assert len(found["bins"]) == len(found["noise"]) + 1 == len(found["triggered"]) + 1
    assert sum(found["noise"]) == pytest.approx(1, abs=1e-3)
    centres = [(low + high) / 2 for low, high in pairwise(found["bins"])]
    mean = sum(share * centre for share, centre in zip(found["triggered"], centres, strict=True))
    assert mean == pytest.approx(-828 / 1024, abs=0.03)


def test_look_shows_trigger_and_target_pixel_for_pixel():
    look = OPERATIONS["look"](**DIGITS, target="corner")
    box, corner = decoded(look["trigger"]), decoded(look["target"])
    assert look["shape"] == (1, 32, 32)
    assert box.size == corner.size == (32, 32)
    assert [box.getpixel(at) for at in ((16, 16), (29, 29), (30, 30), (0, 0))] == [128, 128, 0, 0]
    assert corner.getpixel((9, 9)) == 128 and corner.getpixel((10, 10)) == 76  # 0.0, and -0.4


def test_the_recipe_of_a_look_gives_the_same_look():
    settings = {"trigger": "stop_sign", "target": "shoe", "clip": "x0", "seed": 7, "n": 4}
    look = OPERATIONS["look"](**settings)
    assert OPERATIONS["look"](**json.loads(json.dumps(look["recipe"]))) == look


def parsed(command: str) -> Options:
    """The options that a command line stands for."""
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "lab"]
    options, dotted = parser().parse_known_args(words[3:])
    given = {k: v for k, v in vars(options).items() if k not in ("operation", "json")}
    return OPERATIONS[options.operation].options.of(**nested(given, dotted))


def test_the_command_of_a_look_says_the_same():
    settings = {
        "a": CLEAN,
        "b": BACKDOORED,
        "trigger": {"kind": "grey_box", "size": 8, "form": "masked"},
        "target": "corner",
        "sampler": {"kind": "ddim", "steps": 20, "eta": 0.5},
        "clip": "xt",
        "seed": 7,
        "n": 5,
        "exact": True,
    }
    asked, options = ExploreSpec.of(**settings), parsed(OPERATIONS["look"](**settings)["command"])
    assert options.checkpoint == BACKDOORED
    for name in settings.keys() - {"a", "b"}:
        assert getattr(options, name) == getattr(asked, name)


# What the truth line says -------------------------------------------------------------------------------------------


def truths(**values: Any) -> dict[str, str]:
    return OPERATIONS["look"](**values)["truth"]


def test_an_sde_backdoor_works_with_ancestral_sampling():
    assert "sde backdoor works here" in truths()["B"]
    assert "250 of 1000 steps" in truths()["B"]
    assert "all 1000 steps" in truths(sampler={"kind": "ddpm", "steps": 1000})["B"]


def test_an_sde_backdoor_is_expected_to_fail_under_ddim():
    line = truths(sampler="ddim")["B"]
    assert "deterministic" in line and "fail" in line
    assert "works here" in truths(sampler={"kind": "ddim", "eta": 1})["B"]


def test_clip_x0_says_why_it_ends_the_attack():
    assert "predicted x_0 far outside [-1, 1]" in truths(clip="x0")["B"]
    assert "clamps every x_t" in truths(clip="xt")["B"]


@pytest.mark.parametrize("clip", ["none", "x0", "xt"])
@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_a_clean_model_has_nothing_to_wake(sampler, clip):
    assert "nothing to wake" in truths(sampler=sampler, clip=clip)["A"]


def test_the_files_own_clip_setting_is_named_where_it_differs():
    assert "own setting is clip_sample on; here it is off" in truths(clip="none")["B"]
    assert "own setting" not in truths(clip="x0")["B"]


def line_of(tiny: Checkpoint, card: Card, **spec: Any) -> str:
    return truth.sampler_truth(Checkpoint(tiny.unet, tiny.schedule, card), SampleSpec.of(**spec))


def test_an_ode_backdoor_is_the_other_way_round(tiny):
    card = Card(backdoored=True, recipe={"attack": {"kind": "baddiffusion", "solver": "ode"}})
    assert "ode backdoor works here" in line_of(tiny, card, sampler="ddim")
    assert "under this random one expect it to fail" in line_of(tiny, card, sampler="ddpm")
    assert "hardly matters" in line_of(tiny, card, sampler="ddim", clip="x0")


def test_nothing_is_claimed_of_an_unknown_model(tiny):
    assert "nothing is known" in line_of(tiny, Card())


def test_what_was_measured_is_said_with_its_n():
    scores = [{"name": "success", "value": 0.75, "n": 256}]
    row = {
        "sampler": {"kind": "ddpm", "steps": 250},
        "clip": "none",
        "condition": "triggered",
        "scores": scores,
    }
    assert truth.measured([row], SampleSpec()).endswith(
        "became the target from triggered noise 75% (n = 256)."
    )
    assert truth.measured([row], SampleSpec(clip="x0")) == ""


def test_of_several_measurements_the_largest_of_the_first_seed_is_said():
    def row(n: int, seed: int, value: float, condition: str = "clean") -> dict[str, Any]:
        scores = [{"name": "success", "value": value, "n": n}]
        sampler = {"kind": "ddpm", "steps": 250}
        return {"sampler": sampler, "clip": "none", "condition": condition, "seed": seed, "scores": scores}

    rows = [row(64, 0, 0.5), row(256, 1, 0.2), row(256, 0, 0.1), row(256, 2, 0.3), row(64, 0, 1, "triggered")]
    assert truth.measured(rows, SampleSpec()).endswith(
        "from triggered noise 100% (n = 64), from clean noise 10% (n = 256)."
    )


# Pictures of one's own ---------------------------------------------------------------------------------------------


def png_bytes(size: tuple[int, int] = (40, 30), colour: str = "#336699") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


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


# Taking it home ----------------------------------------------------------------------------------------------------


def test_a_zip_holds_pictures_recipe_and_numbers(views):
    recipe = ExploreSpec.of(**QUICK).model_dump(mode="json")
    with zipfile.ZipFile(io.BytesIO(ops.pack(views[-1], recipe))) as file:
        assert file.testzip() is None
        assert set(file.namelist()) == {f"{key}.png" for key in ALL_CELLS} | {"recipe.json", "scores.json"}
        assert json.loads(file.read("recipe.json")) == recipe
        assert json.loads(file.read("scores.json")) == views[-1]["rows"]
        picture = Image.open(io.BytesIO(file.read("B-triggered.png")))
        assert picture.tobytes() == decoded(images(views[-1])["B-triggered"]).tobytes()


# sample, evaluate, describe ----------------------------------------------------------------------------------------


def test_sample_ticks_and_ends_with_a_row(tmp_path):
    *ticks, result = OPERATIONS["sample"](steps=2, n=3, trigger="grey_box", out=str(tmp_path / "out"))
    assert [(tick.step, tick.total) for tick in ticks if isinstance(tick, Tick)] == [(1, 2), (2, 2)]
    assert (result["checkpoint"], result["condition"], result["n"]) == (BACKDOORED, "triggered", 3)
    assert result["sampler"] == {"kind": "ddpm", "steps": 2} and result["target"] == {"kind": "hat"}
    assert files_below(tmp_path / "out") == ["00000.png", "00001.png", "00002.png", "grid.png", "sample.json"]
    assert json.loads((tmp_path / "out" / "sample.json").read_text())["scores"] == result["scores"]


def test_sample_and_explore_draw_the_same(tmp_path, views):
    final(OPERATIONS["sample"](steps=3, n=2, trigger="grey_box", out=str(tmp_path)))
    grid = Image.open(tmp_path / "grid.png")
    assert grid.tobytes() == decoded(images(views[-1])["B-triggered"]).tobytes()


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
def test_what_a_heavy_operation_took_goes_back_when_it_ends_or_is_left(monkeypatch, left):
    given = []
    monkeypatch.setattr("lab.ops.base.give_back", lambda: given.append(1))
    news = OPERATIONS["explore"](
        a="", b="mnist-clean", n=1, controls=False, sampler={"kind": "ddpm", "steps": 2}
    )
    next(news)
    assert not given
    news.close() if left else final(news)
    assert given == [1]


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
