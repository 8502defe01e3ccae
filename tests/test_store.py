"""Run folders: complete or not there, read whatever is wrong with them, and never mistaken for being at work."""

from __future__ import annotations

import json
import os
import threading

import pytest

from lab.attacks import BadDiffusion
from lab.errors import LabError
from lab.places import home
from lab.recipe import Recipe
from lab.store import About, Store, Stored

RECIPE = Recipe(attack=BadDiffusion(poison_rate=0.1))


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def run(store) -> Stored:
    return store.create(RECIPE, About(title="hat", created=5.0))


def test_a_run_is_a_folder_that_says_everything(store, run):
    assert run.folder.parent == home() / "runs"
    assert run.id == f"{RECIPE.signature}-1"
    assert Recipe(**run.recipe) == RECIPE
    assert (run.about.title, run.about.owner, run.state.condition) == ("hat", "local", "queued")
    assert store.get(run.id) == run and list(store.all()) == [run]


def test_equal_recipes_get_numbers(store, run):
    assert [store.create(RECIPE, About()).id for _ in range(2)] == [f"{RECIPE.signature}-{k}" for k in (2, 3)]


def test_two_who_create_at_once_get_two_folders(store):
    made: list[str] = []
    threads = [
        threading.Thread(target=lambda: made.append(store.create(RECIPE, About()).id)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 8 == len(list(store.all()))
    assert not list(store.root.glob(".*"))


@pytest.mark.parametrize("run_id", ["", "..", "../x", "abcdef01-0", "abcdef01-1", "ABCDEF01-1", "a" * 200])
def test_what_is_no_run_gets_a_sentence(store, run_id):
    with pytest.raises(LabError, match="There is no run"):
        store.get(run_id)


def test_a_new_state_keeps_what_is_not_said(run):
    run.become("running", checkpoint="hat")
    run.become("queued")
    assert (run.state.condition, run.state.checkpoint) == ("queued", "hat")
    assert run.become("failed", error="no").error == "no"
    assert run.become("queued").error == ""


def test_a_running_run_without_a_worker_is_lost(run):
    run.become("running")
    assert run.state.condition == "lost" and "without a word" in run.state.error
    with run.lock.acquire():
        assert run.at_work and run.state.condition == "running"
    assert not run.at_work


def test_a_run_that_works_elsewhere_is_not_lost_for_want_of_a_process_here(store):
    run = store.create(RECIPE, About(launcher={"kind": "slurm"}))
    assert run.become("running").condition == run.state.condition == "running"
    with pytest.raises(LabError, match="stop it first"):  # though nobody here holds it
        store.delete(run)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"condition": "asleep"}', b'{"more": 1}'])
def test_a_damaged_state_is_said_and_the_rest_can_be_read(run, content):
    (run.folder / "state.json").write_bytes(content)
    assert run.state.condition == "failed" and "damaged" in run.state.error
    (run.folder / "about.json").write_bytes(content)
    (run.folder / "recipe.json").write_bytes(content)
    assert run.about == About()
    assert isinstance(run.recipe, dict)
    assert run.become("queued").condition == run.state.condition == "queued"


def test_ticks_come_after_a_step_and_torn_lines_do_not(run):
    assert run.ticks() == []
    lines = [json.dumps({"step": step, "total": 30}) for step in (10, 20)]
    (run.folder / "ticks.jsonl").write_text("\n".join(["7", *lines, '{"step": 3']))
    assert [tick["step"] for tick in run.ticks()] == [10, 20]
    assert [tick["step"] for tick in run.ticks(after=10)] == [20]


def test_the_log_is_its_last_lines(run):
    assert run.log() == ""
    (run.folder / "log.txt").write_bytes(b"".join(b"line %d\n" % k for k in range(1000)) + b"\xff")
    assert run.log(3).splitlines() == ["line 998", "line 999", "\ufffd"]


def test_a_mark_asks_to_stop(run):
    assert not run.is_asked_to_stop
    run.ask_to_stop()
    assert run.is_asked_to_stop
    run.ask_to_stop(False)
    run.ask_to_stop(False)
    assert not run.is_asked_to_stop


def test_a_run_at_work_is_not_deleted(store, run, monkeypatch):
    monkeypatch.setattr("lab.store.ENDING", 0.01)
    with run.lock.acquire(), pytest.raises(LabError, match="stop it first"):
        store.delete(run)
    store.delete(run)
    assert not list(store.all()) and not list(store.root.iterdir())
    assert not run.at_work  # nothing is left that could be


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_has_no_worker(run):
    run.folder.chmod(0o500)
    assert not run.at_work
    run.folder.chmod(0o700)


def test_a_title_may_change_and_nothing_else_with_it(run):
    before = run.about
    run.call("shoe")
    assert run.about == before.model_copy(update={"title": "shoe"})
