"""The worker: a run to its end, stopped and resumed without a trace, and a sentence for whatever goes wrong."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from lab import priority, worker
from lab.attacks import BadDiffusion
from lab.errors import LabError
from lab.models import Net, load, names, read_card
from lab.places import home
from lab.queue import Queue
from lab.recipe import Recipe
from lab.runs import free_name
from lab.store import About, Store, Stored
from lab.training import TrainSpec
from lab.triggers import Corner, GreyBox
from lab.worker import work

TRAIN = TrainSpec(steps=6, batch=2, save_every=2, precision="fp32", threads=1)
RECIPE = Recipe(
    net=Net(widths=(8, 16)),
    attack=BadDiffusion(trigger=GreyBox(), target=Corner(), poison_rate=0.5),
    train=TRAIN,
)

pytestmark = pytest.mark.usefixtures("fresh_accelerate")


@pytest.fixture(autouse=True)
def no_supervisor(monkeypatch) -> None:
    """A worker that is done wakes a supervisor where runs wait."""
    monkeypatch.setattr(worker, "ensure", lambda store: None)


def submitted(recipe: Recipe = RECIPE, title: str = "My corner!", previews: int = 0) -> Stored:
    store = Store()
    run = store.create(recipe, About(title=title, previews=previews))
    Queue(store).put(run)
    return run


def weights(name: str) -> dict[str, torch.Tensor]:
    return load(name).unet.state_dict()


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_a_run_ends_as_a_checkpoint_of_ones_own():
    run = submitted()
    state = work(run.folder)
    assert (state.condition, state.checkpoint) == ("done", "my-corner")
    assert read_card(home() / "checkpoints" / "my-corner").recipe == RECIPE.as_json()
    assert Queue(Store()).lines()[0]["condition"] == "done"
    assert [tick["step"] for tick in run.ticks()] == [6]
    assert not list(run.folder.glob("state-*"))


def test_a_worker_on_another_machine_leaves_the_index_alone(monkeypatch):
    store = Store()
    run = store.create(RECIPE, About(launcher={"kind": "ray"}, previews=0))
    monkeypatch.setattr(worker, "Queue", lambda store: pytest.fail("SQLite over a network"))
    assert work(run.folder).condition == "done"


def test_a_run_that_is_asked_to_stop_goes_on_later_to_the_same_weights(monkeypatch):
    work(submitted().folder)
    run = submitted(title="stopped")
    steps = []

    def ask_after_three(run: Stored, loop: object, asked: list[int]):
        for tick in at_leisure(run, loop, asked):
            steps.append(tick.step)
            if len(steps) == 3:
                run.ask_to_stop()
            yield tick

    at_leisure = worker._at_leisure
    monkeypatch.setattr(worker, "_at_leisure", ask_after_three)
    assert work(run.folder).condition == "stopped"
    assert not run.is_asked_to_stop and Queue(Store()).lines()[0]["condition"] == "stopped"
    assert work(run.folder).condition == "done"
    assert equal(weights("my-corner"), weights("stopped"))
    assert len(steps) < 2 * TRAIN.steps


def test_a_run_that_the_system_ends_saves_first(monkeypatch):
    run = submitted()
    waited = iter([False])

    def terminated() -> bool:
        if next(waited, True):
            os.kill(os.getpid(), signal.SIGTERM)
        return False

    monkeypatch.setattr(priority, "is_somebody_waiting", terminated)
    before = signal.getsignal(signal.SIGTERM)
    assert work(run.folder).condition == "stopped"
    assert list(run.folder.glob("state-*"))
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_run_whose_machine_is_taken_back_saves_and_is_begun_again(monkeypatch):
    run = submitted()
    waited = iter([False])

    def warned() -> bool:
        if next(waited, True):
            os.kill(os.getpid(), signal.SIGUSR2)
        return False

    monkeypatch.setattr(priority, "is_somebody_waiting", warned)
    work(run.folder)
    assert run.state.condition == "lost" and list(run.folder.glob("state-*"))


def test_training_pauses_while_a_page_waits(monkeypatch):
    waits, naps = iter([True, True, True, False]), []
    monkeypatch.setattr(priority, "is_somebody_waiting", lambda: next(waits, False))
    # not time itself: other threads of the tests sleep too
    monkeypatch.setattr(priority, "time", SimpleNamespace(sleep=naps.append))
    assert work(submitted().folder).condition == "done"
    assert naps == [priority.PAUSE] * 3


def test_previews_are_made_on_the_way_and_change_nothing(monkeypatch):
    work(submitted(title="without").folder)
    made: list[int] = []
    monkeypatch.setattr(worker.Previews, "make", lambda self, step: made.append(step.step))
    assert work(submitted(title="with", previews=3).folder).condition == "done"
    assert made == [2, 4, 6]
    assert equal(weights("without"), weights("with"))


def test_a_second_worker_is_refused(monkeypatch):
    monkeypatch.setattr(worker, "PATIENCE", 0.0)
    run = submitted()
    with run.lock.acquire(), pytest.raises(LabError, match="at work already"):
        work(run.folder)


def test_what_is_refused_is_said_and_can_be_read():
    run = submitted(Recipe(base="nothing", train=TRAIN))
    state = work(run.folder)
    assert state.condition == "failed" and "no checkpoint called 'nothing'" in state.error
    assert run.recipe["base"] == "nothing"


def test_a_damaged_recipe_is_not_replaced_by_the_default_one():
    run = submitted()
    (run.folder / "recipe.json").write_text("{")
    assert "damaged" in work(run.folder).error


def test_a_full_disk_is_said_and_what_was_saved_stays(monkeypatch):
    run = submitted()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lab.training.Trainer.save", full)
    state = work(run.folder)
    assert state.condition == "failed" and state.error.startswith("No space left on device")
    monkeypatch.undo()
    assert work(run.folder).condition == "done"


def test_a_run_killed_after_its_checkpoint_was_put_away_does_not_make_a_second_one(monkeypatch):
    run = submitted()
    work(run.folder)
    run.become("running")
    monkeypatch.setattr(worker, "closing", lambda loop: pytest.fail("trained again"))
    assert work(run.folder).checkpoint == "my-corner"
    assert names().count("my-corner") == 1 and "my-corner-2" not in names()


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Hat, 10 %", "hat-10"),
        ("mnist-clean", "mnist-clean-2"),
        ("№ ☃", f"baddiffusion-{RECIPE.signature}"),
        ("x" * 80, "x" * 60),
    ],
)
def test_a_checkpoint_is_called_after_its_run(title, name):
    assert free_name(title, RECIPE) == name


def test_runs_of_one_title_at_once_get_names_of_their_own():
    store = Store()
    runs = [store.create(RECIPE, About(title="a study")) for _ in range(3)]
    assert [store.name(run, RECIPE) for run in runs] == ["a-study", "a-study-2", "a-study-3"]
    assert store.name(runs[1], RECIPE) == "a-study-2"


def test_the_folder_may_be_named_from_anywhere(monkeypatch, tmp_path):
    run = submitted()
    monkeypatch.chdir(run.folder.parent)
    assert work(Path(run.id)).condition == "done"
