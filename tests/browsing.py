"""The page in a real browser: one lab that is served to all tests, one visitor, and how a person finds things."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from background import processes
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect, sync_playwright

from lab.places import ROOT
from lab.store import Store

ARGUMENTS = (
    "--no-sandbox --disable-gpu --disable-quic --disable-background-networking "
    "--disable-component-update --disable-sync --no-first-run"
)
PATIENCE = 30_000  # ms: a busy single core must be enough


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Headless Chromium; without one the tests are skipped loudly, or fail where REQUIRE_BROWSER=1."""
    names = ("chromium", "chromium-browser", "google-chrome")
    chromium = next(filter(None, map(shutil.which, names)), None)
    if chromium is None:
        reason = f"NO CHROMIUM FOUND ({', '.join(names)}): THE PAGE IS NOT TESTED"
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS.split())
        expect.set_options(timeout=PATIENCE)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def served_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The LAB_HOME of the served lab."""
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="session")
def address(browser: Browser, served_home: Path) -> Iterator[str]:
    """Where `python -m lab app` serves the page, in a process of its own."""
    with serving(served_home) as place:
        yield place


@contextmanager
def serving(home: Path, **environment: str) -> Iterator[str]:
    """Serve the page of a lab with this home and environment; yields where."""
    port = free_port()
    words = [sys.executable, "-m", "lab", "app", "--port", str(port)]
    lab = subprocess.Popen(
        words,
        cwd=ROOT,
        env={**os.environ, "LAB_HOME": str(home), "OMP_NUM_THREADS": "1", "LAB_COMPILE": "0", **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield answering(f"http://127.0.0.1:{port}", lab)
    finally:
        lab.terminate()
        lab.wait(timeout=60)  # it gives what is being sampled its time
        for process in processes(Store(home / "runs")):
            process.kill()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_answering(address: str) -> bool:
    """Whether a page opens there."""
    try:
        with urlopen(f"{address}/config", timeout=5):
            return True
    except (URLError, OSError):
        return False


def answering(address: str, lab: subprocess.Popen[bytes]) -> str:
    """The address as soon as somebody answers there."""
    for _ in range(600):
        assert lab.poll() is None, "the lab stopped while it started"
        if is_answering(address):
            return address
        time.sleep(0.1)
    raise AssertionError("the lab does not answer")


@pytest.fixture(scope="session")
def visitor(browser: Browser) -> Iterator[BrowserContext]:
    """One visitor for all tests, so that the page's scripts are read once."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    yield context
    context.close()


@pytest.fixture
def page(visitor: BrowserContext, address: str) -> Iterator[Page]:
    """A new tab with the page open and ready; a JavaScript error on it is a failure."""
    page, errors = visitor.new_page(), []
    page.set_default_timeout(PATIENCE)
    page.on("pageerror", lambda error: errors.append(str(error)))
    opened(page, address)
    yield page
    page.close()
    assert errors == []


def opened(page: Page, address: str) -> None:
    """Open an address of the page and wait until it has said what there is to say."""
    page.goto(address)
    expect(status(page)).to_contain_text("Generate")
    expect(page.locator("#truth")).to_contain_text("B")


# How a person finds things -----------------------------------------------------------------------------------------


def status(page: Page) -> Locator:
    return page.locator("#status")


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def number(page: Page, label: str) -> Locator:
    """The number beside a slider."""
    return page.get_by_label(f"number input for {label}")


def enter(field: Locator, value: object) -> None:
    field.fill(str(value))
    field.press("Tab")


def quick(page: Page, steps: int = 6, n: int = 2) -> None:
    """Few steps and few images."""
    enter(number(page, "steps"), steps)
    enter(number(page, "Images"), n)


def choose(page: Page, label: str, option: str) -> None:
    """Choose from a dropdown."""
    page.get_by_role("combobox", name=label, exact=True).click()
    page.get_by_role("option", name=option, exact=True).click()


def upload(page: Page, name: str, *files: Path) -> None:
    """Press an upload button and choose files, as a person does: it opens the chooser only once it listens."""
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name=name, exact=True).click()
    chooser.value.set_files(files)


def chosen(page: Page, label: str) -> Locator:
    return page.get_by_role("combobox", name=label, exact=True)


def clip(page: Page, kind: str) -> Locator:
    return page.locator("#clip").get_by_role("radio", name=kind, exact=True)


def row(page: Page, slot: str, label: str) -> Locator:
    """One grid of pictures with its words."""
    column = page.get_by_role("region", name=f"{slot}: ")
    return column.get_by_role("figure").filter(has=page.get_by_text(label, exact=True))


def picture(page: Page, slot: str = "B", label: str = "triggered noise") -> Locator:
    return row(page, slot, label).get_by_role("img")


def preview(page: Page) -> Locator:
    return page.get_by_alt_text("the trigger")


def done(page: Page) -> None:
    expect(status(page)).to_have_text("Done.")


def paint(board: Locator, x: int, y: int) -> None:
    """Dab one pixel of a 32 × 32 painting."""
    box = board.bounding_box()
    assert box
    board.click(position={"x": (x + 0.5) / 32 * box["width"], "y": (y + 0.5) / 32 * box["height"]})


def ask_for_little(page: Page, title: str, **numbers: int) -> None:
    """Fill in a training that takes seconds; previews is how many pictures it draws on the way."""
    page.get_by_label("Title", exact=True).fill(title)
    unfold(page)
    previews = numbers.pop("previews")
    form = page.get_by_role("tabpanel").filter(has=page.locator("#start"))
    for label, value in numbers.items():
        form.get_by_label(label, exact=True).fill(str(value))
    form.get_by_label("number input for previews").fill(str(previews))


def unfold(page: Page) -> None:
    """Show the options that most trainings leave alone."""
    page.locator("#finer").get_by_text("data and the finer points").click()


def attacking(page: Page) -> None:
    """Open the Attack tab."""
    page.get_by_role("tab", name="Attack").click()
    expect(page.locator("#start")).to_be_visible()
