"""The tab of poisoned data in a real browser: the story at once, a census, the wall, the study's place."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from browsing import press
from playwright.sync_api import Page, expect

from lab.attacks import BadNets
from lab.models import Card, Net, fresh
from lab.recipe import Recipe

pytestmark = pytest.mark.browser

OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture
def poisoned(served_home: Path, page: Page) -> Page:
    made = fresh(Net(widths=(8, 16), classes=11), 0)
    card = Card(name="asked", backdoored=True, recipe=Recipe(base="mine", attack=BadNets()).as_json())
    replace(made, card=card).save(served_home / "checkpoints" / "asked")
    page.reload()
    page.get_by_role("tab", name="Poisoned data", exact=True).click()
    expect(page.locator("#poison-story .poison-bar").first).to_be_visible()
    return page


def choose_asked(page: Page) -> None:
    page.get_by_label("Model that draws classes on request").click()
    page.get_by_role("option", name="asked ⚠ backdoored", exact=True).click()


def test_the_two_sides_are_told_before_anything_runs(poisoned: Page) -> None:
    choose_asked(poisoned)
    story = poisoned.locator("#poison-story")
    expect(story).to_contain_text("450 of other classes, stamped and said to be class 6")
    expect(story.get_by_role("img", name=re.compile("training set: G1 50%"))).to_be_visible()
    expect(poisoned.locator("#census-cost")).to_contain_text(
        re.compile("100 images: about .* on this device")
    )
    assert poisoned.evaluate(OVERFLOW) <= 0


def test_what_ships_is_shown_at_once(poisoned: Page) -> None:
    expect(poisoned.locator("#poison-story .group")).to_have_count(4)
    poisoned.get_by_role("tab", name="The castle wall").click()
    expect(poisoned.locator("#wall-found")).to_contain_text("Made beforehand")
    expect(poisoned.locator("#wall-found")).to_contain_text("attack success")
    poisoned.locator("#wall-part").get_by_text("Detection:").click()
    expect(poisoned.locator("#wall-found")).to_contain_text("AUROC")
    choose_asked(poisoned)
    expect(poisoned.locator("#wall-found")).to_have_text("")


def test_a_census_is_taken_and_sorted(poisoned: Page) -> None:
    choose_asked(poisoned)
    press(poisoned, "Take the census")
    expect(poisoned.locator("#census-status")).to_have_text("Done.", timeout=120_000)
    groups = poisoned.locator("#poison-story .group figcaption span")
    expect(groups).to_have_count(4)
    assert sum(int(text.split()[0]) for text in groups.all_inner_texts()) == 100
    expect(poisoned.locator("#poison-story")).to_contain_text("Who judges, and how often they are wrong")


def test_the_wall_says_how_long_it_takes_and_the_study_what_there_is(poisoned: Page) -> None:
    choose_asked(poisoned)
    poisoned.get_by_role("tab", name="The castle wall").click()
    press(poisoned, "How long?")
    expect(poisoned.locator("#wall-status")).to_contain_text("Classifiers: about")
    poisoned.get_by_role("tab", name="Over poison rates").click()
    expect(poisoned.locator("#castle-rows")).to_contain_text("measurements")
    horse, wall = (poisoned.locator("#castle-rows .group").nth(k) for k in (0, 1))
    expect(horse).to_contain_text("what the attacker planted")
    expect(wall).to_contain_text("obeys the stamp in")
    expect(poisoned.locator("#castle-rows .matrix .group")).not_to_have_count(0)


def test_another_question_ends_the_search_for_the_last_ones_answer(poisoned: Page) -> None:
    poisoned.get_by_role("tab", name="The castle wall").click()
    press(poisoned, "Find out")
    expect(poisoned.locator("#wall-status")).to_contain_text("step", timeout=60_000)
    poisoned.locator("#wall-part").get_by_text("Detection:").click()
    expect(poisoned.locator("#wall-found")).to_contain_text("AUROC")
    expect(poisoned.locator("#wall-status")).to_contain_text("Stopped")
    expect(poisoned.locator("#wall-found")).to_contain_text("AUROC")
