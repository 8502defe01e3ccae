"""The Attack tab in a real browser: a training planned, started, watched, stopped, renamed, compared and repeated."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
from background import ODD, sampled, stored, tick, ticked
from browsing import PATIENCE, ask_for_little, attacking, choose, chosen, enter, paint, press, unfold, upload
from PIL import Image
from playwright.sync_api import Page, expect

from lab.store import Store

pytestmark = pytest.mark.browser


def test_a_training_is_looked_at_started_watched_and_opened(page: Page) -> None:
    page.get_by_role("tab", name="Attack").click()
    page.locator("#ahead").click()
    plan = page.locator("#plan")
    expect(plan).to_contain_text("450 of 4,500 training images are poisoned")
    expect(plan.get_by_alt_text("x_t of poisoned images")).to_be_visible()
    ask_for_little(page, "little hat", steps=12, batch=4, previews=1)
    page.locator("#start").click()
    live = page.locator("#live")
    expect(live).to_contain_text("little hat")
    expect(live).to_contain_text("It became the model little-hat", timeout=3 * PATIENCE)
    expect(live.get_by_alt_text("triggered noise at step 12")).to_be_visible()
    page.reload()
    page.get_by_role("tab", name="Attack").click()
    expect(page.locator("#runs")).to_contain_text("little hat · ✓ done")
    page.locator("#open-run").click()
    expect(page.locator("#slot-b input")).to_have_value(re.compile("little-hat"))
    expect(page.locator("#slot-a input")).to_have_value(re.compile("mnist-clean"))
    expect(page.locator("#generate")).to_be_visible()


def test_a_run_is_stopped_and_deleted_only_when_that_is_meant(page: Page) -> None:
    page.get_by_role("tab", name="Attack").click()
    page.get_by_label("Title").fill("long one")
    page.locator("#start").click()
    live, runs = page.locator("#live"), page.locator("#runs")
    expect(live).to_contain_text("long one")
    expect(live).to_contain_text("running", timeout=3 * PATIENCE)
    page.locator("#stop-run").click()
    expect(live).to_contain_text("stopped", timeout=3 * PATIENCE)
    page.once("dialog", lambda dialog: dialog.dismiss())
    page.locator("#delete-run").click()
    page.wait_for_timeout(1000)
    expect(runs).to_contain_text("long one")
    page.once("dialog", lambda dialog: dialog.accept())
    page.locator("#delete-run").click()
    expect(runs).not_to_contain_text("long one")


def first(said: list[str], words: str) -> int:
    """Which of the things said was the first to hold these words."""
    return next(number for number, text in enumerate(said) if words in text)


def test_looking_ahead_says_at_once_that_it_is_at_work(page: Page, served_home: Path) -> None:
    stored(Store(served_home / "runs"), title="one")  # so that the page does not look ahead by itself
    attacking(page)
    unfold(page)
    page.evaluate("""() => {
        window.said = [];
        const plan = document.querySelector('#plan');
        new MutationObserver(() => window.said.push(plan.innerText)).observe(plan, {subtree: true, childList: true});
    }""")
    page.get_by_label("batch", exact=True).fill("3")
    page.locator("#ahead").click()
    expect(page.locator("#plan")).to_contain_text("training images are poisoned")
    said = page.evaluate("() => window.said")
    waited, done = (first(said, words) for words in ("Looking ahead", "training images are poisoned"))
    assert waited < done


def test_nobody_teaches_where_there_is_no_base_or_no_attack(page: Page) -> None:
    attacking(page)
    unfold(page)
    distill = page.get_by_label("number input for distill")
    expect(distill).to_have_value("10")
    choose(page, "Start from", "from scratch")
    expect(distill).to_have_value("0")
    choose(page, "Start from", "mnist-clean  ✓ clean")
    expect(distill).to_have_value("10")
    choose(page, "Attack", "none")
    expect(distill).to_have_value("0")


def test_training_options_have_names_until_somebody_types_over_them(page: Page) -> None:
    attacking(page)
    steps, price, preset = (
        page.get_by_label("steps", exact=True).first,
        page.locator("#price"),
        page.locator("#preset"),
    )
    expect(steps).to_have_value("900")
    expect(price).to_contain_text("mnist-grey-box-hat-quick took")
    preset.get_by_label("shipped").check()
    expect(steps).to_have_value("6000")
    expect(price).to_contain_text("As the shipped backdoors are made")
    steps.fill("77")
    expect(price).to_contain_text("settings of your own")
    expect(preset.locator("input:checked")).to_have_count(0)
    steps.fill("6000")
    expect(preset.locator("input:checked")).to_have_value("shipped")


def test_looking_ahead_in_vain_gives_the_box_back(page: Page) -> None:
    attacking(page)
    choose(page, "Start from", "from scratch")
    unfold(page)
    page.get_by_label("network").fill("{widths: [8]}")
    page.locator("#ahead").click()
    expect(page.get_by_test_id("toast-body")).to_contain_text("written as JSON")
    expect(page.locator("#plan")).to_contain_text("Look ahead shows")


def test_a_run_is_renamed(page: Page, served_home: Path) -> None:
    store = Store(served_home / "runs")
    run = stored(store, title="before")
    attacking(page)
    page.locator("#runs").get_by_text("before").click()
    expect(page.locator("#live")).to_contain_text("before")
    page.locator("#rename-run").click()
    title = page.locator("#new-title").get_by_role("textbox")
    expect(title).to_have_value("before")
    title.fill("after <b>")
    press(page, "Save")
    expect(page.locator("#runs")).to_contain_text("after <b> · ■ stopped")
    expect(page.locator("#live").get_by_role("heading")).to_have_text("after <b>")
    expect(title).to_be_hidden()
    assert store.get(run.id).about.title == "after <b>"


def test_a_recipe_goes_back_into_the_form_and_only_what_is_changed_differs(
    page: Page, served_home: Path
) -> None:
    store = Store(served_home / "runs")
    run = stored(store, **RETRIED)
    attacking(page)
    page.locator("#runs").get_by_text("to retry").click()
    expect(page.locator("#live")).to_contain_text("to retry")
    page.locator("#again-run").click()
    expect(page.get_by_label("Title", exact=True)).to_have_value("to retry 2")
    expect(chosen(page, "Trigger")).to_have_value("stop sign")
    unfold(page)
    expect(page.get_by_label("seed", exact=True)).to_have_value("41")
    expect(page.get_by_label("number input for distill")).to_have_value("0")
    enter(page.get_by_label("seed", exact=True), 42)
    page.locator("#start").click()
    expect(page.locator("#runs")).to_contain_text("to retry 2")
    new = next(each for each in store.all() if each.about.title == "to retry 2")
    assert new.about.previews == 7
    recipe = run.recipe
    assert new.recipe == {**recipe, "train": {**recipe["train"], "seed": 42}}
    expect(page.locator("#live")).to_contain_text("✗ failed", timeout=3 * PATIENCE)
    expect(page.locator("#live")).to_contain_text("no data set of your own called 'gone'")


# every field unlike the form's own, and data that is gone, so that it fails and says why
GONE = {"kind": "uploaded", "name": "gone", "colour": False}
RETRIED = {**ODD, "title": "to retry", "dataset": GONE, "t_sampling": "uniform"}


def test_two_runs_stand_side_by_side(page: Page, served_home: Path) -> None:
    store = Store(served_home / "runs")
    for title, rate in (("tenth", 0.1), ("third", 0.3)):
        run = stored(store, "done", title=title, base="mnist-clean", attack=baddiffusion(rate))
        ticked(run, *(tick(step, loss_clean=rate / step, loss_poisoned=rate) for step in (10, 20, 30)))
        sampled(run, 20, 0.25)
        sampled(run, 30, 1.0)
    attacking(page)
    page.locator("#runs").get_by_text("tenth").click()
    live = page.locator("#live")
    expect(live.get_by_role("img", name="Became the target by step: 100%")).to_be_visible()
    expect(live).not_to_contain_text("What differs")
    choose_beside(page, "third")
    expect(live.get_by_role("row", name="poison rate 0.1 0.3")).to_be_visible()
    expect(live.locator(".differences tbody tr")).to_have_count(1)
    expect(live.get_by_role("img", name="Loss, clean images by step: A 0.0033 · B 0.0100")).to_be_visible()
    for slot in "AB":
        expect(live.get_by_alt_text(f"{slot}, triggered noise at step 30")).to_be_visible()
    choose_beside(page, "nothing")
    expect(live).not_to_contain_text("What differs")


def baddiffusion(rate: float) -> dict[str, Any]:
    return {"kind": "baddiffusion", "poison_rate": rate}


def choose_beside(page: Page, title: str) -> None:
    """Choose a run to compare with."""
    page.get_by_role("combobox", name="Compare with").click()
    page.get_by_role("option", name=title).click()


def test_a_painting_becomes_the_target_of_an_attack(page: Page, served_home: Path, tmp_path: Path) -> None:
    attacking(page)
    page.get_by_role("button", name="Paint or upload a picture").click()
    page.get_by_role("radio", name="target", exact=True).check()
    board = page.get_by_role("application")
    expect(board).to_be_visible()
    paint(board, 3, 4)
    own = page.locator("#attack-own")
    own.get_by_label("Name").fill("one-dot")
    press(page, "Use the painting")
    expect(own).to_contain_text("Kept as one-dot; it is the target now.")
    expect(chosen(page, "Target")).to_have_value("own")
    expect(chosen(page, "picture")).to_have_value("one-dot")
    expect(chosen(page, "Trigger")).to_have_value("grey box")
    assert Image.open(served_home / "pictures" / "one-dot.png").getchannel("A").histogram()[255] == 1
    page.get_by_role("radio", name="trigger", exact=True).check()
    Image.new("RGB", (20, 20), "#aa8866").save(tmp_path / "brown.png")
    enter(own.get_by_label("Name"), "brown")
    upload(page, "Upload…", tmp_path / "brown.png")
    expect(own).to_contain_text("Kept as brown; it is the trigger now.")
    expect(chosen(page, "Trigger")).to_have_value("own")
    expect(chosen(page, "Target")).to_have_value("own")


def test_a_zip_becomes_data_to_attack_and_a_hostile_one_a_sentence(page: Page, tmp_path: Path) -> None:
    page.get_by_role("tab", name="Data", exact=True).click()
    for k in range(4):
        Image.new("RGB", (40, 40), (60 * k, 80, 90)).save(tmp_path / f"{k}.png")
    for name, inside in (("bad.zip", "../{}"), ("good.zip", "blues/{}")):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for file in tmp_path.glob("*.png"):
                archive.write(file, inside.format(file.name))
    enter(page.locator("#own-data").get_by_label("Name"), "zipped")
    upload(page, "Upload pictures or a zip…", tmp_path / "bad.zip")
    expect(page.get_by_test_id("toast-body")).to_contain_text("leads out of it")
    upload(page, "Upload pictures or a zip…", tmp_path / "good.zip")
    expect(page.locator("#data")).to_contain_text("3 images to train on")
    attacking(page)
    unfold(page)
    choose(page, "Dataset", "uploaded")
    choose(page, "data set", "zipped")
    expect(chosen(page, "data set")).to_have_value("zipped")
