"""Compiled networks: what is compiled computes the same, is shared by an architecture, and is used only where it helps."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
import torch

from lab import compiling, engine, priority
from lab.compiling import Blueprint, Verdict, Workshop, has_compiler, judge, make, make_apart, shelf, verdict
from lab.engine import Denoiser
from lab.models import Net
from lab.places import ROOT

CLOSE = 1e-4  # float32 sums in another order


@pytest.fixture
def blueprint(tiny) -> Blueprint:
    """Of the tiny network, in float32 as every CPU has it."""
    found = Blueprint.drawn_from(tiny.unet, torch.float32)
    assert found
    return found


def slow(x: torch.Tensor, t: torch.Tensor, *labels: torch.Tensor) -> torch.Tensor:
    """Any rival is beaten by code that does not sleep."""
    time.sleep(0.2)
    return x


def wait_until(holds: Callable[[], bool]) -> None:
    """Give a thread up to ten seconds."""
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def stored(blueprint: Blueprint, **values: object) -> None:
    """Put a verdict on the shelf."""
    (shelf() / f"{blueprint.key}.json").write_text(json.dumps({"used": False, "reason": "", **values}))


@pytest.mark.slow
@pytest.mark.skipif(not has_compiler(), reason="needs a C++ compiler")
def test_compiled_code_serves_every_checkpoint_of_its_architecture(tiny, blueprint, monkeypatch):
    monkeypatch.setattr(engine, "is_faster_in_bf16", lambda device: False)
    monkeypatch.setattr(compiling, "CLOSE", float("inf"))  # of the rival, which computes something else
    found = make(blueprint, rival=slow)
    assert found.used and found.speedup and found.seconds and "times as fast" in found.reason
    for unet in (tiny.unet, Net(widths=(8, 16), side=32).build(seed=1)):
        ready, plain = Denoiser(unet, device="cpu"), Denoiser(unet, True, "cpu")
        assert ready.reason.endswith(found.reason)
        for n in (1, 2, 7, 40):
            x, each, one = torch.randn(n, 1, 32, 32), torch.randint(1000, (n,)), torch.tensor(500).expand(n)
            for t in (each, one):
                assert (ready(x, t) - plain(x, t)).abs().max() < CLOSE
        assert "Compiled" in type(ready.network.__closure__[0].cell_contents).__name__  # type: ignore[attr-defined]


@pytest.mark.soak
@pytest.mark.skipif(not has_compiler(), reason="needs a C++ compiler")
def test_a_network_in_colour_with_classes_is_compiled_with_its_labels(monkeypatch):
    monkeypatch.setattr(engine, "is_faster_in_bf16", lambda device: False)
    monkeypatch.setattr(compiling, "CLOSE", float("inf"))
    unet = Net(widths=(8, 16), side=8, channels=3, classes=3).build(seed=0)
    made = Blueprint.drawn_from(unet, torch.float32)
    assert made and make(made, rival=slow).used
    ready, plain = Denoiser(unet, device="cpu"), Denoiser(unet, True, "cpu")
    for n in (1, 3):
        x, t, labels = torch.randn(n, 3, 8, 8), torch.tensor([1, 2, 3])[:n], torch.tensor([2, 1, 0])[:n]
        assert (ready(x, t, labels) - plain(x, t, labels)).abs().max() < CLOSE


def test_what_is_slower_or_computes_something_else_is_not_used(monkeypatch):
    part = (torch.ones(2, 1, 2, 2), torch.ones(2))
    monkeypatch.setattr(priority, "_marked", -priority.EVERY)
    assert judge(lambda x, t: x, slow, part, 1.0).used
    assert priority.is_somebody_waiting()  # a training beside it would have made the verdict
    assert not judge(slow, lambda x, t: x, part, 1.0).used
    wrong = judge(lambda x, t: x + 1, slow, part, 1.0)
    assert not wrong.used and "something else" in wrong.reason
    assert not judge(lambda x, t: x * torch.nan, slow, part, 1.0).used


def test_without_a_compiler_the_graph_stays_and_the_page_says_so(tiny, blueprint, monkeypatch):
    monkeypatch.setattr(engine, "is_faster_in_bf16", lambda device: False)
    monkeypatch.setattr(compiling.shutil, "which", lambda name: None)
    assert not make(blueprint).used
    assert Denoiser(tiny.unet, device="cpu").reason.endswith("; this machine has no C++ compiler")
    assert [path.suffix for path in shelf().iterdir()] == [".json"]


def test_a_network_that_nobody_tried_is_asked_for_once(tiny, blueprint, monkeypatch):
    monkeypatch.setattr(engine, "is_faster_in_bf16", lambda device: False)
    workshop = Workshop()
    monkeypatch.setattr(engine, "WORKSHOP", workshop)
    for _ in range(2):
        assert Denoiser(tiny.unet, device="cpu").reason.endswith("; not compiled yet")
    assert list(workshop.wanted) == [blueprint]
    assert not Denoiser(tiny.unet, True, "cpu").compiled and len(workshop.wanted) == 1
    assert not shelf().joinpath("x").parent.stat().st_mode & 0o077  # what lies there is run


@pytest.mark.parametrize("content", ["", "[]", "{", '{"used": "maybe"}', '{"used": true, "more": 1}'])
def test_a_verdict_that_cannot_be_read_is_none(blueprint, content):
    (shelf() / f"{blueprint.key}.json").write_text(content)
    assert verdict(blueprint) is None


def test_the_key_tells_architectures_and_formats_apart(tiny, blueprint):
    other = Blueprint.drawn_from(Net(widths=(16, 16)).build(0), torch.float32)
    rounded = Blueprint.drawn_from(tiny.unet, torch.bfloat16)
    assert other and rounded
    assert len({blueprint.key, other.key, rounded.key}) == 3
    assert blueprint.key == Blueprint(**json.loads(blueprint.model_dump_json())).key
    assert Blueprint.drawn_from(torch.nn.Identity(), torch.float32) is None


def test_a_compilation_that_dies_leaves_a_verdict_and_what_it_said(blueprint, monkeypatch):
    monkeypatch.setattr(compiling.sys, "executable", "/bin/false" if sys.platform != "win32" else "whoami")
    found = make_apart(blueprint)
    assert found and not found.used and "failed" in found.reason and verdict(blueprint) == found


def test_a_process_of_its_own_makes_it_and_ends_when_its_asker_does(blueprint, lab_home):
    without = {"PATH": "", "LAB_HOME": str(lab_home), "OMP_NUM_THREADS": "1"}  # no compiler: at once
    command = [sys.executable, "-m", "lab.compiling", blueprint.model_dump_json()]
    with subprocess.Popen(command, cwd=ROOT, env=without, stdin=subprocess.PIPE) as process:
        assert process.wait() == 0
    found = verdict(blueprint)
    assert found and "no C++ compiler" in found.reason


def test_the_workshop_works_while_nobody_waits(blueprint, monkeypatch):
    made: list[Blueprint] = []
    monkeypatch.setattr(compiling, "QUIET", 0.02)
    monkeypatch.setattr(compiling, "make_apart", lambda blueprint, is_needed: made.append(blueprint) or True)
    workshop = Workshop()
    workshop.ask(blueprint)
    workshop.called = time.monotonic() + 3600
    workshop.open()
    time.sleep(0.2)
    assert not made
    workshop.called = 0.0
    wait_until(lambda: bool(made))
    assert made == [blueprint] and not workshop.wanted


def test_who_needs_the_cores_gets_them_and_the_work_is_done_later(blueprint, monkeypatch):
    looks = iter([False, True])  # a tenth of a second: the process is still importing
    begun = time.monotonic()
    assert make_apart(blueprint, lambda: next(looks)) is None
    assert time.monotonic() - begun < 60 and verdict(blueprint) is None
    tried = []
    monkeypatch.setattr(compiling, "QUIET", 0.02)
    monkeypatch.setattr(compiling, "make_apart", lambda *of: tried.append(of) if len(tried) < 3 else True)
    workshop = Workshop()
    workshop.ask(blueprint)
    workshop.open()
    wait_until(lambda: len(tried) == 3 and not workshop.wanted)


def test_what_was_tried_before_is_not_tried_again(blueprint, monkeypatch):
    monkeypatch.setattr(compiling, "QUIET", 0.02)
    monkeypatch.setattr(compiling, "make_apart", lambda *of: pytest.fail("tried again"))
    stored(blueprint)
    assert verdict(blueprint) == Verdict(used=False, reason="")
    workshop = Workshop()
    workshop.ask(blueprint)
    workshop.open()
    wait_until(lambda: not workshop.wanted)
