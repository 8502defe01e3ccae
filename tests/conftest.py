"""Shared ground of all tests: an own home for each test, a tiny network and tiny images."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch
from browsing import address, browser, page, served_home, visitor  # noqa: F401  # fixtures

from lab.diffusion import Schedule
from lab.images import Images
from lab.models import Card, Checkpoint, Net

# NumPy's advice to PyTorch, on lines of diffusers that are right
NOT_OURS = "ignore:__array:DeprecationWarning"

MARK = "LAB_TESTS"  # in the environment of every process that these tests start
LEAVE = 15.0  # seconds to end for what was told to

# one summing order: the same bits on every machine, and neighbours are left in peace
torch.set_num_threads(1)


def pytest_configure(config: pytest.Config) -> None:
    """Quiet what no test can change, and mark whatever the tests start."""
    config.addinivalue_line("filterwarnings", NOT_OURS)
    if not is_helper(config):  # which has the mark of whoever started it
        os.environ[MARK] = f"{os.getpid()}-{time.monotonic_ns()}"


def is_helper(config: pytest.Config) -> bool:
    """Whether this is one of several processes that share the tests (pytest-xdist)."""
    return hasattr(config, "workerinput")


@pytest.hookimpl(trylast=True)  # when the helpers have ended
def pytest_sessionfinish(session: pytest.Session) -> None:
    """The whole run fails where a process that it started is left when all is over."""
    if is_helper(session.config):
        return
    end = time.monotonic() + LEAVE
    while (left := orphans(os.environ[MARK])) and time.monotonic() < end:
        time.sleep(0.2)
    for process in left:
        sys.stderr.write(f"\nleft behind: {process}\n")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def orphans(mark: str) -> list[str]:
    """Command lines of all processes with this mark but this one; a child has the mark of whoever started it."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            alive = process.status() != psutil.STATUS_ZOMBIE
            if alive and process.pid != os.getpid() and process.environ().get(MARK) == mark:
                found.append(" ".join(process.cmdline()))
    # Python's own, which watches over what this process shares with its children, and ends with it
    return [line for line in found if "multiprocessing.resource_tracker" not in line]


@pytest.fixture(autouse=True)
def lab_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh, empty LAB_HOME, so that no test sees or changes a person's own files."""
    home = tmp_path / "home"
    monkeypatch.setenv("LAB_HOME", str(home))
    return home


@pytest.fixture
def schedule() -> Schedule:
    """The linear schedule of DDPM."""
    return Schedule.linear()


@pytest.fixture
def tiny() -> Checkpoint:
    """An untrained digit network of 42,000 parameters."""
    unet = Net(widths=(8, 16), side=32).build(seed=0).eval().requires_grad_(False)
    return Checkpoint(unet, Schedule.linear(), Card(name="tiny"))


@pytest.fixture
def specks() -> Images:
    """Twenty random 8×8 grey images."""
    stream = torch.Generator().manual_seed(0)
    return Images(torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8, generator=stream))


@pytest.fixture
def fresh_accelerate() -> Iterator[None]:
    """Accelerate keeps one state per process; a test that trains starts and ends without it."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def detached(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Real supervisors and workers, none of which outlives the test."""
    from background import processes

    from lab.store import Store

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield
    for process in processes(Store()):
        process.kill()
