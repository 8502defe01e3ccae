"""Heavy libraries: imported late, and rightly so when two threads of a page ask first at the same time."""

from __future__ import annotations

import subprocess
import sys

from lab import explore as exploring
from lab import ops
from lab.borrowed import diffusers_class
from lab.places import ROOT

TWO_AT_ONCE = """
from concurrent.futures import ThreadPoolExecutor
from lab.borrowed import diffusers_class

names = ["UNet2DModel", "DDPMScheduler", "UNet2DModel", "DDIMScheduler"]
with ThreadPoolExecutor(4) as pool:
    print(*(found.__name__ for found in pool.map(diffusers_class, names)))
"""


TORCH_AT_ONCE = """
from concurrent.futures import ThreadPoolExecutor
from lab.borrowed import torch

with ThreadPoolExecutor(4) as pool:
    print(*pool.map(lambda n: float(torch.ones(n).sum()), range(4)))
"""
LISTED = """
import sys
from lab.cli import main

main(["list", "--json"])
heavy = {"torch", "torchvision", "diffusers", "accelerate", "torchmetrics", "gradio"}
print(sorted(heavy & sys.modules.keys()))
"""
STUBS = """
import ast

read, segment = [], ast.get_source_segment
ast.get_source_segment = lambda *given, **named: read.append(given) or segment(*given, **named)
{importing}
print(len(read), hasattr(gradio.Textbox, "submit"))
"""


def output(program: str) -> list[str]:
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert not result.returncode, result.stderr
    return result.stdout.splitlines()


def test_a_class_is_the_one_asked_for():
    assert diffusers_class("DDIMScheduler").__name__ == "DDIMScheduler"


def test_threads_that_ask_first_at_the_same_time_all_get_their_class():
    assert output(TWO_AT_ONCE) == ["UNet2DModel DDPMScheduler UNet2DModel DDIMScheduler"]


def test_threads_that_use_torch_first_at_the_same_time_all_can():
    assert output(TORCH_AT_ONCE) == ["0.0 1.0 2.0 3.0"]


def test_a_list_imports_nothing_heavy():
    listed, heavy = output(LISTED)
    assert "mnist-clean" in listed and heavy == "[]"


BUILT = """
import sys
from lab.ui import build

build()
print(sorted({"torch", "torchvision", "diffusers", "accelerate", "torchmetrics"} & sys.modules.keys()))
"""


def test_the_page_is_built_before_torch_is_there():
    assert output(BUILT) == ["[]"]


def test_the_first_one_who_presses_generate_finds_the_networks_ready(monkeypatch):
    made = []
    monkeypatch.setattr(exploring.Denoiser, "__init__", noting(made, exploring.Denoiser.__init__))
    exploring._ready.cache_clear()
    ops.warm_up()
    assert len(made) == 2
    ops.final(ops.OPERATIONS["explore"](sampler={"kind": "ddpm", "steps": 1}, n=1, controls=False))
    assert len(made) == 2


def noting(made: list, init):
    """A constructor that also counts itself."""

    def counted(self, *values, **more):
        made.append(self)
        init(self, *values, **more)

    return counted


def test_the_page_imports_gradio_without_writing_its_type_stubs():
    ours = output(STUBS.format(importing="from lab.borrowed import gradio\n\ngradio = gradio()"))
    theirs = output(STUBS.format(importing="import gradio"))
    assert ours == ["0 True"]
    assert theirs != ours, "Gradio does so no more; lab.borrowed.gradio has nothing to save."
