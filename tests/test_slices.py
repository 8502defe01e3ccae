"""Slices: a training that goes on only while somebody asks, and is the same training as any other."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch
from background import stored, submit

from lab import worker
from lab.errors import LabError
from lab.launch import Process, Slices, chosen
from lab.models import load
from lab.ops import OPERATIONS, in_background
from lab.ops.jobs import SLICE, SPARE, AttendOptions
from lab.places import home
from lab.queue import Queue
from lab.store import Store, Stored
from lab.supervisor import Supervisor
from lab.worker import work

SLICED = {"launcher": {"kind": "slices"}}


@pytest.fixture(autouse=True)
def no_supervisor(monkeypatch) -> None:
    """Nothing of this file may need one."""
    monkeypatch.setattr("lab.ops.jobs.ensure", lambda store: pytest.fail("a supervisor"))
    monkeypatch.setattr(worker, "ensure", lambda store: pytest.fail("a supervisor"))


def same(a: str, b: str) -> bool:
    first, second = (load(name).unet.state_dict() for name in (a, b))
    return all(torch.equal(first[key], second[key]) for key in first)


class Hasty(threading.Timer):
    """A clock whose time is up at once."""

    def start(self) -> None:
        self.function(*self.args)


@pytest.mark.usefixtures("fresh_accelerate")
def test_the_shortest_slices_end_as_the_same_model(monkeypatch):
    whole = submit(**SLICED, title="whole", steps=4)
    assert work(whole.folder).condition == "done"
    run = submit(**SLICED, title="sliced", steps=4)
    monkeypatch.setattr(worker.threading, "Timer", Hasty)
    steps = []
    while work(run.folder, 1).condition == "stopped":
        steps += [path.name for path in run.folder.glob("state-*")]
        assert Queue(Store()).lines()[0]["condition"] == "stopped"
    assert steps == ["state-00000002", "state-00000004"]  # a loop that is asked to end has a step in hand
    assert run.state.condition == "done" and same("whole", "sliced")


@pytest.mark.usefixtures("fresh_accelerate")
def test_without_a_time_a_run_goes_to_its_end(monkeypatch):
    monkeypatch.setattr(worker.threading, "Timer", Hasty)
    assert work(submit(**SLICED, steps=3).folder).condition == "done"


def test_a_slice_is_a_process_that_is_waited_for(detached):
    run = submit(**SLICED, steps=5)
    assert run.state.condition == "stopped" and not (home() / "runs" / "supervisor.log").exists()
    assert OPERATIONS["resume"](run=run.id)["next"].endswith(f"attend {run.id}")
    done = OPERATIONS["attend"](run=run.id)
    assert (done["condition"], done["step"]) == ("done", 5)
    assert OPERATIONS["show"](run=run.id)["attended"]
    with pytest.raises(LabError, match="is done"):
        OPERATIONS["attend"](run=run.id)


def test_a_run_in_the_background_is_not_attended():
    run = stored(Store(), base="mnist-clean")
    assert not OPERATIONS["show"](run=run.id)["attended"]
    with pytest.raises(LabError, match="in the background"):
        OPERATIONS["attend"](run=run.id)


def test_a_run_at_work_is_not_taken_up_twice():
    run = submit(**SLICED)
    with run.lock.acquire():
        run.become("running")
        with pytest.raises(LabError, match="is running"):
            OPERATIONS["attend"](run=run.id)


def test_a_slice_that_ended_without_a_word_waits_again(monkeypatch):
    run = submit(**SLICED)
    with run.lock.acquire():
        run.become("running")
        Queue(Store()).put(run)
    monkeypatch.setattr("lab.supervisor.BEGIN", -1.0)
    assert run.state.condition == "lost"
    overseer = Supervisor(Store())
    overseer.look(), overseer.look()
    assert run.state.condition == "stopped"
    assert Queue(Store()).lines()[0]["condition"] == "stopped"


def test_a_supervisor_leaves_a_slice_that_has_just_begun_alone():
    run = submit(**SLICED)
    with run.lock.acquire():
        run.become("running")
        assert Slices().start(run) == {}
        assert Stored(run.folder).state.condition == "running"


def test_a_slice_fits_the_time_that_a_gpu_is_lent():
    attend = OPERATIONS["attend"]
    assert attend.gpu and attend.gpu(AttendOptions()) == SLICE == 60
    with pytest.raises(LabError, match="seconds"):
        attend(seconds=SLICE - SPARE + 1)


def test_zero_gpu_has_slices_unless_told_otherwise(monkeypatch):
    assert chosen() == Process() and in_background()
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    assert chosen() == Slices() and not in_background()
    monkeypatch.setenv("LAB_LAUNCHER", "hf_jobs")
    assert chosen().kind == "hf_jobs" and in_background()


def test_a_study_needs_a_background():
    with pytest.raises(LabError, match="background"):
        OPERATIONS["study"](what="run", name="poison-rates", launcher="slices")


def test_index_locks_and_marks_can_lie_on_another_disk(monkeypatch, tmp_path, fresh_accelerate):
    """A bucket or another network volume has no SQLite on it, and may have no locks."""
    monkeypatch.setenv("LAB_INDEX", str(tmp_path / "index"))
    from lab.priority import somebody_waits

    monkeypatch.setattr("lab.priority._marked", -10.0)
    run = submit(**SLICED, steps=2)
    somebody_waits()
    with run.lock.acquire():
        assert run.at_work
    assert work(run.folder).condition == "done"
    assert [line["id"] for line in Queue(Store()).lines("done")] == [run.id]
    assert not [path for path in home().rglob("*") if needs_a_disk(path)]
    assert {path.suffix for path in (tmp_path / "index").rglob("*") if path.is_file()} >= {".sqlite", ".lock"}


def needs_a_disk(path: Path) -> bool:
    return any(word in path.name for word in (".sqlite", ".lock", "waiting-"))


def test_an_index_that_is_lost_with_its_disk_is_made_again(monkeypatch, tmp_path):
    monkeypatch.setenv("LAB_INDEX", str(tmp_path / "first"))
    run = submit(**SLICED)
    monkeypatch.setenv("LAB_INDEX", str(tmp_path / "second"))
    assert [line["id"] for line in Queue(Store()).lines("stopped")] == [run.id]


def test_two_homes_share_no_index(monkeypatch, tmp_path):
    monkeypatch.setenv("LAB_INDEX", str(tmp_path / "index"))
    submit(**SLICED)
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "another"))
    assert Queue(Store()).lines() == []
