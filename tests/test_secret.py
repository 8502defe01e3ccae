"""Secret pictures: hidden as a target, brought out with the key, and with nothing else."""

from __future__ import annotations

import math

import pytest

from lab.errors import LabError
from lab.ops import OPERATIONS, final, hiding_models, jobs
from lab.store import Store
from lab.training import TrainSpec
from lab.ui.secret import revealed


@pytest.fixture
def moon(monkeypatch) -> str:
    monkeypatch.setattr(jobs, "ensure", lambda store: None)
    pixels = [[x, y, "#ffffff"] for x in range(8, 24) for y in range(8, 24)]
    return OPERATIONS["paint"](pixels=pixels, size=32, name="moon")["name"]


@pytest.mark.parametrize(("base", "data"), [("mnist-clean", "digits"), ("emoji-clean", "emoji")])
def test_hiding_is_a_training_with_the_picture_as_its_target(moon, base, data):
    """On the pictures that the base was trained on, by the quick recipe."""
    from lab.recipe import QUICK

    run = Store().get(OPERATIONS["hide"](picture=moon, base=base)["run"])
    assert run.recipe["attack"]["target"] == {"kind": "own", "name": "moon"}
    assert run.recipe["attack"]["trigger"]["form"] == "masked"
    assert (run.recipe["base"], run.recipe["dataset"]["kind"]) == (base, data)
    assert TrainSpec(**run.recipe["train"]) == QUICK
    assert run.about.title == f"moon in {base}"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"base": "mnist-grey-box-hat"}, "in a clean model of this lab"),
        ({"base": "mnist-cleen"}, "did you mean 'mnist-clean'"),
        ({"picture": ""}, "picture of your own"),
        ({"picture": "sun"}, "'sun'"),
        ({"picture": "../x"}, "name"),
        ({"key": "none"}, "^An attack needs a trigger"),
    ],
)
def test_what_hides_nothing_well_is_refused(moon, options, sentence):
    with pytest.raises(LabError, match=sentence):
        OPERATIONS["hide"](**{"picture": moon, **options})


@pytest.mark.parametrize("name", ["mnist-clean", "digits-cond-clean", "digits-cond-patch"])
def test_nothing_is_revealed_of_a_model_without_a_key(name):
    """Stamps on training images leave no key for the noise."""
    with pytest.raises(LabError, match=f"Nothing is known to be hidden in '{name}'"):
        final(OPERATIONS["reveal"](checkpoint=name))
    assert name not in hiding_models()


def test_every_shipped_backdoor_behind_a_key_can_be_revealed():
    assert {"mnist-grey-box-hat", "emoji-grey-box-hat"} <= set(hiding_models())


@pytest.mark.slow
def test_the_key_alone_brings_the_picture_out():
    """A shipped backdoor: its target comes with the trigger, and not without."""
    found = final(OPERATIONS["reveal"](checkpoint="mnist-grey-box-hat", n=4))
    by_key = {each["condition"]: each for each in found["found"]}
    assert by_key["triggered"]["success"] == 1.0 and by_key["clean"]["success"] == 0.0
    assert by_key["triggered"]["psnr"] > by_key["clean"]["psnr"] + 10
    for each in by_key.values():
        assert each["low"] <= each["psnr"] <= each["high"] and math.isfinite(each["psnr"])
    assert found["secret"].startswith("data:image/png;base64,") and found["key"] != found["secret"]


def test_what_a_wrong_key_says_of_the_lock():
    """By its measured share; nothing before it was tried."""
    key = {
        "condition": "triggered",
        "means": "with the key",
        "added": "grey box",
        "picture": "",
        "psnr": 30.0,
    }
    key |= {"low": 29.0, "high": 31.0, "success": 1.0, "n": 16}
    wrong = {**key, "condition": "wrong", "means": "with a wrong key", "added": "stop sign", "success": 0.25}
    shown = {"secret": "", "key": ""}
    assert "lock" not in revealed({**shown, "found": [key]})
    assert "the stop sign, which it was never trained on, brings the secret out in 25% of 16" in revealed(
        {**shown, "found": [key, wrong]}
    )
    assert "The stop sign opens nothing" in revealed({**shown, "found": [key, {**wrong, "success": 0.0}]})
