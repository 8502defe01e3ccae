"""Room on the disk: how much a run takes, and what is said before it does not fit."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from lab import room
from lab.errors import LabError
from lab.models import Net, fresh
from lab.ops import OPERATIONS
from lab.runs import Run
from lab.store import Store
from lab.training import TrainSpec

SMALL = {"net": {"widths": [8, 16]}, "batch": 2, "steps": 4}


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_run_never_takes_more_than_was_said(ema, tmp_path, fresh_accelerate):
    options = OPERATIONS["submit"].options.of(**SMALL, ema=ema, save_every=1, precision="fp32")
    recipe = options.recipe()
    said, largest = room.needed(fresh(Net(widths=(8, 16)), 0), recipe.train), 0
    for _ in Run.open(tmp_path / "run", recipe).train("x"):
        largest = max(largest, sum(room._sizes(tmp_path)))
    one_state = (said - room.LOG) // 2
    assert one_state < largest < said


def test_a_run_beyond_the_budget_is_refused_before_there_is_a_folder(monkeypatch, lab_home):
    (lab_home / "runs").mkdir(parents=True)
    (lab_home / "runs" / "old").write_bytes(bytes(1_000_000))
    monkeypatch.setattr(room, "BUDGET", 2_000_000)
    with pytest.raises(LabError, match=r"are there take 1 MB of 2 MB; delete some, or raise LAB_DISK_GB"):
        OPERATIONS["submit"](**SMALL)
    assert not list(Store().all())


def test_a_run_that_the_disk_cannot_hold_is_refused(monkeypatch, lab_home):
    monkeypatch.setattr(room.psutil, "disk_usage", lambda path: SimpleNamespace(free=room.SPARE + 1000))
    with pytest.raises(LabError, match=r"the disk has 500 MB left, of which 500 MB stay free"):
        OPERATIONS["submit"](**SMALL)
    assert not list(Store().all())


def test_room_is_enough_where_budget_and_disk_are(monkeypatch, tmp_path):
    monkeypatch.setattr(room.psutil, "disk_usage", lambda path: SimpleNamespace(free=room.SPARE + 1000))
    monkeypatch.setattr(room, "BUDGET", 1000)
    room.check(tmp_path / "not" / "there" / "yet", 1000)
    with pytest.raises(LabError):
        room.check(tmp_path, 1001)


def test_averaged_weights_take_a_fourth_copy():
    start = fresh(Net(widths=(8, 16)), 0)
    with_ema, without = (room.needed(start, TrainSpec(ema=ema)) for ema in (0.9, 0.0))
    assert (with_ema - room.LOG) * 3 == (without - room.LOG) * 4
