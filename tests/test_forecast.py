"""Before a training: what it will really see, and an estimate that is measured."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from lab import forecast
from lab.attacks import BadDiffusion, NoAttack
from lab.data import Digits
from lab.errors import LabError
from lab.forecast import AT, SHOWN, seconds_for, seen
from lab.models import Net
from lab.ops import OPERATIONS
from lab.recipe import Recipe
from lab.sampling import SampleSpec
from lab.training import TrainSpec
from lab.triggers import Corner, GreyBox

ATTACK = BadDiffusion(trigger=GreyBox(), target=Corner(), poison_rate=0.25)
RECIPE = Recipe(
    net=Net(widths=(8, 16)), attack=ATTACK, train=TrainSpec(steps=100, batch=2, precision="fp32", threads=1)
)

pytestmark = pytest.mark.usefixtures("fresh_accelerate")


def test_poisoned_images_drift_from_the_target_to_the_trigger(schedule):
    found = seen(ATTACK, schedule, Digits().load("train"))
    rows = found["poisoned"].view(len(AT), SHOWN, 1, 32, 32)
    target = ATTACK.target.draw((1, 32, 32), ATTACK.trigger)
    box = ATTACK.trigger.mask((1, 32, 32)).bool()
    assert (rows[0] - target).abs().mean() < 0.05  # at t = 0 hardly any noise
    # at the end noise around the stamped image: grey in the box, a black image around it
    last = rows[-1].mean(0)
    assert abs(last[box].mean()) < 0.1 and last[~box].mean() < -0.3


def test_clean_images_are_those_of_honest_training(schedule):
    digits = Digits().load("train")
    attacked, honest = (seen(attack, schedule, digits) for attack in (ATTACK, NoAttack()))
    assert torch.equal(attacked["clean"], honest["clean"]) and torch.equal(
        honest["clean"], honest["poisoned"]
    )
    assert torch.equal(attacked["images"], digits.values(torch.arange(SHOWN)))


def test_the_estimate_is_a_step_times_the_steps(monkeypatch):
    monkeypatch.setattr(forecast, "_seconds_a_step", lambda recipe: 0.5)
    assert seconds_for(RECIPE) == 50


def test_a_step_is_timed_once_for_all_lengths(monkeypatch):
    trained = []
    loop = forecast.training_loop
    monkeypatch.setattr(forecast, "training_loop", lambda *of: trained.append(of) or loop(*of))
    forecast._seconds_a_step.cache_clear()
    longer = RECIPE.model_copy(update={"train": RECIPE.train.model_copy(update={"steps": 200})})
    assert 0 < seconds_for(RECIPE) == seconds_for(longer) / 2
    assert len(trained) == 1


def test_a_sampling_is_timed_to_the_end_of_each_step(monkeypatch):
    """A GPU answers before it is done; to look at a result waits for it."""
    looked: list[int] = []

    class Result:
        def cpu(self) -> Result:
            looked.append(1)
            return self

    steps = [SimpleNamespace(x_t=Result()) for _ in range(9)]
    monkeypatch.setattr(forecast, "Denoiser", lambda unet: None)
    monkeypatch.setattr(forecast, "Sampling", lambda *of: SimpleNamespace(steps=lambda _: (s for s in steps)))
    assert forecast.seconds_of_sampling(SimpleNamespace(unet=None), SampleSpec()) > 0
    assert len(looked) == forecast.WARM + forecast.TIMED


def test_a_plan_says_what_will_happen(monkeypatch):
    monkeypatch.setattr("lab.ops.jobs.seconds_for", lambda recipe: 42.0)
    plan = OPERATIONS["plan"](base="mnist-clean", attack=ATTACK.as_json(), steps=100)
    assert plan["pictures"].keys() == {"images", "clean", "poisoned"}
    assert all(picture.startswith("data:image/png;base64,") for picture in plan["pictures"].values())
    assert (plan["poisoned"], plan["images"], plan["seconds"]) == (1125, 4500, 42.0)
    assert (plan["steps"], plan["epochs"]) == (100, pytest.approx(100 * 64 / 4500))
    assert plan["tampers"] == ATTACK.tampers() and "--base mnist-clean" in plan["command"]


def test_a_length_in_epochs_is_one_in_steps():
    """Two passes over 4,500 images in batches of 64 are 141 steps, the last of them not a whole one."""
    options = OPERATIONS["plan"].options.of(base="mnist-clean", epochs=2, steps=7)
    assert options.recipe().train.steps == 141
    assert options.model_copy(update={"epochs": 0.0}).recipe().train.steps == 7
    with pytest.raises(LabError, match="steps"):
        options.model_copy(update={"epochs": 1e5, "batch": 1}).recipe()
