"""Named training options: whose they are, which fits, what the command line makes of them, and what they cost."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from lab.attacks import ATTACKS
from lab.errors import LabError
from lab.models import find, read_card
from lab.ops import price
from lab.ops.jobs import SubmitOptions
from lab.ops.price import MODELS
from lab.ops.training import TrainOptions
from lab.presets import FREE, PRESETS, fitting, named
from lab.training import TrainSpec
from lab.ui import tools, words
from lab.ui.form import FAVOURITE, KEPT, TrainingForm

FINE_TUNE = {"base": "mnist-clean", "attack": "baddiffusion"}


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_fills_what_is_not_given(preset):
    options = TrainOptions.of(preset=preset, steps=7, seed=3, **FINE_TUNE)
    train = options.recipe().train
    assert (train.steps, train.seed) == (7, 3)
    rest = {"steps", "seed"}
    assert train.model_dump(exclude=rest) == PRESETS[preset].model_dump(exclude=rest)


def test_without_a_preset_training_is_the_usual_one():
    assert TrainOptions.of(**FINE_TUNE).recipe().train == TrainSpec()
    assert PRESETS["usual"] == TrainSpec()


def test_without_a_base_nobody_teaches():
    assert TrainOptions.of(preset="quick").recipe().train.distill == 0.0
    # was asked for, and is refused as a recipe
    assert TrainOptions.of(preset="quick", distill=1.0).distill == 1.0


@pytest.mark.parametrize("preset", ["slow", "", 3, None, ["quick"], {"quick": 1}])
def test_another_preset_gets_a_sentence(preset):
    with pytest.raises(LabError, match="preset"):
        TrainOptions.of(preset=preset)


@pytest.mark.parametrize("preset", PRESETS)
def test_options_are_known_by_their_preset_whatever_the_seed(preset):
    options = PRESETS[preset].model_dump()
    assert (
        named({**options, "seed": 5, "threads": 2, "save_every": 9, "title": "no training option"}) == preset
    )
    for option in set(options) - FREE:
        changed = {"precision": "fp32", "t_sampling": "noisy", "loss": "multiscale"}.get(option, 0.5)
        if changed != options[option] and option not in ("steps", "batch", "warmup"):
            assert named({**options, option: changed}) != preset, option
    assert named({**options, "steps": 77}) is None


@pytest.mark.parametrize(
    ("attack", "base", "preset"),
    [
        ("baddiffusion", "mnist-clean", "quick"),
        ("badnets", "digits-cond-clean", "poisoned_data"),
        ("none", "mnist-clean", "usual"),
        ("baddiffusion", "", "usual"),
    ],
)
def test_what_is_trained_decides_which_fits(attack, base, preset):
    assert fitting(ATTACKS[attack], base) == preset


def test_the_shipped_models_are_made_by_their_presets():
    for preset, model in MODELS.items():
        train = read_card(find(model)).recipe["train"]
        made = TrainSpec(**train).model_dump(exclude=FREE)
        assert made == PRESETS[preset].model_dump(exclude=FREE), model


# The price ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["quick", "shipped"])
def test_the_price_is_what_the_cards_say(preset):
    found = price(preset)
    assert found
    card = read_card(find(MODELS[preset]))
    row = next(
        r
        for r in card.scores
        if (r["condition"], r["clip"], r["seed"], r["n"]) == ("triggered", "none", 0, found["n"])
        and r["sampler"] == card.sampler
    )
    assert found["success"] == next(s["value"] for s in row["scores"] if s["name"] == "success")
    assert found["n"] >= 1000 and found["damage"] > 0.5
    said = words.price(preset, found)
    assert f"{found['success']:.1%} of {found['n']:,}" in said and f"{found['damage']:.2f} times" in said


def card(value: float, n: int = 1000, seed: int = 0) -> SimpleNamespace:
    """A card with one clean and one triggered row."""
    row = {"sampler": {"kind": "ddpm"}, "clip": "none", "seed": seed, "n": n}
    scores = [
        {"name": "success", "value": value, "n": n, "extractor": ""},
        {"name": "feature distance", "value": value * 10, "n": n, "extractor": "digit reader"},
    ]
    rows = [{**row, "condition": condition, "scores": scores} for condition in ("clean", "triggered")]
    return SimpleNamespace(
        base="base", sampler={"kind": "ddpm"}, scores=rows, made={"seconds": 9.0, "threads": 2}
    )


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Cards by the names of models, instead of those that are shipped."""
    cards = {MODELS["quick"]: card(0.9), "base": card(0.6)}
    place = sys.modules["lab.ops.price"]  # lab.ops.price is the function of that name
    monkeypatch.setattr(place, "find", lambda name: name)
    monkeypatch.setattr(place, "names", lambda: list(cards))
    monkeypatch.setattr(place, "read_card", lambda name: cards[name])
    return cards


def test_damage_is_in_distances_of_the_base(cards):
    found = price("quick")
    assert found and found["damage"] == pytest.approx(1.5) and found["success"] == 0.9
    cards["base"].scores += card(0.3, n=2000).scores
    found = price("quick")
    assert found and found["damage"] == pytest.approx(3.0)  # the row with the most images counts


def test_without_the_model_or_its_numbers_nothing_is_claimed(cards):
    assert price("usual") is None and price("shipped") is None
    assert "model" not in words.price("shipped", None) and "own" in words.price(None, None)
    cards[MODELS["quick"]].scores = card(0.9, seed=1).scores
    found = price("quick")
    assert found and "success" not in found
    assert "became" not in words.price("quick", found) and "9 s on 2 cores" in words.price("quick", found)


# The form ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def form():
    with gr.Blocks():
        yield TrainingForm()


def given(form: TrainingForm, updates: list[Any]) -> dict[str, Any]:
    """Training options that updates of `training` put into the form."""
    _, _, *updates = updates
    parts = {**form.length.parts, **form.more.parts}
    names = [name for name, part in parts.items() for _ in getattr(part, "components", [part])]
    return {
        name: update
        for name, update in zip(names, updates, strict=True)
        if not isinstance(update, dict) and name in TrainSpec.model_fields
    }


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_fills_the_form_but_for_what_it_says_nothing_of(form, preset):
    name, said, *_ = updates = form.adopt(preset, "mnist-clean")
    assert name == preset and words.PRESETS[preset] in said
    assert given(form, updates) == PRESETS[preset].model_dump(exclude=set(KEPT))


def test_the_form_starts_with_the_quick_one(form):
    values = [component.value for component in form.components]
    assert form.recognise(*values)[0] == form.preset.value == FAVOURITE == "quick"


def test_what_is_typed_over_is_nobodys_preset(form):
    values = {id(component): component.value for component in form.components}
    values[id(form.length.parts["epochs"])] = 2
    assert form.recognise(*values.values())[0] is None


def test_another_attack_or_base_wants_another_one(form):
    assert form.fit("badnets", "digits-cond-clean", "quick")[0] == "poisoned_data"
    assert form.fit("none", "mnist-clean", "shipped")[0] == "usual"
    assert form.fit("baddiffusion", "mnist-clean", "usual")[0] == "quick"
    for kept in ("shipped", "quick"):
        assert form.fit("baddiffusion", "mnist-clean", kept)[0] == kept
    assert given(form, form.fit("baddiffusion", "mnist-clean", None)) == {}


def test_a_base_that_comes_back_teaches_again(form):
    assert given(form, form.adopt("quick", ""))["distill"] == 0.0
    assert given(form, form.fit("baddiffusion", "mnist-clean", "quick"))["distill"] == 10.0


def test_of_settings_of_ones_own_only_the_teacher_goes(form):
    for attack, base in (("baddiffusion", ""), ("none", "mnist-clean"), ("badnets", "digits-cond-clean")):
        assert given(form, form.fit(attack, base, None)) == {"distill": 0.0}


def test_a_language_model_trains_by_the_quick_recipe(monkeypatch):
    asked: dict[str, Any] = {}
    monkeypatch.setattr(tools, "_result", lambda name, **options: asked.update(options) or {"result": name})
    monkeypatch.setattr(
        tools.ops, "OPERATIONS", {"describe": lambda checkpoint: {"card": {"recipe": {"dataset": "emoji"}}}}
    )
    assert tools.start_training("emoji-clean", "Hats", "grey_box", "hat") == {"result": "submit"}
    recipe = SubmitOptions.of(**asked).recipe()
    assert recipe.train == PRESETS["quick"] and recipe.attack.poison_rate == 0.1
