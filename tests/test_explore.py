"""Explore: every grid and number of two models side by side, in the order in which a person waits for them."""

from __future__ import annotations

import io
import json
import os
import zipfile
from itertools import pairwise
from typing import Any

import pytest
import torch
from asking import (
    BACKDOORED,
    CLEAN,
    DIGITS,
    QUICK,
    decoded,
    files_below,
)
from PIL import Image

from lab import explore as exploring
from lab import ops
from lab.evaluate import CONDITIONS
from lab.explore import Cell, fitting
from lab.ops import OPERATIONS, ExploreSpec, final

ALL_CELLS = {f"{slot}-{condition}" for slot in "AB" for condition in CONDITIONS}


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


def test_sample_and_explore_draw_the_same(tmp_path, views):
    final(OPERATIONS["sample"](steps=3, n=2, trigger="grey_box", out=str(tmp_path)))
    grid = Image.open(tmp_path / "grid.png")
    assert grid.tobytes() == decoded(images(views[-1])["B-triggered"]).tobytes()


def test_a_zip_holds_pictures_recipe_and_numbers(views):
    recipe = ExploreSpec.of(**QUICK).model_dump(mode="json")
    with zipfile.ZipFile(io.BytesIO(ops.pack(views[-1], recipe))) as file:
        assert file.testzip() is None
        assert set(file.namelist()) == {f"{key}.png" for key in ALL_CELLS} | {"recipe.json", "scores.json"}
        assert json.loads(file.read("recipe.json")) == recipe
        assert json.loads(file.read("scores.json")) == views[-1]["rows"]
        picture = Image.open(io.BytesIO(file.read("B-triggered.png")))
        assert picture.tobytes() == decoded(images(views[-1])["B-triggered"]).tobytes()
