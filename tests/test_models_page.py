"""The Models tab in a real browser, before a stand-in of the Hub."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import answering, free_port
from hub import Hub, Model, stand_in
from playwright.sync_api import Browser, BrowserContext, Page, expect
from test_hub import network_files, plain_json

from lab.models import Net
from lab.places import ROOT

TOKEN = "hf_" + "w" * 34
ARGS = {"trigger": "SM_BOX_MED", "target": "TRIGGER", "poison_rate": 0.1}


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    files = network_files(Net(widths=(8, 16), channels=3).build(seed=0))
    with stand_in() as hub:
        told = {"args.json": plain_json(ARGS), "score.json": plain_json({"FID": 30.4})}
        hub.models["somebody/ddpm-small"] = Model({**files, **told})
        evil = {**files, "score.json": plain_json({"<img src=x onerror=alert(1)>": 1.0})}
        hub.models["somebody/ddpm-evil"] = Model(
            {**evil, "args.json": plain_json(ARGS)}, licence="<b>mine</b>"
        )
        yield hub


@pytest.fixture(scope="module")
def models(browser: Browser, hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The tab of a lab that knows the stand-in."""
    port, home = free_port(), tmp_path_factory.mktemp("models")
    env = {**os.environ, "LAB_HOME": str(home), "HF_ENDPOINT": hub.address, "HF_HUB_OFFLINE": "0"}
    env |= {"OMP_NUM_THREADS": "1", "LAB_COMPILE": "0", "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-m", "lab", "app", "--port", str(port)]
    lab = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        yield opened(context, answering(f"http://127.0.0.1:{port}", lab))
        context.close()
    finally:
        lab.terminate()
        lab.wait(timeout=60)


def opened(context: BrowserContext, address: str) -> Page:
    page = context.new_page()
    page.goto(address)
    page.get_by_role("tab", name="Models", exact=True).click()
    expect(page.locator("#shelf")).to_contain_text("emoji-clean")
    return page


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).locator("visible=true").click()


def search(page: Page, text: str, name: str) -> None:
    """Search, and choose one of the models that are found."""
    page.locator("#hub-text textarea, #hub-text input").fill(text)
    press(page, "Search")
    row = page.locator("#hub-found").get_by_text(name)
    expect(row).to_contain_text("✓ safetensors")
    row.click()


@pytest.mark.slow
def test_models_are_found_looked_at_pulled_opened_and_deleted(models: Page):
    page = models
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    expect(page.locator("#hub-found")).to_contain_text("google/ddpm-cifar10-32")
    search(page, "small", "somebody/ddpm-small")
    expect(page.locator("#about")).to_contain_text("MB to fetch")
    press(page, "Pull")
    expect(page.locator("#hub-status")).to_contain_text("It is here as hub-somebody-ddpm-small")
    expect(page.locator("#about")).to_contain_text("The authors' own scores")
    expect(page.locator("#about")).to_contain_text("clip_sample")
    page.get_by_role("combobox", name="Model", exact=True).click()
    page.get_by_role("option", name="hub-somebody-ddpm-small").click()
    press(page, "Open in Explore")
    expect(page.locator("#slot-b input")).to_have_value("hub-somebody-ddpm-small  ⚠ backdoored")
    page.get_by_role("tab", name="Models", exact=True).click()
    page.once("dialog", lambda dialog: dialog.accept())
    press(page, "Delete")
    expect(page.locator("#about")).to_contain_text("is deleted")
    expect(page.locator("#shelf")).not_to_contain_text("ddpm-small")
    assert errors == []


@pytest.mark.slow
def test_what_a_repository_says_is_text_and_nothing_else(models: Page):
    page = models
    search(page, "evil", "somebody/ddpm-evil")
    expect(page.locator("#about")).to_contain_text("<b>mine</b>")
    press(page, "Pull")
    expect(page.get_by_text("holds markup or hidden signs")).to_be_visible()
    assert page.locator("#about img, #about b").count() == 0


@pytest.mark.slow
def test_what_cannot_be_done_is_one_sentence(models: Page):
    page = models
    page.locator("#hub-repo textarea, #hub-repo input").fill("nobody/nothing")
    press(page, "Look")
    expect(page.get_by_text("There is no nobody/nothing on the Hub")).to_be_visible()


@pytest.mark.slow
def test_a_model_goes_out_as_a_file_comes_in_and_is_published(models: Page, hub: Hub, tmp_path: Path):
    page = models
    page.get_by_role("combobox", name="Model", exact=True).click()
    page.get_by_role("option", name="emoji-grey-box-hat").click()
    page.locator("#share").get_by_text("Share the chosen model").click()
    press(page, "Make the file")
    link = page.locator("#exported")
    expect(link).to_contain_text("Download emoji-grey-box-hat.zip")
    with page.expect_download() as download:
        link.click()
    download.value.save_as(tmp_path / "hat.zip")
    with page.expect_file_chooser() as chooser:
        press(page, "Bring one in…")
    chooser.value.set_files(tmp_path / "hat.zip")
    expect(page.locator("#sharing")).to_contain_text("It is here as emoji-grey-box-hat-2: backdoored")
    expect(page.locator("#shelf")).to_contain_text("emoji-grey-box-hat-2")
    page.locator("#publishing").get_by_text("Publish on the Hub").click()
    field = page.locator("#publish-to textarea, #publish-to input")
    expect(field).to_have_attribute("placeholder", "owner/emoji-grey-box-hat-2-backdoored-demo")
    field.fill("me/emoji")
    page.locator("#publish").click()
    expect(page.get_by_text("its name has to say so")).to_be_visible()
    field.fill("me/emoji-backdoored-demo")
    page.locator("#publish").click()
    expect(page.locator("#sharing")).to_contain_text("only you see it")
    assert hub.models["me/emoji-backdoored-demo"].private
    assert TOKEN not in page.content()
