"""Search for the digit network: `python checkpoints/search.py speed|train|score NAME … --runs DIR`; no NAME means all.

speed    how fast candidates sample, untrained, in turns
train    trains a candidate from scratch, every one for the same number of operations, so for about the same time
score    draws 1,000 digits with it and prints a line of the table in BENCHMARKS.md

Every training asks for one thread: on two cores, two candidates at a time. Score one at a time.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from lab.bench.base import timed
from lab.bench.sampling import drawn, flops
from lab.engine import Denoiser
from lab.evaluate import Sampling, Trial, target_of, trigger_of
from lab.metrics import Score
from lab.models import Checkpoint, Net, fresh, load
from lab.recipe import Recipe
from lab.runs import Run
from lab.sampling import DDIM, SampleSpec
from lab.training import TrainSpec

OPERATIONS = 1.6e13  # of the network's forward passes, for every candidate
BATCH = 64
JUDGED = SampleSpec(sampler=DDIM(steps=50), n=1000)
TIMED = SampleSpec(sampler=DDIM(steps=10), n=64)
ROUNDS = 7
CANDIDATES = {
    "-".join(map(str, widths)): Net(widths=widths)
    for widths in [(16, 32, 64, 64), (8, 16, 64, 64), (8, 16, 32, 64), (8, 8, 32, 64)]
}


def recipe(name: str) -> Recipe:
    """A candidate's training: as many steps as its size allows."""
    net = CANDIDATES[name]
    steps = round(OPERATIONS / flops(fresh(net, 0)) / BATCH)
    train = TrainSpec(steps=steps, batch=BATCH, lr=2e-3, ema=0.998, snr_gamma=5.0, threads=1)
    return Recipe(net=net, train=train)


def train(name: str, runs: Path) -> None:
    """Train one candidate in its run folder."""
    for tick in Run.open(runs / name, recipe(name)).train(name):
        if tick.step % 100 == 0:
            print(f"{name} {tick.step}/{tick.total}  loss {tick.values['loss']:.4f}", flush=True)


def score(name: str, runs: Path) -> None:
    """Print a candidate's line: its size, and how good its digits are."""
    checkpoint = load(Run.open(runs / name, recipe(name)).checkpoint)
    parameters = sum(p.numel() for p in checkpoint.unet.parameters()) / 1e6
    cells = [name, f"{parameters:.2f} M", f"{flops(checkpoint) / 1e9:.3f}"]
    cells += [f"{s.value:.3g}" for s in quality(checkpoint)]
    print(f"| {' | '.join(cells)} |", flush=True)


def speed(names: list[str]) -> None:
    """Print image-steps a second of each: medians of rounds in turns, the first of which only warms up."""
    checkpoints = [fresh(CANDIDATES[name], 0) for name in names]
    samplings = [Sampling(each, TIMED, Denoiser(each.unet)) for each in checkpoints]
    rounds = [[timed(lambda each=each: drawn(each)) for each in samplings] for _ in range(1 + ROUNDS)]
    for name, seconds in zip(names, zip(*rounds[1:], strict=True), strict=True):
        print(f"{name}  {TIMED.n * TIMED.sampler.steps / statistics.median(seconds):.0f} image-steps/s")


def quality(checkpoint: Checkpoint) -> list[Score]:
    """Feature distance, share of confident digits and share of the commonest digit."""
    trial = Trial(checkpoint, trigger_of(checkpoint.card), target_of(checkpoint.card), JUDGED)
    row = list(trial.measure(("clean",)))[-1]
    return [s for s in row.scores if s.name in ("feature distance", "confident digits", "commonest digit")]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("step", choices=("speed", "train", "score"))
    parser.add_argument("names", nargs="*", help="candidates; none means all")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the run folders")
    options = parser.parse_args()
    names = options.names or list(CANDIDATES)
    if options.step == "speed":
        speed(names)
        return
    for name in names:
        {"train": train, "score": score}[options.step](name, options.runs)


if __name__ == "__main__":
    main()
