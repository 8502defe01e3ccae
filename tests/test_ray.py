"""The ray launcher on a real cluster: a head and a second node, started here as processes of their own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import psutil
import pytest
from background import overseeing, submit, until, wait_until

from lab.errors import Unavailable
from lab.launch.ray import ADDRESSES, Ray
from lab.models import names
from lab.ops import OPERATIONS, jobs
from lab.processes import end
from lab.store import Store, Stored
from lab.supervisor import Supervisor
from lab.training import newest_step

RAY = {"kind": "ray"}
NODE = ("--num-cpus", "1", "--num-gpus", "0", "--object-store-memory", "80000000", "--block")


PORTS = ("dashboard-agent-listen", "dashboard-agent-grpc", "metrics-export", "runtime-env-agent")
# A busy machine is no broken one.
PATIENT = {"RAY_raylet_start_wait_time_s": "240", "RAY_agent_register_timeout_ms": "240000"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of two nodes with a core each, none of whose processes is left in the end."""
    pytest.importorskip("ray", reason="pip install -r requirements-ray.txt")
    mark, (port, dashboard, clients) = uuid.uuid4().hex, (free_port(), free_port(), free_port())
    address, folder = f"http://127.0.0.1:{dashboard}", tempfile.mkdtemp(prefix="ray")
    head = (
        "--head",
        f"--port={port}",
        f"--dashboard-port={dashboard}",
        f"--ray-client-server-port={clients}",
    )
    started = []
    with tempfile.TemporaryFile() as said:
        try:
            started.append(node(mark, said, *head, f"--temp-dir={folder}", "--disable-usage-stats"))
            wait_until(lambda: are_up(started, said) and nodes_of(address) == 1)
            started.append(node(mark, said, f"--address=127.0.0.1:{port}"))
            wait_until(lambda: are_up(started, said) and nodes_of(address) == 2 and takes_jobs(address))
            yield address
        finally:
            for process in (*started, *marked(mark)):
                end(process.pid)
            wait_until(lambda: all(process.poll() is not None for process in started) and not marked(mark))
            shutil.rmtree(folder, ignore_errors=True)


def node(mark: str, said: IO[bytes], *options: str) -> subprocess.Popen[bytes]:
    """One `ray start` that stays; with ports of its own, since two nodes share this machine."""
    ports = [f"--{name}-port={free_port()}" for name in PORTS]
    command = [str(Path(sys.executable).parent / "ray"), "start", *options, *ports, *NODE]
    env = {**os.environ, **PATIENT, "LAB_TEST_CLUSTER": mark, "OMP_NUM_THREADS": "1"}
    for name in ADDRESSES:
        env.pop(name, None)
    return subprocess.Popen(
        command, env=env, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
    )


def are_up(started: list[subprocess.Popen[bytes]], said: IO[bytes]) -> bool:
    """Whether all nodes still run; where one ended, what it said."""
    if any(process.poll() is not None for process in started):
        said.seek(0)
        pytest.fail(said.read().decode(errors="replace")[-4000:])
    return True


def marked(mark: str) -> list[psutil.Process]:
    """What this cluster started, down to the last helper; a process that nobody has buried is none."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("LAB_TEST_CLUSTER") == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture
def overseer(monkeypatch) -> Supervisor:
    """It asks the launcher of this file."""
    return overseeing(monkeypatch, Ray)


def worker(run: Stored) -> psutil.Process:
    """The process that works on a run."""
    line = [sys.executable, "-m", "lab", "work", str(run.folder)]
    return next(process for process in psutil.process_iter(["cmdline"]) if process.info["cmdline"] == line)


@pytest.mark.ray
@pytest.mark.slow
def test_several_recipes_spread_over_the_cluster(cluster, overseer, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    from ray.job_submission import JobSubmissionClient

    runs = [submit(title=f"study {seed}", steps=10, seed=seed, launcher=RAY) for seed in range(4)]
    overseer.look()
    assert all(run.handle for run in runs)  # not one after the other: the cluster has a queue of its own
    until(overseer, lambda: all(run.state.condition in ("done", "failed") for run in runs))
    assert {run.state.condition for run in runs} == {"done"}, [run.log() for run in runs]
    assert {f"study-{seed}" for seed in range(4)} <= set(names())
    nodes_by_job = {job.submission_id: job.driver_node_id for job in JobSubmissionClient(cluster).list_jobs()}
    assert len({nodes_by_job[run.handle["job"]] for run in runs}) == 2
    assert not overseer.look()


@pytest.mark.ray
@pytest.mark.slow
def test_a_job_that_was_killed_begins_again_and_one_that_is_asked_to_stop_saves(
    cluster, overseer, monkeypatch
):
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    run = submit(title="long", steps=100_000, save_every=5, launcher=RAY)
    until(overseer, lambda: newest_step(run.folder) > 0)
    first = run.handle["job"]
    worker(run).kill()
    until(overseer, lambda: run.handle.get("job", first) != first)
    assert run.state.deaths == 1
    reached = run.state.reached
    until(overseer, lambda: newest_step(run.folder) > reached > 0)
    OPERATIONS["stop"](run=run.id)
    until(overseer, lambda: run.state.condition == "stopped" and not run.at_work)
    assert newest_step(run.folder) > reached
    until(overseer, lambda: not Ray().is_alive(run, run.handle))
    assert not Ray().is_alive(run, {"job": "a-job-of-another-cluster"})
    Ray().stop(run, {"job": "a-job-of-another-cluster"})


def nodes_of(address: str) -> int:
    """How many nodes the cluster says it has."""
    try:
        with urllib.request.urlopen(f"{address}/nodes?view=summary", timeout=30) as found:
            nodes = json.load(found)["data"]["summary"]
    except OSError:
        return 0
    return sum(each["raylet"].get("state") == "ALIVE" for each in nodes)


def takes_jobs(address: str) -> bool:
    """A cluster takes jobs some time after it answers."""
    from ray.job_submission import JobSubmissionClient

    try:
        return bool(JobSubmissionClient(address).submit_job(entrypoint="true"))
    except RuntimeError:
        return False


# Without a cluster -------------------------------------------------------------------------------------------------


@pytest.fixture
def queued(monkeypatch) -> Stored:
    """A run for the ray launcher; no cluster is named."""
    for name in ADDRESSES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(jobs, "ensure", lambda store: None)
    return submit(launcher=RAY)


def test_no_ray_and_no_address_get_a_sentence_each(queued, monkeypatch):
    pytest.importorskip("ray", reason="pip install -r requirements-ray.txt")
    with pytest.raises(Unavailable, match="RAY_ADDRESS"):
        Ray().start(queued)
    monkeypatch.setitem(sys.modules, "ray.job_submission", None)
    with pytest.raises(Unavailable, match=r"requirements-ray\.txt"):
        Ray().start(queued)


def test_a_cluster_that_cannot_be_reached_is_not_named(queued, monkeypatch):
    pytest.importorskip("ray", reason="pip install -r requirements-ray.txt")
    monkeypatch.setenv("RAY_ADDRESS", f"http://somebody:secret@127.0.0.1:{free_port()}")
    Supervisor(Store()).look()
    assert queued.state.condition == "failed" and "Ray cluster" in queued.state.error
    assert not {"secret", "127.0.0.1"} & set(queued.state.error.replace("@", " ").split())
    assert "secret" not in queued.state.error and "127.0.0.1" not in queued.state.error
    with pytest.raises(Unavailable):
        Ray().is_alive(queued, {"job": "x"})
