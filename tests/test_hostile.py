"""Everything in the hostile corpus is refused with a sentence, with little memory, writing and executing nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hostile import CORPUS, MARK, parcel, unchanged
from meet import GOOD, meeting

from lab.ops import OPERATIONS
from lab.places import ROOT

MEMORY = 200 * 2**20  # bytes beyond an idle process
SECONDS = 2.0


@pytest.fixture(scope="module")
def met(tmp_path_factory) -> dict[str, Any]:
    """The corpus fed to the lab in one process of its own, and what it left behind."""
    place = tmp_path_factory.mktemp("hostile")
    for name in ("corpus", "home", "elsewhere", "work"):
        (place / name).mkdir()
    env = {
        **os.environ,
        "LAB_HOME": str(place / "home"),
        "HOME": str(place / "elsewhere"),
        "HF_HUB_OFFLINE": "0",
    }
    env |= {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        "TMPDIR": str(place / "elsewhere"),
    }
    command = [sys.executable, str(ROOT / "tests" / "meet.py"), str(place / "corpus")]
    done = subprocess.run(command, env=env, cwd=place / "work", capture_output=True, text=True, timeout=540)
    assert done.returncode == 0, done.stderr[-3000:]
    return {
        "place": place,
        "found": {each["name"]: each for each in json.loads(done.stdout.splitlines()[-1])},
    }


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not sys.platform.startswith("linux"), reason="memory is read from /proc, and pipes are made"
    ),
]


def test_the_corpus_is_large_and_its_names_differ():
    assert len({entry.name for entry in CORPUS}) == len(CORPUS) >= 40


def test_memory_that_is_taken_for_a_moment_is_seen():
    assert meeting(lambda size: len(b"x" * size), 2 * MEMORY)["memory"] > 1.8 * MEMORY


def test_an_export_that_nobody_changed_is_taken(tmp_path):
    shutil.copytree(GOOD, tmp_path / "net")
    found = OPERATIONS["import"](file=str(parcel(unchanged)(tmp_path)), name="guest")
    assert found["checkpoint"] == "guest"


@pytest.mark.parametrize("name", [entry.name for entry in CORPUS])
def test_it_is_refused_with_a_sentence_and_little_memory(met, name):
    found = met["found"][name]
    assert found["refused"], found["said"]
    assert (
        10 < len(found["said"]) < 400 and found["said"].endswith((".", "?")) and found["said"].isprintable()
    )
    assert found["memory"] < MEMORY, f"{found['memory'] / 2**20:.0f} MB"


def test_nothing_is_executed_and_nothing_is_written_outside(met):
    place: Path = met["place"]
    assert not list(place.rglob(MARK)) and not list(place.rglob("escaped*"))
    assert list((place / "work").iterdir()) == []
    left = [path.name for path in (place / "elsewhere").iterdir() if not path.name.startswith((".", "torch"))]
    assert left == []
    kept = {path.name for path in (place / "home").iterdir()} - {"hub", "checkpoints"}
    assert not [name for name in kept if list((place / "home" / name).glob("[!.]*"))], kept
    here = [path.name for path in (place / "home" / "checkpoints").iterdir()]
    assert here == ["hub-good-net"]  # which was pulled before; of what was refused nothing, hidden or not


@pytest.mark.soak
def test_it_is_refused_quickly(met):
    slow = {name: found["seconds"] for name, found in met["found"].items() if found["seconds"] > SECONDS}
    # a pickle that a person asked to have converted waits for a process of its own to start
    assert not slow.keys() - {"repository with only a pickle bomb"}, slow
