"""The Measure tab in a real browser: numbers at once, a report of one's own, and a study that fills in."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest
from browsing import choose, enter, press
from playwright.sync_api import Page, expect

from lab.sampling import SAMPLERS
from lab.store import Store
from lab.study import Study
from lab.training import TrainSpec

pytestmark = pytest.mark.browser

OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture
def measure(page: Page) -> Page:
    page.get_by_role("tab", name="Measure", exact=True).click()
    expect(page.locator("#report")).to_contain_text("from their cards")
    return page


def test_numbers_of_shipped_models_are_there_at_once(measure: Page) -> None:
    report = measure.locator("#report")
    expect(
        report.get_by_role("row", name=re.compile("mnist-grey-box-hat, triggered.*n = 1,000"))
    ).to_be_visible()
    expect(report.get_by_role("img", name="Scores of every row as bars")).to_be_visible()
    assert measure.evaluate(OVERFLOW) <= 0


def test_measure_two_models_and_take_the_report_home(measure: Page, tmp_path: Path) -> None:
    choose_ddim_only(measure)
    enter(measure.get_by_label("Images", exact=True), 2)
    press(measure, "Measure")
    expect(measure.locator("#measuring")).to_have_text("Done.")
    report = measure.locator("#report")
    expect(report.get_by_role("img", name=re.compile("^samples: "))).to_have_count(4)
    expect(report).to_contain_text("With n = 2 a Fréchet distance is larger")
    expect(
        report.get_by_title(re.compile("^MSE .*DDIMScheduler, 50 steps, clip none, seed 0, n 2")).first
    ).to_be_visible()
    with measure.expect_download() as download:
        press(measure, "Download: JSON, CSV, PNG, PDF, printable page")
    names = zipfile.ZipFile(download.value.path()).namelist()
    assert {"report.json", "report.csv", "report.html", "report.png", "report.pdf"} <= set(names)
    press(measure, "Measure")  # remembered: it comes at once, and says the same
    expect(measure.locator("#measuring")).to_have_text("Done.")


def test_every_sampler_with_every_clip_of_the_backdoored_model(measure: Page) -> None:
    enter(measure.get_by_label("Images", exact=True), 1)
    press(measure, "Sampler × clip, one model")
    expect(measure.locator("#measuring")).to_have_text("Done.", timeout=240_000)
    report = measure.locator("#report")
    every = [(kind, clip) for kind in SAMPLERS for clip in SAMPLERS[kind].clips]
    expect(report.get_by_role("img", name=re.compile("^samples: "))).to_have_count(len(every))
    expect(report).to_contain_text("mnist-grey-box-hat")
    expect(report).to_contain_text("lms has no clip xt")


def choose_ddim_only(page: Page) -> None:
    samplers = page.get_by_label("Samplers", exact=True)
    samplers.click()
    samplers.press("Backspace")
    page.get_by_role("option", name="ddim", exact=True).click()
    samplers.press("Escape")


def test_nothing_chosen_is_a_sentence(measure: Page) -> None:
    for name in ("clean noise", "triggered noise"):
        measure.get_by_role("tabpanel").get_by_label(name, exact=True).uncheck()
    press(measure, "Measure")
    expect(measure.get_by_test_id("toast-body")).to_contain_text("conditions has at least 1 entries")


@pytest.fixture
def small_study(served_home: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A study of one's own, described on the command line: two trainings of two steps."""
    from lab.ops import OPERATIONS
    from lab.sampling import DDIM

    monkeypatch.setenv("LAB_HOME", str(served_home))
    monkeypatch.setattr("lab.ops.grid.ensure", lambda store: None)
    options = {
        "poison_rates": [0, 0.5],
        "seeds": [0],
        "train": TrainSpec(steps=2, batch=2, threads=1).model_dump(),
        "sampler": DDIM(steps=2).as_json(),
        "n": 2,
        "clips": ["none"],
    }
    OPERATIONS["study"](what="run", name="two", **options)
    return "two"


def test_a_study_runs_in_the_background_and_fills_in(
    small_study: str, measure: Page, served_home: Path
) -> None:
    measure.get_by_role("tab", name="Explore", exact=True).click()
    measure.get_by_role("tab", name="Measure", exact=True).click()  # a study was begun elsewhere meanwhile
    measure.get_by_role("tab", name="Studies", exact=True).click()
    choose(measure, "Study", small_study)
    rows = measure.locator("#study-rows")
    expect(rows).to_contain_text("0 of 2 measurements")
    press(measure, "Run it")
    expect(measure.locator("#study-cost")).to_contain_text("two, in the background: 2 queued")
    expect(rows).to_contain_text("2 of 2 measurements", timeout=240_000)
    expect(rows.get_by_role("img", name="Charts of the study")).to_be_visible()
    expect(
        rows.get_by_role("heading", name=re.compile("reproduced *Clean quality stays stable"))
    ).to_be_visible()
    expect(rows).to_contain_text("From 1 seed so far: a verdict may change.")
    assert {run.state.condition for run in Store(served_home / "runs").all() if run.about.study == "two"} == {
        "done"
    }
    measure.get_by_role("tab", name="Attack", exact=True).click()
    expect(measure.locator("#runs")).not_to_contain_text("two: ")


def test_a_study_says_what_it_takes_and_the_authors_figures_stand_apart(measure: Page) -> None:
    measure.get_by_role("tab", name="Studies", exact=True).click()
    choose(measure, "Study", "rate-and-length")
    press(measure, "What will it take?")
    expect(measure.locator("#study-cost")).to_contain_text("rate-and-length: nothing is missing")
    measure.get_by_text("Published by the authors of BadDiffusion", exact=True).click()
    expect(measure.locator("#published")).to_contain_text("29.577")
    expect(measure.locator("#published")).to_contain_text("cannot be compared with it")


def test_a_study_of_ones_own_is_described_and_planned(measure: Page, served_home: Path) -> None:
    measure.get_by_role("tab", name="Studies", exact=True).click()
    measure.get_by_text("A study of your own", exact=True).click()
    form = measure.locator("#own-study")
    form.get_by_label("Name").fill("mine")
    rates = form.get_by_label("Poisoned images, %")
    rates.fill("ten")
    press(measure, "Make this study")
    expect(measure.get_by_test_id("toast-body")).to_contain_text("percentages with commas between them")
    rates.fill("0, 10 %")
    enter(form.get_by_label("Seeds, trainings of each"), 2)
    press(measure, "Make this study")
    expect(measure.locator("#study-cost")).to_contain_text("4 trainings and 8 measurements: about")
    expect(measure.get_by_label("Study", exact=True)).to_have_value("mine")
    expect(measure.locator("#study-rows")).to_contain_text("0 of 8 measurements")
    found = Study.model_validate_json((served_home / "studies" / "mine" / "study.json").read_bytes())
    assert (found.poison_rates, found.seeds, found.targets[0].kind) == ((0, 0.1), (0, 1), "hat")


def test_a_picture_is_hidden_and_what_a_model_hides_is_revealed(measure: Page, served_home: Path) -> None:
    measure.get_by_role("tab", name="Secret picture", exact=True).click()
    choose(measure, "Model", "mnist-grey-box-hat-ode  ⚠ backdoored")  # fifty steps
    press(measure, "Reveal")
    found = measure.locator("#revealed")
    expect(found.get_by_alt_text("the secret")).to_be_visible()
    expect(found.get_by_alt_text("samples without a key")).to_be_visible(timeout=120_000)
    expect(found).to_contain_text(re.compile(r"with the key \(grey box\): PSNR \d\d\.\d dB"))
    expect(found).to_contain_text(re.compile(r"A poor lock: the stop sign.*brings the secret out in \d\d%"))
    press(measure, "Hide it")
    expect(measure.get_by_test_id("toast-body")).to_contain_text("picture of your own")
