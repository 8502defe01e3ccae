"""Recipes: everything that decides a training, as JSON and as a signature."""

from __future__ import annotations

import json

import pytest

from lab.attacks import BadDiffusion
from lab.errors import LabError
from lab.models import Net
from lab.recipe import Recipe
from lab.training import TrainSpec
from lab.triggers import Corner, GreyBox


def test_a_recipe_survives_json():
    recipe = Recipe(
        attack=BadDiffusion(trigger=GreyBox(size=8), target=Corner()), net=Net(side=16, widths=(16,))
    )
    assert Recipe.of(**json.loads(json.dumps(recipe.as_json()))) == recipe


def test_equal_recipes_share_a_signature_and_others_do_not():
    assert Recipe().signature == Recipe(dataset="digits", attack="none").signature
    others = [
        Recipe(train=TrainSpec(seed=1)),
        Recipe(attack="baddiffusion"),
        Recipe(net=Net(layers=2)),
        Recipe(base="mnist-clean"),
    ]
    assert len({recipe.signature for recipe in [Recipe(), *others]}) == 5
    assert all(len(recipe.signature) == 8 for recipe in others)


def test_later_options_leave_older_signatures_alone():
    """Where they change nothing they are not written, so that cards, runs and studies from before them still match."""
    plain = Recipe(base="some-net", attack="baddiffusion").as_json()
    assert "distill" not in plain["train"] and "classes" not in plain
    recipe = Recipe.of(base="some-net", train={"distill": 5.0}, classes=11)
    assert Recipe.of(**recipe.as_json()) == recipe
    assert recipe.as_json()["train"]["distill"] == 5.0


def test_nobody_teaches_a_fresh_network():
    with pytest.raises(LabError, match="distill needs a base"):
        Recipe.of(train={"distill": 1.0})


@pytest.mark.parametrize(
    ("options", "doubt"),
    [
        ({"attack": "baddiffusion"}, ""),
        ({}, "nothing new to learn"),
        ({"attack": "badnets", "base": "digits-cond-clean"}, "nothing new to learn"),
        ({"attack": "baddiffusion", "dataset": "emoji"}, "other images"),
        ({"dataset": "emoji", "train": {}}, ""),
    ],
)
def test_a_base_that_teaches_in_vain_is_doubted(options, doubt):
    found = Recipe.of(**{"base": "mnist-clean", "train": {"distill": 1.0}, **options}).doubts()
    assert doubt in found and bool(doubt) == bool(found)


def test_a_base_brings_its_own_network():
    assert "net" not in Recipe(base="some-net").as_json()
    assert Recipe(base="some-net", net=Net(layers=2)).signature == Recipe(base="some-net").signature


@pytest.mark.parametrize(
    "options",
    [
        {"attack": "bad"},
        {"dataset": {"kind": "digits", "x": 1}},
        {"net": {"side": 3}},
        {"train": {"steps": 0}},
        {"nett": {}},
        {"base": ["mnist-clean"]},
    ],
    ids=str,
)
def test_what_is_wrong_gets_a_sentence(options):
    with pytest.raises(LabError):
        Recipe.of(**options)
