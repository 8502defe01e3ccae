"""What the quick recipe gives and costs: read from the card of the model that was made with it, never written by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from lab.models import find, read_card
from lab.ops import QUICK, price, quick_price
from lab.ui import words


def test_the_price_is_that_of_the_recipe_that_the_page_offers():
    train = read_card(find(price.MODEL)).recipe["train"]
    assert {**train, "threads": 0} == {**QUICK.model_dump(mode="json"), "threads": 0}


def test_the_price_is_what_the_cards_say():
    found = quick_price()
    assert found
    card = read_card(find(price.MODEL))
    row = next(
        r
        for r in card.scores
        if (r["condition"], r["clip"], r["seed"], r["n"]) == ("triggered", "none", 0, found["n"])
        and r["sampler"] == card.sampler
    )
    assert found["success"] == next(s["value"] for s in row["scores"] if s["name"] == "success")
    assert found["n"] >= 1000 and found["damage"] > 0.5
    said = words.price(found)
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


def test_damage_is_in_distances_of_the_base(monkeypatch: pytest.MonkeyPatch):
    cards = {price.MODEL: card(0.9), "base": card(0.6)}
    monkeypatch.setattr(price, "find", lambda name: name)
    monkeypatch.setattr(price, "names", lambda: list(cards))
    monkeypatch.setattr(price, "read_card", cards.__getitem__)
    found = quick_price()
    assert found and found["damage"] == pytest.approx(1.5) and found["success"] == 0.9
    cards["base"].scores += card(0.3, n=2000).scores
    found = quick_price()
    assert found and found["damage"] == pytest.approx(3.0)  # the row with the most images counts


def test_without_the_model_or_its_numbers_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(price, "names", list)
    assert quick_price() is None and words.price(None) == ""
    monkeypatch.setattr(price, "find", lambda name: name)
    monkeypatch.setattr(price, "names", lambda: [price.MODEL])
    monkeypatch.setattr(price, "read_card", lambda name: card(0.9, seed=1))
    assert quick_price() is None
