"""What all launchers have in common: the line, and that places and tokens are the operator's."""

from __future__ import annotations

import subprocess
import time

import pytest

from lab.errors import LabError, Unavailable
from lab.launch import LAUNCHERS, Process, base, chosen
from lab.launch.base import answer, line, script
from lab.launch.ray import Ray
from lab.ops import OPERATIONS
from lab.recipe import Recipe
from lab.store import About, Store, Stored
from lab.ui.form import FIRST, MORE


@pytest.fixture
def run(tmp_path, monkeypatch) -> Stored:
    """A run whose folder needs quoting."""
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "my home; true"))
    return Store().create(Recipe(), About())


def test_several_processes_go_through_accelerate(run):
    assert line(run, 4)[1:6] == ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "4"]
    assert line(run)[1:] == ["-m", "lab", "work", str(run.folder)]


def test_the_script_is_the_line_with_its_home_and_log(run):
    (run.folder / "recipe.json").write_text("{")  # refused as soon as it is read
    subprocess.run(["sh", "-c", script(run)], check=True, cwd="/", env={"PATH": "/usr/bin:/bin"}, timeout=300)
    assert run.state.condition == "failed" and "failed" in run.log()


WORDS = [
    "address",
    "token",
    "url",
    "endpoint",
    "partition",
    "account",
    "image",
    "namespace",
    "repo",
    "host",
    "python",
    "folder",
]


@pytest.mark.parametrize("launcher", LAUNCHERS.values(), ids=LAUNCHERS)
def test_no_option_is_an_address_a_token_or_a_place(launcher):
    """They are the operator's; options are written into the run's folder, and shown."""
    assert not [name for name in launcher.model_fields if any(word in name for word in WORDS)]
    assert all(field.description for field in launcher.model_fields.values())


def test_a_visitor_chooses_no_launcher():
    assert "launcher" not in (*FIRST, *MORE)
    assert "launcher" not in OPERATIONS["submit"].offered


def test_who_runs_the_lab_chooses_where_runs_go(monkeypatch):
    assert chosen() == Process()
    monkeypatch.setenv("LAB_LAUNCHER", "ray")
    assert OPERATIONS["submit"].options().launcher == Ray()
    monkeypatch.setenv("LAB_LAUNCHER", '{"kind": "ray", "gpus": 2}')
    assert chosen() == Ray(gpus=2)
    monkeypatch.setenv("LAB_LAUNCHER", "rays")
    with pytest.raises(LabError, match="did you mean 'ray'"):
        chosen()


def raised() -> None:
    raise ConnectionError("no way to https://me:secret@there:8265/api (host='there')\nand more")


def test_what_a_cluster_says_is_told_without_its_address():
    with pytest.raises(Unavailable) as caught:
        answer("The cluster", raised)
    assert str(caught.value).startswith("The cluster does not do what was asked: no way to")
    assert not [word for word in ("secret", "there", "more") if word in str(caught.value)]


def test_a_cluster_that_says_nothing_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(base, "ANSWER", 0.1)
    with pytest.raises(Unavailable, match="no answer"):
        answer("The cluster", lambda: time.sleep(5))
