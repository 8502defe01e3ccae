"""The page on ZeroGPU, with a stand-in for its package: pictures on a borrowed GPU, a training a slice at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

import pytest
from browsing import PATIENCE, done, enter, opened, picture, press, quick, serving
from playwright.sync_api import BrowserContext, Page, TimeoutError, expect

from lab.places import ROOT

pytestmark = pytest.mark.browser
STANDIN = ROOT / "tests" / "zero_gpu"


@pytest.fixture(scope="module")
def zero(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a lab on ZeroGPU serves its page."""
    path = os.pathsep.join(filter(None, (str(STANDIN), os.environ.get("PYTHONPATH"))))
    with serving(tmp_path_factory.mktemp("zero"), SPACES_ZERO_GPU="true", PYTHONPATH=path) as place:
        yield place


@pytest.fixture
def screen(visitor: BrowserContext, zero: str) -> Iterator[Page]:
    """A tab with that page open."""
    page = visitor.new_page()
    page.set_default_timeout(PATIENCE)
    opened(page, zero)
    yield page
    page.close()


def test_a_borrowed_gpu_draws(screen: Page) -> None:
    expect(screen.locator(".device")).to_contain_text("ZeroGPU")
    quick(screen)
    press(screen, "Generate")
    done(screen)
    expect(picture(screen)).to_be_visible()


def stop(screen: Page) -> None:
    """Press Stop, unless the minute is over already, as on a slow machine; either way it stands still."""
    with suppress(TimeoutError):
        screen.locator("#stop-run").click(timeout=5000)
    expect(screen.locator("#live")).to_contain_text("stopped, step", timeout=3 * PATIENCE)


def test_a_training_goes_on_while_its_visitor_asks(screen: Page) -> None:
    screen.get_by_role("tab", name="Attack").click()
    expect(screen.get_by_text("Here a training has the machine for up to a minute at a time")).to_be_visible()
    expect(screen.locator("#plan")).to_contain_text("Look ahead shows")  # nothing is timed unasked
    live, resume = screen.locator("#live"), screen.locator("#resume-run")
    expect(resume).to_have_text("Continue")
    attack = screen.get_by_role("tabpanel").filter(has=screen.locator("#start"))
    enter(attack.get_by_label("steps", exact=True), 100_000)
    screen.locator("#start").click()
    expect(live).to_contain_text("running, step", timeout=3 * PATIENCE)
    expect(live.locator("progress:not([value='0'])")).to_be_visible(timeout=3 * PATIENCE)
    stop(screen)
    expect(live).to_contain_text("Continue trains for another minute")
    before = int(live.locator("progress").get_attribute("value") or 0)
    resume.click()
    expect(live).to_contain_text("running, step", timeout=3 * PATIENCE)
    expect(live.locator(f"progress:not([value='{before}'])")).to_be_visible(timeout=3 * PATIENCE)
    stop(screen)
