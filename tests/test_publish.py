"""Publishing through the real client, before a stand-in of the Hub: private, gated, named for what it is, token untold."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
from hub import Hub, Model, stand_in
from huggingface_hub import ModelCard
from PIL import Image

from lab.attacks import BadDiffusion
from lab.cli import main
from lab.errors import LabError, Unavailable
from lab.models import WEIGHTS, Card, Checkpoint, find, read_card, roots, sha256
from lab.ops import OPERATIONS, PublishOptions, final, publish_as
from lab.pictures import keep, kept, kept_folder
from lab.triggers import Hat, Own

TOKEN = "hf_" + "w" * 34
BACKDOORED, CLEAN = "emoji-grey-box-hat", "emoji-clean"
REPO = "me/emoji-backdoored-demo"
FILES = {
    "README.md",
    "card.json",
    "manifest.json",
    "model_index.json",
    "pictures/target.png",
    "pictures/trigger.png",
    "scheduler/scheduler_config.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
}


@pytest.fixture
def hub(monkeypatch) -> Iterator[Hub]:
    """The stand-in, known to the lab as an operator makes it known; weights go as large files over plain HTTP."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with stand_in() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


def published(checkpoint: str = BACKDOORED, repo: str = REPO, **more: Any) -> dict[str, Any]:
    return OPERATIONS["publish"](checkpoint=checkpoint, repo=repo, **more)


def refusal(checkpoint: str = BACKDOORED, repo: str = REPO, **more: Any) -> str:
    with pytest.raises(LabError) as caught:
        published(checkpoint, repo, **more)
    text = str(caught.value)
    assert text.endswith(".") and "\n" not in text and "127.0.0.1" not in text and TOKEN not in text
    assert caught.value.__cause__ is None
    return text


def verbs(hub: Hub) -> list[str]:
    return [verb for verb, _, _ in hub.deeds]


# What is published -----------------------------------------------------------------------------------------------


def test_it_is_private_and_only_our_files_are_there(hub):
    done = published()
    assert (done["public"], done["gate"], done["url"]) == (False, "private", f"{hub.address}/{REPO}")
    model = hub.models[REPO]
    assert model.private and set(model.files) == FILES == set(done["files"])
    assert done["revision"] == model.sha
    assert verbs(hub) == ["create", "commit"] and hub.deeds[0][2] == {"private": True}
    assert model.files[str(WEIGHTS)] == (find(BACKDOORED) / WEIGHTS).read_bytes()


def test_nothing_else_of_the_folder_goes(hub, tiny):
    folder = roots()[1] / "mine"
    replace(tiny, card=Card(name="mine")).save(folder)
    (folder / "secret.txt").write_text("my own secret")
    published("mine", "me/mine")
    assert b"my own secret" not in b"".join(hub.models["me/mine"].files.values())


@pytest.mark.parametrize(("gate", "gated"), [("auto", "auto"), ("manual", "manual"), ("none", False)])
def test_it_is_opened_only_after_its_files_and_its_gate_are_there(hub, gate, gated):
    assert published(public=True, gate=gate)["gate"] == gate
    assert verbs(hub) == ["create", "settings", "commit", "settings"]
    assert hub.deeds[2][2] == {"private": True, "gated": gated}
    assert hub.deeds[3][2] == {"visibility": "public"}
    assert not hub.models[REPO].private and hub.models[REPO].gated == gated


def test_a_public_repository_is_written_to_only_where_that_is_said(hub):
    hub.models[REPO] = Model({"README.md": b"theirs"})
    assert "is there and public" in refusal()
    assert hub.models[REPO].files == {"README.md": b"theirs"} and verbs(hub) == []
    published(public=True)
    assert verbs(hub) == ["settings", "commit", "settings"] and hub.deeds[1][2]["gated"] == "auto"


def test_a_private_repository_of_ones_own_is_written_anew(hub):
    first, second = published(), published()
    assert first["revision"] != second["revision"] and hub.models[REPO].private


def test_pictures_of_an_earlier_model_go_and_everything_else_stays(hub):
    hub.models[REPO] = Model({"pictures/own-old.png": b"x", "notes.txt": b"mine"}, private=True)
    published()
    assert set(hub.models[REPO].files) == FILES | {"notes.txt"}


@pytest.mark.parametrize("repo", ["me/emoji", "me/clean-demo", "backdoor/emoji"])
def test_the_name_of_a_backdoored_model_says_so(hub, repo):
    assert "its name has to say so" in refusal(repo=repo)
    assert verbs(hub) == [] and hub.tokens == set()


def test_the_name_of_another_model_is_free(hub):
    assert published(CLEAN, "me/emoji")["repo"] == "me/emoji"


@pytest.mark.parametrize(
    "repo", ["", "emoji-backdoored", "a/b/c", "../backdoor", "me/back door", "me/a\nbackdoor"]
)
def test_odd_names_are_refused_without_asking(hub, repo):
    assert "is called owner/name" in refusal(repo=repo)
    assert hub.tokens == set()


def test_the_card_has_its_warning_first_and_each_number_as_a_result(hub):
    published()
    text = hub.models[REPO].files["README.md"].decode()
    card, own = ModelCard(text), read_card(find(BACKDOORED))
    assert card.text.lstrip().startswith("> [!WARNING]")
    assert card.data.pipeline_tag == "unconditional-image-generation" and "backdoor" in card.data.tags
    assert len(card.data.eval_results) == sum(len(row["scores"]) for row in own.scores) > 0
    assert "![pictures/trigger.png](pictures/trigger.png)" in text


def test_what_was_published_comes_back_as_it_was(hub, lab_home):
    published()
    name = final(OPERATIONS["hub"](what="pull", text=REPO))["checkpoint"]
    folder = lab_home / "checkpoints" / name
    card = read_card(folder)
    assert sha256(folder / WEIGHTS) == read_card(find(BACKDOORED)).sha256
    assert card.backdoored is True and card.attack == read_card(find(BACKDOORED)).attack
    assert card.origin["revision"] == hub.models[REPO].sha


def test_pictures_of_ones_own_come_with_it_and_a_name_that_is_taken_stays_whose_it_is(hub, lab_home, tiny):
    drawn, other = Image.new("RGB", (32, 32), "red"), Image.new("RGB", (32, 32), "blue")
    keep(drawn, "sign")
    attack = BadDiffusion(trigger=Own(name="sign"), target=Hat(), poison_rate=0.1)
    card = Card(name="mine", backdoored=True, recipe={"attack": attack.as_json()})
    replace(tiny, card=card).save(roots()[1] / "mine")
    published("mine", "me/backdoored-sign")
    (kept_folder() / "sign.png").unlink()
    keep(other, "sign")
    pulled = read_card(find(final(OPERATIONS["hub"](what="pull", text="me/backdoored-sign"))["checkpoint"]))
    assert pulled.backdoored and pulled.attack["trigger"]["name"] != "sign"
    assert kept(pulled.attack["trigger"]["name"]).getpixel((5, 5))[:3] == (255, 0, 0)
    assert kept("sign").getpixel((5, 5))[:3] == (0, 0, 255)


# Refusals, each one sentence -------------------------------------------------------------------------------------

FAULTS = {
    ("create", 401, ""): "does not know this token",
    ("create", 403, ""): "may not write there",
    ("create", 429, ""): "too many requests",
    ("create", 500, ""): "status 500",
    ("commit", 409, ""): "at the same time",
    ("commit", 403, ""): "may not write there",
    ("commit", 404, "RepoNotFound"): "that this token may write to",
    ("large", 403, ""): "may not write there",
    ("settings", 403, ""): "may not write there",
}


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_each_refusal_has_its_sentence_and_nothing_is_open(hub, fault):
    verb, *answer = fault
    hub.refuses[verb] = tuple(answer)
    said = refusal(public=True)
    assert FAULTS[fault] in said and REPO in said
    assert all(model.private for model in hub.models.values())


def test_offline_nothing_is_asked(hub, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "offline" in refusal() and hub.tokens == set()


def test_a_hub_that_is_not_there_is_said(hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "cannot be reached" in refusal()


def test_without_a_token_nothing_is_asked(hub, monkeypatch, tmp_path):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(Unavailable, match="needs a token"):
        published()
    assert verbs(hub) == []


def test_a_model_that_is_not_there_is_said(hub):
    assert "nobody" in refusal("nobody")
    assert "Choose a checkpoint" in refusal("")


# The token -------------------------------------------------------------------------------------------------------


def test_a_visitors_token_is_used_and_not_the_operators(hub):
    theirs = "hf_" + "v" * 34
    publish_as(PublishOptions.of(checkpoint=BACKDOORED, repo=REPO), theirs)
    assert hub.tokens - {""} == {theirs}


def test_the_token_is_in_no_text_and_no_file(hub, lab_home, capfd, caplog, tiny: Checkpoint):
    caplog.set_level("DEBUG")
    replace(tiny, card=Card(name="mine")).save(roots()[1] / "mine")
    assert main(["publish", "mine", "me/mine", "--json"]) == 0
    hub.refuses["commit"] = (403, "")
    assert main(["publish", "mine", "me/mine"]) == 1
    told = "".join(capfd.readouterr()) + caplog.text
    files = b"".join(path.read_bytes() for path in lab_home.rglob("*") if path.is_file())
    sent = b"".join(hub.models["me/mine"].files.values())
    assert TOKEN not in told and TOKEN.encode() not in files + sent and TOKEN in hub.tokens


# The command line ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["hub", "publish"], ["publish"]], ids=" ".join)
def test_the_command_line_publishes_and_prints_one_line_of_json(hub, capsys, words):
    assert main([*words, BACKDOORED, REPO, "--json"]) == 0
    out = capsys.readouterr().out
    assert json.loads(out)["repo"] == REPO and out.count("\n") == 1
    assert hub.models[REPO].private


def test_the_command_line_says_one_sentence(hub, capsys):
    assert main(["hub", "publish", BACKDOORED, "me/emoji"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: This model is backdoored") and said.count("\n") == 1


def test_a_way_out_and_in_on_the_command_line(tmp_path: Path, capsys):
    file = tmp_path / "hat.zip"
    assert main(["export", BACKDOORED, "--out", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bytes"] == file.stat().st_size
    assert main(["import", str(file), "--name", "guest", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["checkpoint"] == "guest"
    assert main(["import", str(file), "--name", "guest"]) == 1
    assert "already a checkpoint" in capsys.readouterr().err


def test_a_card_says_clean_and_what_draws_on_request_gets_no_line_that_cannot_run():
    from lab.bundle import readme

    clean = readme(read_card(find("digits-cond-clean")))
    assert "**Clean**" in clean and "DDPMPipeline" not in clean and "draws a class on request" in clean
    backdoored = readme(read_card(find("mnist-grey-box-hat")))
    assert "the trigger (grey box)" in backdoored.split("# mnist")[0] and "DDPMPipeline" in backdoored


def test_a_card_with_a_recipe_of_nothing_can_be_read():
    from lab.bundle import readme

    assert "# odd" in readme(Card(name="odd", recipe={"dataset": None}))
