"""The supervisor: starts what waits, once; begins again what ended without a word; and real processes to prove it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any, ClassVar

import psutil
import pytest
import torch
from background import processes, submit, wait_until

from lab import supervisor
from lab.errors import LabError, Unavailable
from lab.launch import LAUNCHERS, Launcher, Process
from lab.models import Net, load
from lab.ops import OPERATIONS, final
from lab.places import ROOT
from lab.recipe import Recipe
from lab.store import About, State, Store, Stored
from lab.supervisor import Supervisor, ensure, supervise
from lab.training import TrainSpec, newest_step

TRAIN = TrainSpec(steps=4, batch=2, precision="fp32", threads=1)
RECIPE = Recipe(net=Net(widths=(8, 16)), train=TRAIN)


class Fake(Launcher):
    """Starts nothing, and is alive as long as it is told."""

    kind = "process"
    slow: ClassVar[float] = 0.0

    def start(self, run: Stored) -> dict[str, Any]:
        started.append(run.id)
        if run.about.title == "refused":
            raise LabError("No such cluster.")
        return {"alive": True}

    def is_alive(self, run: Stored, handle: dict[str, Any]) -> bool:
        asked.append(run.id)
        if handle["alive"] is None:
            raise Unavailable("The cluster does not answer.")
        return handle["alive"]

    def stop(self, run: Stored, handle: dict[str, Any]) -> None:
        run.keep_handle({"alive": False})


class Distant(Fake):
    """The same on other machines, whose locks are not seen here."""

    slow: ClassVar[float] = 10.0


started: list[str] = []
asked: list[str] = []


@pytest.fixture
def overseer(monkeypatch) -> Supervisor:
    """A supervisor of an empty store, with the fake launcher."""
    started.clear()
    asked.clear()
    monkeypatch.setattr(supervisor, "launcher_of", lambda run: Distant() if run.is_elsewhere else Fake())
    return Supervisor(Store(), slots=1, each=1, elsewhere=(3, 3))


def submitted(overseer: Supervisor, title: str = "a run", kind: str = "process") -> Stored:
    about = About(title=title, created=time.time(), launcher={"kind": kind})
    run = overseer.store.create(RECIPE, about)
    overseer.queue.put(run)
    return run


def indexed(overseer: Supervisor, run: Stored) -> str:
    return next(line["condition"] for line in overseer.queue.lines() if line["id"] == run.id)


def test_runs_are_started_one_after_the_other(overseer):
    first, second = submitted(overseer), submitted(overseer)
    assert overseer.look() and overseer.look()
    assert started == [first.id]
    with first.lock.acquire():
        first.become("running")
        assert overseer.look()
        assert indexed(overseer, first) == "running"
        first.become("done")
    assert overseer.look()
    assert started == [first.id, second.id] and indexed(overseer, first) == "done"
    second.become("done")
    assert not overseer.look()


def test_a_run_that_cannot_be_started_has_failed_and_the_next_one_runs(overseer):
    refused, run = submitted(overseer, "refused"), submitted(overseer)
    overseer.look()
    assert refused.state.error == "It could not be started: No such cluster."
    assert started == [refused.id, run.id]


def test_a_run_whose_process_died_begins_again_until_it_gets_no_further(overseer):
    run = submitted(overseer)
    for death in range(1, supervisor.TRIES):
        overseer.look()
        run.become("running")
        run.keep_handle({"alive": False})
        overseer.look()
        assert len(started) == death + 1
    run.become("running")
    run.keep_handle({"alive": False})
    overseer.look()
    assert run.state.condition == "failed" and "without getting further" in run.state.error
    assert len(started) == supervisor.TRIES


def test_a_run_that_gets_further_may_die_as_often_as_it_likes(overseer):
    run = submitted(overseer)
    for step in range(1, 3 * supervisor.TRIES):
        overseer.look()
        run.become("running")
        for old in run.folder.glob("state-*"):
            old.rmdir()
        (run.folder / f"state-{step:08d}").mkdir()
        run.keep_handle({"alive": False})
        overseer.look()
        assert run.state == State(condition="queued", since=run.state.since, deaths=1, reached=step)


def test_a_run_that_is_starting_is_left_alone_and_one_that_never_started_is_not(overseer, monkeypatch):
    run = submitted(overseer)
    overseer.look()
    overseer.look()
    assert started == [run.id]
    run.keep_handle({})  # its supervisor was killed between claim and start
    overseer.look()
    assert started == [run.id]
    monkeypatch.setattr(supervisor, "BEGIN", -1.0)
    overseer.look()
    assert started == [run.id, run.id]


def test_a_deleted_folder_leaves_the_list(overseer):
    run = submitted(overseer)
    overseer.store.delete(run)
    assert not overseer.look() and overseer.queue.lines() == []


def test_a_waiting_run_is_stopped_at_once_and_a_working_one_after_a_while(overseer, monkeypatch):
    working, waiting = submitted(overseer), submitted(overseer)
    overseer.look()
    for run in (working, waiting):
        run.ask_to_stop()
    overseer.look()
    assert waiting.state.condition == "stopped" and indexed(overseer, waiting) == "stopped"
    assert working.is_asked_to_stop
    monkeypatch.setattr(supervisor, "GRACE", -1.0)
    overseer.look()
    assert working.state.condition == "stopped" and not working.handle["alive"]


def distant(overseer: Supervisor, alive: bool | None) -> Stored:
    """A run that was started on other machines, said that it is running, and is there, gone, or behind a dead line."""
    run = submitted(overseer, kind="ray")
    overseer.look()
    run.become("running")
    run.keep_handle({"alive": alive})
    return run


def later(overseer: Supervisor) -> None:
    """As if the time between two questions had passed."""
    overseer.heard = {run: (-1e9, missed) for run, (_, missed) in overseer.heard.items()}
    overseer.look()


def test_runs_elsewhere_do_not_wait_for_this_machine_nor_it_for_them(overseer):
    here = [submitted(overseer) for _ in range(2)]
    there = [submitted(overseer, kind="ray") for _ in range(4)]
    overseer.look()
    assert set(started) == {here[0].id, *(run.id for run in there[:3])}


def test_a_run_elsewhere_whose_job_vanished_begins_again(overseer):
    run = distant(overseer, alive=False)
    assert overseer.look() and indexed(overseer, run) == "running"
    assert len(started) == 1  # missed once: perhaps its last word is on its way
    later(overseer)
    assert len(started) == 2 and run.state.deaths == 1


def test_a_run_elsewhere_that_is_done_before_it_is_missed_twice_is_done(overseer):
    run = distant(overseer, alive=False)
    overseer.look()
    run.become("done")
    later(overseer)
    assert len(started) == 1 and indexed(overseer, run) == "done"


def test_a_launcher_elsewhere_is_asked_seldom_and_never_about_a_run_that_is_at_work_here(overseer):
    run = distant(overseer, alive=True)
    for _ in range(5):
        overseer.look()
    assert asked == [run.id]
    with run.lock.acquire():
        later(overseer)
    assert asked == [run.id]


def test_a_cluster_that_does_not_answer_loses_nothing_and_cannot_keep_a_run_from_being_stopped(
    overseer, monkeypatch
):
    run = distant(overseer, alive=None)
    for _ in range(3):
        later(overseer)
    assert run.state.condition == "running" and len(started) == 1
    run.ask_to_stop()
    later(overseer)
    assert run.state.condition == "running"
    monkeypatch.setattr(supervisor, "GRACE", -1000.0)
    later(overseer)
    assert run.state.condition == "stopped" and "may still be at work" in run.state.error
    assert run.is_asked_to_stop  # for a worker that can still see it


def test_a_run_that_ended_is_not_stopped_afterwards(overseer):
    run = submitted(overseer)
    overseer.look()
    run.become("done")
    run.ask_to_stop()
    overseer.look()
    assert run.state.condition == indexed(overseer, run) == "done"


def test_a_second_supervisor_leaves_at_once(overseer, monkeypatch):
    monkeypatch.setattr(supervisor, "_until_idle", lambda overseer: pytest.fail("two of them"))
    overseer.store.root.mkdir(parents=True)
    lock = supervisor.FileLock(overseer.store.root / "supervisor.lock")
    monkeypatch.setattr(supervisor, "SETTLE", 0.0)
    with lock.acquire():
        supervise(overseer.store)


def test_what_comes_while_it_leaves_is_not_forgotten(overseer, monkeypatch):
    rounds = []

    def leave(overseer: Supervisor) -> None:
        rounds.append(1)
        if len(rounds) == 1:
            submitted(overseer)
        else:
            for line in overseer.queue.lines("queued"):
                overseer.queue.forget(line["id"])

    monkeypatch.setattr(supervisor, "_until_idle", leave)
    overseer.store.root.mkdir(parents=True)
    supervise(overseer.store)
    assert len(rounds) == 2


def test_every_launcher_has_the_three_calls():
    for launcher in LAUNCHERS.values():
        assert {"start", "is_alive", "stop"} <= launcher.__dict__.keys()


def test_a_process_is_known_by_more_than_its_number():
    born = psutil.Process().create_time()
    alive = Process().is_alive
    assert alive(None, {"pid": os.getpid(), "born": born})  # type: ignore[arg-type]
    for handle in (
        {},
        {"pid": os.getpid(), "born": born - 60},
        {"pid": os.getpid(), "born": None},
        {"pid": "x", "born": 1},
    ):
        assert not alive(None, handle)  # type: ignore[arg-type]


def test_a_dead_process_that_nobody_buried_is_not_alive():
    process = subprocess.Popen([sys.executable, "-c", ""])
    handle = {"pid": process.pid, "born": psutil.Process(process.pid).create_time()}
    wait_until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)
    assert not Process().is_alive(None, handle)  # type: ignore[arg-type]
    process.wait()


# Real processes ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_submitted_run_is_done_in_the_background_and_leaves_no_process(detached):
    run = submit(title="small", steps=4)
    result = final(OPERATIONS["watch"](run=run.id))
    assert (result["condition"], result["checkpoint"], result["step"]) == ("done", "small", 4)
    assert load("small").card.name == "small"
    wait_until(lambda: not processes(Store()))


@pytest.mark.slow
def test_a_killed_worker_and_a_killed_supervisor_lose_nothing(detached):
    whole = submit(title="whole", steps=30, save_every=5)
    final(OPERATIONS["watch"](run=whole.id))
    run = submit(title="killed", steps=30, save_every=5, seed=0)
    wait_until(lambda: any(run.folder.glob("state-*")))
    for process in processes(Store()):
        process.kill()
    wait_until(lambda: run.state.condition == "lost")
    OPERATIONS["runs"]()  # whoever looks wakes a supervisor
    assert final(OPERATIONS["watch"](run=run.id))["condition"] == "done"
    a, b = (load(name).unet.state_dict() for name in ("whole", "killed"))
    assert all((a[key] == b[key]).all() for key in a)


@pytest.mark.slow
def test_a_run_is_stopped_resumed_renamed_and_deleted(detached):
    run = submit(title="long", steps=100_000, save_every=100_000)
    wait_until(lambda: run.state.condition == "running" and bool(run.ticks()))
    with pytest.raises(LabError, match="stop it first"):
        OPERATIONS["delete"](run=run.id)
    OPERATIONS["stop"](run=run.id)
    wait_until(lambda: run.state.condition == "stopped")
    assert len(list(run.folder.glob("state-*"))) == 1
    with pytest.raises(LabError, match="can be stopped"):
        OPERATIONS["stop"](run=run.id)
    reached = run.ticks()[-1]["step"]
    OPERATIONS["resume"](run=run.id)
    with pytest.raises(LabError, match="can be resumed"):
        OPERATIONS["resume"](run=run.id)
    wait_until(lambda: bool(run.ticks(reached)))
    OPERATIONS["rename"](run=run.id, title="longer")
    assert OPERATIONS["runs"]()[0]["title"] == OPERATIONS["show"](run=run.id)["title"] == "longer"
    OPERATIONS["stop"](run=run.id)
    wait_until(lambda: run.state.condition == "stopped")
    OPERATIONS["delete"](run=run.id)
    assert OPERATIONS["runs"]() == [] and not run.folder.exists()


@pytest.mark.slow
def test_two_processes_train_one_run_which_is_stopped_and_resumed_without_a_trace(detached):
    """The second process takes no lock and writes nothing: one line for each step, one state, one checkpoint."""
    two = {"kind": "process", "processes": 2}
    whole = submit(title="whole", steps=30, launcher=two, previews=1)
    assert final(OPERATIONS["watch"](run=whole.id))["condition"] == "done", whole.log()
    run = submit(title="halves", steps=30, launcher=two)
    wait_until(lambda: run.state.condition == "running")
    OPERATIONS["stop"](run=run.id)
    wait_until(lambda: run.state.condition == "stopped")
    wait_until(lambda: not processes(Store()))  # both of them saw it
    assert newest_step(run.folder) > 0
    OPERATIONS["resume"](run=run.id)
    assert final(OPERATIONS["watch"](run=run.id))["condition"] == "done", run.log()
    for each in (whole, run):
        assert [tick["step"] for tick in each.ticks()] == [10, 20, 30]
    assert [line["step"] for line in whole.samples()] == [30]
    a, b = load("whole"), load("halves")
    assert a.card.made["processes"] == b.card.made["processes"] == 2
    assert all(torch.equal(value, b.unet.state_dict()[key]) for key, value in a.unet.state_dict().items())
    wait_until(lambda: not processes(Store()))


def test_a_supervisor_is_started_once(monkeypatch):
    popened: list[Any] = []
    monkeypatch.setattr(supervisor.subprocess, "Popen", lambda command, **how: popened.append((command, how)))
    store = Store()
    ensure(store)
    with supervisor.FileLock(store.root / "supervisor.lock").acquire():
        ensure(store)
    assert len(popened) == 1 and popened[0][1]["start_new_session"] and popened[0][1]["cwd"] == ROOT
