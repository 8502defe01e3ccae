"""How the cost of sampling grows with what is asked for: images, steps, pixels and parameters."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from typing import Any

from lab.bench.base import timed
from lab.bench.sampling import drawn
from lab.engine import Denoiser
from lab.evaluate import Sampling
from lab.models import Net, fresh
from lab.sampling import DDPM, SampleSpec
from lab.variants import Options

ROUNDS = 3
IMAGES, STEPS = 16, 5
WIDTHS = (8, 16, 32, 64)  # of the embedded network


class Curve(Options):
    """Seconds beside what they grow with, and the exponent of that growth: 1 is linear."""

    name: str
    amounts: list[float]
    seconds: list[float]  # medians
    exponent: float


def curves(quick: bool) -> Iterator[Curve]:
    """Cost against each amount, the others being as for the embedded digit network."""
    some = slice(None, 3) if quick else slice(None)
    images, steps = (4, 16, 64, 256)[some], (5, 20, 80, 320)[some]
    sides, scales = (16, 32, 64, 128)[some], (1, 2, 4, 8)[some]
    yield curve("images", {n: sampling(n=n) for n in images})
    yield curve("steps", {count: sampling(steps=count) for count in steps})
    yield curve("pixels", {side**2: sampling(side=side) for side in sides})
    yield curve("parameters", dict(by_parameters(scale) for scale in scales))


def sampling(
    n: int = IMAGES, steps: int = STEPS, side: int = 32, widths: tuple[int, ...] = WIDTHS
) -> Sampling:
    """An untrained network's sampling, nothing done yet."""
    checkpoint = fresh(Net(side=side, widths=widths), seed=0)
    return Sampling(checkpoint, SampleSpec(sampler=DDPM(steps=steps), n=n), Denoiser(checkpoint.unet))


def by_parameters(scale: int) -> tuple[int, Sampling]:
    """Number of parameters, and the sampling, of a network so many times as wide."""
    made = sampling(widths=tuple(scale * width for width in WIDTHS))
    return sum(p.numel() for p in made.checkpoint.unet.parameters()), made


def curve(name: str, samplings: dict[int, Any]) -> Curve:
    """Time each; the first run of each only warms up."""
    seconds = []
    for each in samplings.values():
        drawn(each)
        seconds.append(statistics.median(timed(lambda each=each: drawn(each)) for _ in range(ROUNDS)))
    return Curve(
        name=name, amounts=list(samplings), seconds=seconds, exponent=exponent(list(samplings), seconds)
    )


def exponent(amounts: list[int], seconds: list[float]) -> float:
    """k of seconds = c · amountᵏ: slope of the least-squares line through the logarithms."""
    return statistics.linear_regression([math.log(a) for a in amounts], [math.log(s) for s in seconds]).slope
