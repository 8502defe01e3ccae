"""The slurm launcher through submitit: its local executor runs the same job as a process; sbatch is only written."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from background import processes, submit, wait_until

from lab.errors import Unavailable
from lab.launch.slurm import Slurm
from lab.models import load
from lab.ops import OPERATIONS, jobs
from lab.store import Store, Stored
from lab.supervisor import Supervisor
from lab.training import newest_step

submitit = pytest.importorskip("submitit", reason="pip install -r requirements-slurm.txt")
SLURM = {"kind": "slurm", "hours": 1}


@pytest.fixture
def overseer(monkeypatch) -> Supervisor:
    """A supervisor in the test's own process, which asks as often as it looks."""
    monkeypatch.setattr(jobs, "ensure", lambda store: None)
    monkeypatch.setattr(Slurm, "slow", 0.1)
    monkeypatch.setenv("LAB_SLURM_CLUSTER", "local")
    return Supervisor(Store())


def until(overseer: Supervisor, holds: Callable[[], bool]) -> None:
    wait_until(lambda: bool(overseer.look() and False) or holds())


def worker(run: Stored) -> psutil.Process:
    """The job itself: submitit's process became it."""
    line = [sys.executable, "-m", "lab", "work", str(run.folder)]
    return next(process for process in processes(Store()) if process.cmdline() == line)


@pytest.mark.slow
def test_a_job_is_done_after_a_warning_and_a_second_job(detached, overseer):
    run = submit(title="small", steps=2000, save_every=2000, launcher=SLURM)
    until(overseer, lambda: bool(run.ticks()))
    first = run.handle["job"]
    worker(run).send_signal(signal.SIGUSR2)  # what Slurm does before the time limit
    until(overseer, lambda: run.handle.get("job", first) != first)
    assert 0 < run.state.reached < 2000 and run.state.deaths == 1
    until(overseer, lambda: bool(run.ticks(run.state.reached)))
    OPERATIONS["stop"](run=run.id)
    until(overseer, lambda: run.state.condition == "stopped" and not run.at_work)
    assert newest_step(run.folder) > run.state.reached
    whole = submit(title="whole", steps=4, launcher=SLURM)
    until(overseer, lambda: whole.state.condition in ("done", "failed"))
    assert whole.state.condition == "done", whole.log()
    assert load("whole").card.made["processes"] == 1


@pytest.mark.slow
def test_a_job_that_does_not_listen_is_ended(detached, overseer):
    run = submit(title="deaf", steps=100_000, launcher=SLURM)
    until(overseer, lambda: run.state.condition == "running")
    Slurm().stop(run, run.handle)
    wait_until(lambda: not Slurm().is_alive(run, run.handle) and not run.at_work)


# What is asked of Slurm itself, with stand-ins for its programs -------------------------------------------------------


@pytest.fixture
def programs(tmp_path: Path, monkeypatch) -> Path:
    """sbatch, sacct and scancel that write down how they were called; sacct says what a file holds."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name, does in (
        ("srun", ":"),
        ("sbatch", f'cp "$1" {folder}/submitted.sh; echo "Submitted batch job 77"'),
        ("sacct", f"cat {folder}/states"),
        ("scancel", f'echo "$@" > {folder}/cancelled'),
    ):
        (folder / name).write_text(f"#!/bin/sh\n{does}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(jobs, "ensure", lambda store: None)
    submitit.SlurmJob.watcher.clear()
    return folder


def says(programs: Path, state: str) -> None:
    (programs / "states").write_text(f"JobID|State|NodeList\n77|{state}|node1\n")
    submitit.SlurmJob.watcher.clear()


def test_slurm_is_given_the_options_and_the_line(programs, monkeypatch):
    monkeypatch.setenv("LAB_SLURM_OPTIONS", json.dumps({"partition": "gpu", "account": "lab"}))
    run = submit(launcher={"kind": "slurm", "cpus": 3, "gpus": 2, "memory": 5, "hours": 2})
    assert Slurm(**{k: v for k, v in run.about.launcher.items() if k != "kind"}).start(run)["job"] == "77"
    text = (programs / "submitted.sh").read_text()
    for option in (
        "partition=gpu",
        "account=lab",
        "cpus-per-task=3",
        "gpus-per-node=2",
        "time=120",
        "mem=5GB",
    ):
        assert f"--{option}" in text
    assert "USR2@90" in text
    (pickled,) = (run.folder / "slurm").glob("*.pkl")
    function, words = describe(pickled)
    assert function == "execv" and "accelerate.commands.launch" in words and "trap '' USR2" in words
    assert "gpu" not in json.dumps(run.about.model_dump()["launcher"]["kind"])


def describe(pickled: Path) -> tuple[str, str]:
    """What submitit would call, read in a process of its own as on the cluster."""
    code = (
        "import sys; from submitit.core.utils import DelayedSubmission as D; from pathlib import Path; "
        "d = D.load(Path(sys.argv[1])); print(d.function.__name__); print(d.args[1][2])"
    )
    said = subprocess.run(
        [sys.executable, "-c", code, str(pickled)], capture_output=True, text=True, check=True
    )
    function, words = said.stdout.strip().split("\n", 1)
    return function, words


@pytest.mark.parametrize(
    ("state", "alive"),
    [
        ("PENDING", True),
        ("RUNNING", True),
        ("COMPLETED", False),
        ("TIMEOUT", False),
        ("CANCELLED by 0", False),
    ],
)
def test_slurm_says_whether_a_job_is_alive(programs, state, alive):
    run = submit(launcher=SLURM)
    says(programs, state)
    assert Slurm().is_alive(run, {"job": "77", "cluster": "slurm"}) is alive


def test_a_slurm_that_cannot_be_asked_loses_nothing(programs):
    (programs / "sacct").write_text("#!/bin/sh\nexit 1\n")
    assert Slurm().is_alive(submit(launcher=SLURM), {"job": "77", "cluster": "slurm"})


def test_a_job_is_cancelled(programs):
    Slurm().stop(submit(launcher=SLURM), {"job": "77", "cluster": "slurm"})
    assert (programs / "cancelled").read_text() == "77\n"


def test_what_is_missing_gets_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(jobs, "ensure", lambda store: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    run = submit(launcher=SLURM)
    with pytest.raises(Unavailable, match="srun"):
        Slurm().start(run)
    monkeypatch.setenv("LAB_SLURM_CLUSTER", "local")
    monkeypatch.setenv("LAB_SLURM_OPTIONS", "--partition=gpu")
    with pytest.raises(Unavailable, match="LAB_SLURM_OPTIONS"):
        Slurm().start(run)
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(Unavailable, match=r"requirements-slurm\.txt"):
        Slurm().start(run)
