"""Runs for tests: real supervisors and workers to wait for, and runs as they lie on the disk when some time has passed."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from PIL import Image

from lab.launch import Launcher, base
from lab.ops import OPERATIONS, jobs
from lab.ops.jobs import SubmitOptions
from lab.queue import Queue
from lab.store import Condition, Store, Stored
from lab.supervisor import Supervisor

# Seconds in which a process surely imports torch, trains a few steps and ends; more on a machine that is busy.
SOON = float(os.environ.get("TEST_PATIENCE", "300"))


# A submission in which every option is unlike its default.
ODD: dict[str, Any] = {
    "title": "odd one",
    "base": "mnist-clean",
    "dataset": {"kind": "emoji"},
    "attack": {
        "kind": "baddiffusion",
        "trigger": {"kind": "stop_sign", "size": 9, "form": "masked"},
        "target": {"kind": "corner"},
        "poison_rate": 0.123,
        "solver": "ode",
    },
    **{"steps": 77, "batch": 3, "lr": 0.00037, "warmup": 5, "weight_decay": 0.011, "ema": 0.9985},
    **{"grad_clip": 2.5, "precision": "fp32", "t_sampling": "noisy", "loss": "multiscale", "snr_gamma": 4.5},
    **{"threads": 1, "save_every": 11, "seed": 41, "previews": 7},
}


def overseeing(monkeypatch: pytest.MonkeyPatch, launcher: type[Launcher]) -> Supervisor:
    """A supervisor in the test's own process, which asks the launcher's place every second."""
    monkeypatch.setattr(jobs, "ensure", lambda store: None)
    monkeypatch.setattr(base, "ANSWER", 300.0)  # a busy machine is no dead one
    monkeypatch.setattr(launcher, "slow", 1.0)
    return Supervisor(Store())


def until(overseer: Supervisor, holds: Callable[[], bool]) -> None:
    """Let the supervisor look until it holds."""
    wait_until(lambda: bool(overseer.look() and False) or holds())


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait for what surely comes."""
    end = time.monotonic() + SOON
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def submit(**options: Any) -> Stored:
    """Submit a small training through the operation, as page and command line do."""
    values = {
        "net": {"widths": [8, 16]},
        "batch": 2,
        "threads": 1,
        "precision": "fp32",
        "previews": 0,
        **options,
    }
    return Store().get(OPERATIONS["submit"](**values)["run"])


def processes(store: Store) -> list[psutil.Process]:
    """Everything of this store that runs."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("LAB_HOME") == str(store.root.parent) and process.pid != os.getpid():
                found.append(process)
        except psutil.Error:
            continue
    return found


def stored(store: Store, condition: Condition = "stopped", **options: Any) -> Stored:
    """A run as `submit` stores it, which nobody starts."""
    asked = SubmitOptions.of(**options)
    run = store.create(asked.recipe(), asked.about())
    run.become(condition)
    Queue(store).put(run)
    return run


def tick(step: int, **losses: float) -> dict[str, Any]:
    """A logged step of 100."""
    return {"step": step, "total": 100, "seconds": step / 2, **losses}


def ticked(run: Stored, *ticks: dict[str, Any]) -> Stored:
    """The run with these logged steps."""
    (run.folder / "ticks.jsonl").write_text("".join(json.dumps(tick) + "\n" for tick in ticks))
    return run


def sampled(run: Stored, step: int, success: float | None) -> Stored:
    """The run with one more look at its samples, pictures of `step` by 4 pixels."""
    scores = [] if success is None else [{"name": "success", "value": success}]
    with (run.folder / "previews.jsonl").open("a") as file:
        file.write(json.dumps({"step": step, "clean": {}, "triggered": {"scores": scores}}) + "\n")
    (run.folder / "samples").mkdir(exist_ok=True)
    for kind in ("clean", "triggered"):
        (run.folder / "samples" / f"{step:08d}-{kind}.png").write_bytes(_grey((step, 4)))
    return run


def _grey(size: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", size, 120).save(buffer, "PNG")
    return buffer.getvalue()
