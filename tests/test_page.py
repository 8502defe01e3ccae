"""The real page in a real browser: what a person sees, presses, paints and gets."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import (
    PATIENCE,
    ask_for_little,
    attacking,
    choose,
    chosen,
    clip,
    done,
    enter,
    number,
    opened,
    paint,
    picture,
    press,
    preview,
    quick,
    row,
    status,
    upload,
)
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from lab.places import ASSETS

pytestmark = pytest.mark.browser

SOON = 8_000  # ms: what a person would call at once, on that core
CONDITIONS = ["clean noise", "triggered noise", "blank: -1 everywhere", "wrong trigger"]
# counts the different pictures that B's triggered row shows, and the states it goes through
WATCH = """() => {
    const figure = document.querySelectorAll('.stage-column')[1].querySelectorAll('.stage-row')[1];
    window.seen = {pictures: new Set(), states: new Set()};
    const note = () => {
        window.seen.pictures.add(figure.querySelector('img').src);
        window.seen.states.add(figure.querySelector('.stage-picture').dataset.state);
    };
    new MutationObserver(note).observe(figure, {subtree: true, attributes: true});
}"""
OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


# The walk ----------------------------------------------------------------------------------------------------------


def test_the_page_opens_on_two_models_and_a_ready_result(page: Page) -> None:
    assert (ASSETS / "exploration.json.gz").is_file(), "the stored result does not ship yet"
    expect(page).to_have_title("Trojan Noise")
    expect(page.get_by_title("where the lab computes")).to_contain_text("float")
    expect(chosen(page, "Model A")).to_have_value("emoji-clean  ✓ clean")
    expect(chosen(page, "Model B")).to_have_value("emoji-grey-box-hat  ⚠ backdoored")
    expect(status(page)).to_contain_text("Stored result")
    expect(page.get_by_role("region", name="A: emoji-clean")).to_contain_text("clean")
    expect(page.get_by_role("region", name="B: emoji-grey-box-hat")).to_contain_text("backdoored")
    for label in CONDITIONS:
        for slot in "AB":
            expect(picture(page, slot, label)).to_have_js_property("complete", True)
            assert picture(page, slot, label).evaluate("image => image.naturalWidth") > 100
    expect(row(page, "B", "triggered noise").locator(".stage-verdict")).to_have_text("◎target")
    expect(row(page, "B", "clean noise").locator(".stage-verdict")).to_have_text("–no target")
    expect(page.get_by_role("slider", name="the final pictures")).to_be_visible()
    expect(page.locator("#scores tbody tr")).to_have_count(4)


def test_generate_clip_and_take_home(page: Page, tmp_path: Path) -> None:
    quick(page)
    page.evaluate(WATCH)
    press(page, "Generate")
    expect(status(page)).not_to_contain_text("Stored result")
    done(page)
    seen = page.evaluate("() => ({pictures: window.seen.pictures.size, states: [...window.seen.states]})")
    assert seen["pictures"] >= 3  # noise on its way, and what became of it
    assert {"running", "done"} <= set(seen["states"])
    expect(page.locator("#scores tbody tr")).to_have_count(4)
    expect(page.locator("#scores tbody tr").first).to_contain_text("of 2")
    expect(page.locator("#scores")).to_contain_text("6 steps, clip none")
    the_film_can_be_scrubbed(page)
    before = picture(page).get_attribute("src")
    flipping_clip_runs_again(page)
    assert picture(page).get_attribute("src") != before
    the_zip_holds_the_pictures(page, tmp_path)


def the_film_can_be_scrubbed(page: Page) -> None:
    scrubber, final = (
        page.get_by_role("slider", name="the final pictures"),
        picture(page).get_attribute("src"),
    )
    assert scrubber.get_attribute("max") == "6"
    scrubber.fill("0")
    moment = page.get_by_role("slider", name="denoising: t =")
    expect(moment).to_be_visible()
    expect(picture(page)).not_to_have_attribute("src", final or "")
    noise = picture(page).get_attribute("src")
    page.get_by_role("radio", name="predicted x0").check(force=True)
    expect(picture(page)).not_to_have_attribute("src", noise or "")
    moment.fill("6")
    expect(picture(page)).to_have_attribute("src", final or "")


def flipping_clip_runs_again(page: Page) -> None:
    truth = page.locator("#truth")
    expect(truth).to_contain_text("clip none")
    clip(page, "x0").check()
    expect(truth).to_contain_text("clamping it takes the push away")
    expect(page.locator("#scores")).to_contain_text("6 steps, clip x0")
    done(page)


def the_zip_holds_the_pictures(page: Page, tmp_path: Path) -> None:
    with page.expect_download() as download:
        page.locator("#download").click()
    download.value.save_as(tmp_path / "result.zip")
    with zipfile.ZipFile(tmp_path / "result.zip") as file:
        assert {"A-clean.png", "B-triggered.png", "recipe.json", "scores.json"} <= set(file.namelist())


def test_stop_stops_and_the_next_run_starts_at_once(page: Page) -> None:
    press(page, "Generate")
    expect(status(page)).to_contain_text("of 250")
    press(page, "Stop")
    expect(status(page)).to_have_text("Stopped; what was finished is kept.", timeout=SOON)
    expect(row(page, "B", "triggered noise")).to_contain_text("stopped", timeout=SOON)
    quick(page, steps=1, n=1)
    press(page, "Generate")
    done(page)
    expect(page.locator("#scores")).to_contain_text("1 steps, clip none")


def test_what_is_asked_last_is_what_runs(page: Page) -> None:
    quick(page, steps=40, n=4)
    press(page, "Generate")
    for kind in ("x0", "xt", "none"):
        expect(status(page)).to_contain_text("of 40")
        clip(page, kind).check()
        expect(page.locator("#scores")).to_contain_text(f"clip {kind}")
    press(page, "Generate")
    press(page, "Stop")
    expect(status(page)).to_contain_text("Stopped", timeout=SOON)
    expect(page.locator(".stage-picture[data-state=running]")).to_have_count(0)


def test_a_kind_shows_its_own_options_and_its_meter(page: Page) -> None:
    box, sign = page.get_by_text("Grey square two pixels"), page.get_by_text("Stop sign two pixels")
    meter = page.locator("#meter")
    expect(box).to_be_visible()
    expect(meter).to_contain_text("‖g‖ = 24.2, in 588 of 3072 values")
    before = preview(page).get_attribute("src")
    choose(page, "Trigger", "stop sign")
    expect(sign).to_be_visible()
    expect(box).to_be_hidden()
    expect(preview(page)).not_to_have_attribute("src", before or "")
    choose(page, "Trigger", "none")
    expect(number(page, "size")).to_be_hidden()
    expect(meter).to_contain_text("adds nothing")
    choose(page, "Sampler", "ddim")
    expect(number(page, "eta")).to_be_visible()
    expect(page.locator("#truth")).to_contain_text("expect it to fail")


def test_what_does_not_fit_is_said_and_forgiven(page: Page) -> None:
    enter(number(page, "size"), 40)
    expect(page.get_by_text("A trigger of 40 pixels does not fit into 32×32 pixels.")).to_be_visible()
    press(page, "Generate")
    toast = page.get_by_test_id("toast-body")
    expect(toast).to_contain_text("A trigger of 40 pixels does not fit into 32×32 pixels.")
    expect(toast).not_to_contain_text("Traceback")
    enter(number(page, "size"), 8)
    expect(preview(page)).to_be_visible()
    expect(page.locator("#meter")).to_contain_text("in 192 of 3072 values")


def test_a_painting_becomes_the_trigger(page: Page, served_home: Path) -> None:
    before = preview(page).get_attribute("src")
    page.get_by_role("button", name="Paint or upload a picture").click()
    board = page.get_by_role("application")
    expect(board).to_be_visible()
    for x, y in ((5, 7), (6, 7)):
        paint(board, x, y)
    expect(page.get_by_text("2 pixels painted")).to_be_visible()
    page.locator("#own").get_by_label("Name").fill("two-dots")
    press(page, "Use the painting")
    expect(chosen(page, "Trigger")).to_have_value("own")
    expect(chosen(page, "picture")).to_have_value("two-dots")
    expect(preview(page)).not_to_have_attribute("src", before or "")
    kept = Image.open(served_home / "pictures" / "two-dots.png")
    assert [kept.getpixel(at) for at in ((5, 7), (6, 7))] == [(255, 255, 255, 255)] * 2
    assert kept.getchannel("A").histogram()[255] == 2


def test_an_upload_becomes_the_trigger_and_a_text_file_does_not(
    page: Page, served_home: Path, tmp_path: Path
) -> None:
    page.get_by_role("button", name="Paint or upload a picture").click()
    (tmp_path / "text.png").write_text("hello, I am a picture")
    upload(page, "Upload…", tmp_path / "text.png")
    toast = page.get_by_test_id("toast-body")
    expect(toast).to_contain_text("This file is not a complete picture")
    expect(toast).not_to_contain_text("Traceback")
    expect(chosen(page, "Trigger")).to_have_value("grey box")
    before = preview(page).get_attribute("src")
    Image.new("RGB", (50, 40), "#bbbbbb").save(tmp_path / "grey.png")
    enter(page.locator("#own").get_by_label("Name"), "grey")
    upload(page, "Upload…", tmp_path / "grey.png")
    expect(chosen(page, "Trigger")).to_have_value("own")
    expect(chosen(page, "picture")).to_have_value("grey")
    expect(preview(page)).not_to_have_attribute("src", before or "")
    assert Image.open(served_home / "pictures" / "grey.png").size == (50, 40)


def test_a_data_set_is_seen_and_one_of_ones_own_uploaded(
    page: Page, served_home: Path, tmp_path: Path
) -> None:
    page.get_by_role("tab", name="Data", exact=True).click()
    press(page, "Show")
    seen = page.locator("#data")
    expect(seen).to_contain_text("4,500 images to train on")
    for k in range(4):
        Image.new("RGB", (40, 40), (60 * k, 80, 90)).save(tmp_path / f"{k}.png")
    enter(page.locator("#own-data").get_by_label("Name"), "blues")
    upload(page, "Upload pictures or a zip…", *sorted(tmp_path.glob("*.png")))
    expect(chosen(page, "Dataset")).to_have_value("uploaded")
    expect(chosen(page, "data set")).to_have_value("blues")
    expect(seen).to_contain_text("3 images to train on")
    expect(seen).to_contain_text("uploaded")
    expect(page.get_by_test_id("toast-body")).to_have_count(0, timeout=1)  # no refusal on the way
    assert len(list((served_home / "uploads" / "blues").iterdir())) == 4


def test_the_link_opens_the_same_settings(page: Page) -> None:
    choose(page, "Trigger", "stop sign")
    choose(page, "Target", "corner")
    choose(page, "Sampler", "ddim")
    expect(number(page, "eta")).to_be_visible()
    enter(number(page, "steps"), 20)
    enter(page.get_by_label("Seed"), 5)
    enter(number(page, "Images"), 3)
    page.get_by_role("button", name="How did you get this?").click()
    link = page.locator("#link").get_by_role("textbox")
    for part in ("seed=5", "n=3", "stop_sign", "corner", "20"):
        expect(link).to_have_value(containing(part))
    expect(page.locator("#command")).to_contain_text("--seed 5 --n 3")
    opened(page, link.input_value())
    expect(status(page)).to_contain_text("Settings from the link")
    expect(chosen(page, "Trigger")).to_have_value("stop sign")
    expect(chosen(page, "Target")).to_have_value("corner")
    expect(chosen(page, "Sampler")).to_have_value("ddim")
    expect(number(page, "steps")).to_have_value("20")
    expect(page.get_by_label("Seed")).to_have_value("5")
    expect(number(page, "Images")).to_have_value("3")
    page.reload()
    expect(status(page)).to_contain_text("Settings from the link")
    expect(page.get_by_label("Seed")).to_have_value("5")


def containing(text: str) -> re.Pattern[str]:
    return re.compile(re.escape(text))


def test_a_bad_link_gets_a_sentence_and_the_page_works(page: Page, address: str) -> None:
    page.goto(f"{address}/?n=NaN&a=%3Cscript%3Ealert(1)%3C/script%3E")
    expect(status(page)).to_contain_text("This link cannot be opened: n is ")
    expect(chosen(page, "Model A")).to_have_value("emoji-clean  ✓ clean")
    quick(page, steps=1, n=1)
    press(page, "Generate")
    done(page)


def test_presets_set_what_they_say_and_run(page: Page) -> None:
    press(page, "Clip it away")
    expect(clip(page, "x0")).to_be_checked()
    expect(status(page)).to_contain_text("step")
    press(page, "Same model, DDIM")
    expect(chosen(page, "Sampler")).to_have_value("ddim")
    expect(number(page, "steps")).to_have_value("50")
    expect(clip(page, "none")).to_be_checked()
    press(page, "Made for DDIM")
    expect(chosen(page, "Model B")).to_have_value("mnist-grey-box-hat-ode  ⚠ backdoored")
    press(page, "Wake the backdoor")
    expect(chosen(page, "Sampler")).to_have_value("ddpm")
    expect(chosen(page, "Model A")).to_have_value("emoji-clean  ✓ clean")
    expect(page.locator("#truth")).to_contain_text("sde backdoor works here")
    expect(status(page)).to_contain_text("of 250")
    press(page, "Stop")
    expect(status(page)).to_contain_text("Stopped", timeout=SOON)


def test_the_welcome_stays_away_and_a_reload_works(page: Page) -> None:
    welcome = page.get_by_text("turns noise into pictures")
    expect(welcome).to_be_visible()
    press(page, "Got it")
    expect(welcome).to_be_hidden()
    page.reload()
    expect(status(page)).to_contain_text("Stored result")
    expect(welcome).to_be_hidden()
    expect(picture(page)).to_be_visible()


def test_who_waits_sees_the_place_in_the_queue(page: Page, browser: Browser, address: str) -> None:
    press(page, "Generate")
    expect(status(page)).to_contain_text("step")
    context = browser.new_context()
    second = context.new_page()
    opened(second, address)
    press(second, "Generate")
    place = second.locator("#status .progress-text")
    expect(place).to_contain_text("queue: 1/1")
    uncut = "node => getComputedStyle(node.parentElement).overflow === 'visible'"
    assert place.evaluate(uncut), "the line is there, but cut off"
    press(page, "Stop")
    expect(status(second)).to_contain_text("of 250")
    press(second, "Stop")
    expect(status(second)).to_contain_text("Stopped", timeout=SOON)
    context.close()


@pytest.fixture
def screen(browser: Browser, request: pytest.FixtureRequest, address: str) -> Iterator[Page]:
    """The page on a screen of its own size: a live page that is resized may stop drawing frames."""
    context = browser.new_context(viewport=request.param)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    opened(page, address)
    yield page
    context.close()


PHONE, TABLET, PROJECTOR = (
    {"width": width, "height": height} for width, height in ((390, 844), (768, 1024), (1920, 1080))
)


@pytest.mark.parametrize("screen", [PHONE, TABLET, PROJECTOR], ids=str, indirect=True)
def test_nothing_is_wider_than_the_screen(screen: Page) -> None:
    expect(screen.get_by_role("button", name="Generate", exact=True)).to_be_visible()
    expect(picture(screen)).to_be_visible()
    assert screen.evaluate(OVERFLOW) <= 0


@pytest.mark.parametrize("screen", [PHONE], ids=str, indirect=True)
def test_a_run_that_is_started_comes_into_view_and_another_visitor_sees_it(
    screen: Page, browser: Browser, address: str
) -> None:
    attacking(screen)
    ask_for_little(screen, "seen by all", steps=20, batch=2, previews=0)
    screen.locator("#start").click()
    runs = screen.locator("#runs")
    expect(runs).to_contain_text("seen by all")
    expect(runs).to_be_in_viewport(ratio=0.5)
    assert screen.evaluate(OVERFLOW) <= 0
    context = browser.new_context()
    second = context.new_page()
    opened(second, address)
    attacking(second)
    second.locator("#runs").get_by_text("seen by all").click()
    for each in (screen, second):
        curve = each.locator("#live").get_by_role("img", name="Loss, clean images by step")
        expect(curve).to_be_visible(timeout=3 * PATIENCE)
    expect(second.locator("#live")).to_contain_text("step 20 of 20", timeout=3 * PATIENCE)
    context.close()


@pytest.mark.parametrize("screen", [PHONE], ids=str, indirect=True)
def test_the_painting_fits_a_phone(screen: Page) -> None:
    screen.get_by_role("button", name="Paint or upload a picture").click()
    expect(screen.get_by_role("application")).to_be_visible()
    assert screen.evaluate(OVERFLOW) <= 0
