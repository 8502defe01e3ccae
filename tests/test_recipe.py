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
