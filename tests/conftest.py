"""Shared ground of all tests: an own home for each test, a tiny network and tiny images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from lab.data import Images
from lab.diffusion import Schedule
from lab.models import Card, Checkpoint, Net

# NumPy's advice to PyTorch, on lines of diffusers that are right
NOT_OURS = "ignore:__array:DeprecationWarning"

# one summing order: the same bits on every machine, and neighbours are left in peace
torch.set_num_threads(1)


def pytest_configure(config: pytest.Config) -> None:
    """Quiet what no test can change."""
    config.addinivalue_line("filterwarnings", NOT_OURS)


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
