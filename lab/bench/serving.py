"""Serving: the page samples while a training works in the background, beside the same with the training held still."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import psutil

from lab.bench.base import Case
from lab.bench.sampling import MODEL
from lab.errors import LabError
from lab.explore import ExploreSpec, explore
from lab.launch import Process
from lab.recipe import FINE_TUNE, Recipe
from lab.sampling import DDPM
from lab.store import About, Store, Stored

ENDLESS = 10_000_000  # steps
PATIENCE = 120.0  # seconds for the training to get on
N = 16


def cases(quick: bool) -> Iterator[Case]:
    """What Explore does for one model, from the click to the last picture, while another process trains."""
    seeds, sampler = count(), DDPM(steps=50 if quick else 250)

    def clicked() -> Any:
        """Other seeds each time: pictures that were drawn before come from memory."""
        spec = ExploreSpec(a="", b=MODEL, controls=False, n=N, sampler=sampler, seed=next(seeds))
        return list(explore(spec))

    with tempfile.TemporaryDirectory(prefix="trojan-noise-") as folder, training(Path(folder)) as trained:
        yield Case(
            name=f"Explore beside a training, {2 * N} images × {sampler.steps} steps",
            rival_name="Explore alone",
            ours=clicked,
            rival=clicked,
            before_ours=trained.goes_on,
            before_rival=trained.holds_still,
            work=2 * N * sampler.steps,
            unit="image-steps",
        )


class Training:
    """A fine-tune at work in a process of its own."""

    def __init__(self, run: Stored, process: psutil.Process):
        self.run, self.process = run, process

    def goes_on(self) -> None:
        """Let it work, and wait until it does: it pauses for a while after a page has sampled."""
        self.process.resume()
        before, given_up = self._logged(), time.monotonic() + PATIENCE
        while self._logged() == before:
            if time.monotonic() > given_up or not self.process.is_running():
                raise LabError(f"The training beside which the page samples stands still: {self.run.log(3)}")
            time.sleep(0.02)

    def holds_still(self) -> None:
        """Freeze it in the middle of whatever it does."""
        self.process.suspend()

    def _logged(self) -> int:
        return max((tick["step"] for tick in self.run.ticks()), default=0)


@contextmanager
def training(folder: Path) -> Iterator[Training]:
    """An endless fine-tune of the shipped clean model, as the page would start it."""
    recipe = Recipe(base=MODEL, train=FINE_TUNE.model_copy(update={"steps": ENDLESS}))
    run, launcher = Store(folder).create(recipe, About(previews=0)), Process()
    handle = launcher.start(run)
    try:
        yield Training(run, psutil.Process(handle["pid"]))
    finally:
        launcher.stop(run, handle)
