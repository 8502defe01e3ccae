"""Classes of diffusers: the right ones, also when two threads of a page ask first at the same time."""

from __future__ import annotations

import subprocess
import sys

from lab.borrowed import diffusers_class
from lab.places import ROOT

TWO_AT_ONCE = """
from concurrent.futures import ThreadPoolExecutor
from lab.borrowed import diffusers_class

names = ["UNet2DModel", "DDPMScheduler", "UNet2DModel", "DDIMScheduler"]
with ThreadPoolExecutor(4) as pool:
    print(*(found.__name__ for found in pool.map(diffusers_class, names)))
"""


def test_a_class_is_the_one_asked_for():
    assert diffusers_class("DDIMScheduler").__name__ == "DDIMScheduler"


def test_threads_that_ask_first_at_the_same_time_all_get_their_class():
    result = subprocess.run([sys.executable, "-c", TWO_AT_ONCE], cwd=ROOT, capture_output=True, text=True)
    assert result.stdout.split() == ["UNet2DModel", "DDPMScheduler", "UNet2DModel", "DDIMScheduler"], (
        result.stderr
    )
