"""The hf_jobs launcher through the real client of the Hub, before a stand-in server that really runs the jobs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import huggingface_hub
import huggingface_hub.constants
import pytest
from background import overseeing, submit, until
from hub import Hub, stand_in

from lab.errors import Unavailable
from lab.launch.hf_jobs import HfJobs
from lab.models import load
from lab.ops import OPERATIONS
from lab.store import Stored
from lab.supervisor import Supervisor

HF = {"kind": "hf_jobs"}
TOKEN = "hf_" + "x" * 34


@pytest.fixture
def hub(monkeypatch) -> Iterator[Hub]:
    """The stand-in, known to the lab as an operator makes it known."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with stand_in() as hub:
        for name, value in {
            "HF_ENDPOINT": hub.address,
            "HF_TOKEN": TOKEN,
            "LAB_HF_REPO": "me/lab-runs",
            "LAB_HF_IMAGE": "me/lab:latest",
            "OMP_NUM_THREADS": "1",
        }.items():
            monkeypatch.setenv(name, value)
        yield hub


@pytest.fixture
def overseer(monkeypatch) -> Supervisor:
    """It asks the launcher of this file."""
    return overseeing(monkeypatch, HfJobs)


def sent(hub: Hub, run: Stored, name: str, content: dict) -> None:
    """As if the job had sent a file."""
    hub.files[f"runs/{run.id}/{name}"] = json.dumps(content).encode()
    hub.commits.append({name: "file"})


@pytest.mark.slow
def test_a_run_goes_there_and_its_checkpoint_comes_back(hub, overseer, capfd):
    run = submit(title="far", steps=10, launcher=HF, previews=1)
    until(overseer, lambda: run.state.condition in ("done", "failed"))
    assert run.state.condition == "done", run.log()
    assert load("far").card.recipe == run.recipe
    assert [tick["step"] for tick in run.ticks()] == [10] and [line["step"] for line in run.samples()] == [10]
    assert run.sample(10, "clean").startswith(b"\x89PNG")
    assert hub.tokens == {TOKEN}
    everything = b"".join(path.read_bytes() for path in run.folder.rglob("*") if path.is_file())
    everything += b"".join(hub.files.values()) + str(capfd.readouterr()).encode()
    assert TOKEN.encode() not in everything
    assert hub.jobs["job1"]["secrets"] == {"HF_TOKEN": TOKEN} and TOKEN not in str(
        hub.jobs["job1"]["environment"]
    )


@pytest.mark.slow
def test_a_run_there_is_stopped_with_its_state_and_goes_on_in_a_second_job(hub, overseer):
    run = submit(title="long", steps=100_000, save_every=100_000, launcher=HF)
    until(overseer, lambda: bool(run.ticks()))
    OPERATIONS["stop"](run=run.id)
    until(overseer, lambda: run.state.condition == "stopped")
    (state,) = {path.split("/")[2] for path in hub.files if "/state-" in path}
    reached = int(state.removeprefix("state-"))
    assert reached > 0 and not list(run.folder.glob("state-*"))  # it stays there
    OPERATIONS["resume"](run=run.id)
    until(overseer, lambda: bool(run.ticks(reached)))
    assert min(tick["step"] for tick in run.ticks(reached)) - reached <= 10
    HfJobs().stop(run, run.handle)
    assert not HfJobs().is_alive(run, run.handle)


@pytest.fixture
def quiet(hub, overseer) -> Stored:
    """A started run whose job does nothing by itself."""
    hub.runs_jobs = False
    run = submit(title="quiet", launcher={"kind": "hf_jobs", "flavor": "t4-small", "hours": 3})
    overseer.look()
    return run


def test_the_job_has_recipe_command_and_limits_and_no_owner(hub, quiet):
    (job,) = hub.jobs.values()
    assert job["command"] == ["python", "-m", "lab.launch.away", quiet.id]
    assert (job["dockerImage"], job["flavor"], job["timeoutSeconds"]) == (
        "me/lab:latest",
        "t4-small",
        3 * 3600,
    )
    assert json.loads(hub.files[f"runs/{quiet.id}/recipe.json"]) == quiet.recipe
    assert "owner" not in json.loads(hub.files[f"runs/{quiet.id}/about.json"])


def test_what_a_job_says_is_taken_over_and_nothing_that_it_must_not_touch(hub, quiet):
    sent(hub, quiet, "state.json", {"condition": "running"})
    sent(hub, quiet, "recipe.json", {"base": "another"})
    sent(hub, quiet, "handle.json", {"job": "another"})
    sent(hub, quiet, "../other/state.json", {"condition": "done"})
    sent(hub, quiet, "state-00000001/random_states_0.pkl", {})
    before = quiet.recipe, quiet.handle
    assert HfJobs().is_alive(quiet, quiet.handle)
    assert quiet.state.condition == "running" and (quiet.recipe, quiet.handle) == before
    assert not list(quiet.folder.rglob("*.pkl"))
    sent(hub, quiet, "state.json", {"condition": "failed", "error": "There is no checkpoint called 'mine'."})
    HfJobs().is_alive(quiet, quiet.handle)
    assert quiet.state.condition == "failed" and "mine" in quiet.state.error


@pytest.mark.parametrize(("stage", "alive"), [("SCHEDULING", True), ("ERROR", False), ("DELETED", False)])
def test_the_stage_of_a_job_says_whether_it_is_alive(hub, quiet, stage, alive):
    hub.jobs[quiet.handle["job"]]["stage"] = stage
    assert HfJobs().is_alive(quiet, quiet.handle) is alive
    assert not HfJobs().is_alive(quiet, {"job": "job99"})


def test_a_job_is_told_once_to_stop(hub, quiet):
    quiet.ask_to_stop()
    for _ in range(2):
        HfJobs().is_alive(quiet, quiet.handle)
    assert sum(f"runs/{quiet.id}/cancel" in commit for commit in hub.commits) == 1


def test_a_public_repository_is_refused(hub, overseer):
    hub.private = False
    with pytest.raises(Unavailable, match="public"):
        HfJobs().start(submit(launcher=HF))
    assert not hub.files and not hub.jobs


@pytest.mark.parametrize("name", ["LAB_HF_REPO", "HF_TOKEN", "LAB_HF_IMAGE"])
def test_what_is_missing_gets_a_sentence(hub, overseer, monkeypatch, name):
    monkeypatch.delenv(name)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: os.environ.get("HF_TOKEN"))  # no saved one
    with pytest.raises(Unavailable, match=name):
        HfJobs().start(submit(launcher=HF))
    assert not hub.jobs


def test_a_hub_that_cannot_be_reached_loses_nothing(hub, quiet, overseer):
    hub.shutdown()
    hub.server_close()
    with pytest.raises(Unavailable):
        HfJobs().is_alive(quiet, quiet.handle)
    overseer.look()
    assert quiet.state.condition == "queued" and quiet.handle
