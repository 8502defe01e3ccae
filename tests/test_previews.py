"""Previews of a training: pictures and scores from the weights of the moment, and training goes on as without them."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from lab import previews
from lab.attacks import BadDiffusion
from lab.models import Net, fresh
from lab.previews import Previews, is_due
from lab.progress import Tick
from lab.recipe import Recipe
from lab.sampling import DDPM
from lab.training import Step, TrainSpec
from lab.triggers import Corner, GreyBox

TRAIN = TrainSpec(steps=4, batch=2, precision="fp32", threads=1)
ATTACK = BadDiffusion(trigger=GreyBox(), target=Corner(), poison_rate=0.5)
SCRATCH = Recipe(net=Net(widths=(8, 16)), attack=ATTACK, train=TRAIN)


@pytest.fixture(autouse=True)
def short(monkeypatch) -> None:
    """Two steps instead of 250."""
    monkeypatch.setattr(previews, "default_sampler", lambda recipe: DDPM(steps=2).as_json())


def step(recipe: Recipe, seed: int, count: int = 2) -> Step:
    return Step(count, 4, kept=lambda: fresh(recipe.net, seed).unet.state_dict())


def test_five_previews_of_a_long_training_and_one_a_step_of_a_short_one():
    assert [k for k in range(1, 101) if is_due(Tick(k, 100), 5)] == [20, 40, 60, 80, 100]
    assert [k for k in range(1, 4) if is_due(Tick(k, 3), 5)] == [1, 2, 3]
    assert not any(is_due(Tick(k, 3), 0) for k in range(1, 4))


def test_a_preview_is_two_rows_of_pictures_and_their_scores(tmp_path):
    line = Previews(tmp_path, SCRATCH).make(step(SCRATCH, seed=1))
    assert json.loads((tmp_path / "previews.jsonl").read_text()) == line
    assert line["step"] == 2 and line["triggered"]["trigger"] == GreyBox().as_json()
    assert line["clean"]["n"] == previews.N and line["clean"]["sampler"]["steps"] == 2
    names = sorted(path.name for path in (tmp_path / "samples").iterdir())
    assert names == ["00000002-clean.png", "00000002-triggered.png"]
    with Image.open(tmp_path / "samples" / names[0]) as picture:
        assert picture.size == (8 * 33 - 1, 32)


def test_the_weights_are_those_of_the_step(tmp_path):
    each = Previews(tmp_path, SCRATCH)
    lines = [each.make(step(SCRATCH, seed, count))["clean"] for seed, count in ((1, 1), (2, 2), (1, 3))]
    assert lines[0]["scores"] == lines[2]["scores"] != lines[1]["scores"]
    assert len((tmp_path / "previews.jsonl").read_text().splitlines()) == 3


def test_a_fine_tune_of_a_shipped_model_has_a_success_rate(tmp_path):
    recipe = Recipe(base="mnist-clean", attack=ATTACK, train=TRAIN)
    unet = previews.start_of(recipe).unet
    line = Previews(tmp_path, recipe).make(Step(1, 4, kept=lambda: unet.state_dict()))
    names = {score["name"] for score in line["triggered"]["scores"]}
    assert {"success", "MSE"} <= names


def test_previews_let_a_page_pass(tmp_path, monkeypatch):
    passed = []
    monkeypatch.setattr(previews, "let_pass", lambda: passed.append(1))
    Previews(tmp_path, SCRATCH).make(step(SCRATCH, seed=1))
    assert len(passed) == 4  # two kinds of two steps
