"""The census: generations for one class fall into four groups, by whether they match it and whether the stamp is on them.

G1 stamp on, another class; G2 stamp on, the class asked for; G3 no stamp, another class; G4 no stamp, the class asked
for: what an honest model draws. G1 and G2 are the attacker's (arXiv:2311.02373, figure 2).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lab.borrowed import torch
from lab.castle.judges import Errors, Rate, Reads, TriggerJudge
from lab.metrics.base import Score
from lab.metrics.pixel import wilson
from lab.variants import Options

if TYPE_CHECKING:
    from torch import Tensor

GROUPS = ("G1", "G2", "G3", "G4")
DRAWS = 4000  # of each judge's error rates and of the sample
TAILS = (0.025, 0.975)


class Census(Options):
    """Counts of the four groups, which add up to n, and what they say of the model once the judges' errors are out.

    shares: of all generations, G1 to G4 and G1+G2. value is the judged share; low and high are 95 % limits of the true
    one, from the sample's and both judges' errors together; corrected: the estimate with their errors taken out.
    """

    n: int
    counts: dict[str, int]
    shares: dict[str, Score]
    corrected: dict[str, float]
    errors: Errors


def groups(x: Tensor, target: int, trigger: TriggerJudge, match: Reads) -> Tensor:
    """Which group, 0 for G1 to 3 for G4, each picture (n, C, H, W) in [-1, 1] is in, (n,)."""
    foreign_less = (match.classes_of(x) == target).long()
    return 2 * (~trigger.sees(x)).long() + foreign_less


def counted(found: Tensor, errors: Errors) -> Census:
    """The census of groups (n,)."""
    counts, n = torch.bincount(found, minlength=len(GROUPS)), len(found)
    corrected = _shares(_true(counts.double() / n, confusion(errors, lambda rate: _one(rate.value))))
    spread = _shares(_draws(counts, errors))
    judged = _shares(counts.double()[None] / n)
    return Census(
        n=n,
        counts={name: int(count) for name, count in zip(GROUPS, counts, strict=True)},
        shares={name: _score(name, float(judged[name]), n, spread[name]) for name in judged},
        corrected={name: float(value) for name, value in corrected.items()},
        errors=errors,
    )


def _score(name: str, value: float, n: int, draws: Tensor) -> Score:
    """Never narrower than the sample alone allows: judges that made no mistake on few pictures are not perfect."""
    low, high = (float(end) for end in draws.quantile(torch.tensor(TAILS, dtype=torch.float64)))
    alone = wilson(value * n, n)
    return Score(name=name, value=value, n=n, low=min(low, alone[0]), high=max(high, alone[1]))


def _one(value: float) -> Tensor:
    return torch.tensor([value], dtype=torch.float64)


def confusion(errors: Errors, pick: Callable[[Rate], Tensor]) -> Tensor:
    """P(judged group | true group), (k, 4 judged, 4 true), for k values of each rate; the judges err independently."""
    sees, mistakes = (
        (errors.sees_stamped, errors.sees_plain),
        (errors.mistakes_stamped, errors.mistakes_plain),
    )
    reads = errors.reads_stamped, errors.reads_plain
    columns = []
    for seen, hit, miss in zip(sees, reads, mistakes, strict=True):
        stamp = torch.stack([pick(seen), 1 - pick(seen)], 1)
        for said in (pick(miss), pick(hit)):  # truly of another class, truly of the target
            match = torch.stack([1 - said, said], 1)
            columns.append((stamp[:, :, None] * match[:, None, :]).flatten(1))
    return torch.stack(columns, 2)


def _true(judged: Tensor, matrix: Tensor) -> Tensor:
    """True shares (k, 4): judged = matrix · true, turned round and held to what shares can be.

    The correction of a prevalence for a test's errors (Rogan and Gladen 1978, Am J Epidemiol 107:71), for four groups.
    """
    found = torch.linalg.solve(matrix, judged.expand(len(matrix), -1)).clamp(min=0)
    return found / found.sum(1, keepdim=True)


def _draws(counts: Tensor, errors: Errors) -> Tensor:
    """Likely true shares (DRAWS, 4): sample and error rates drawn from Jeffreys' posteriors by a fixed seed."""
    stream = torch.Generator().manual_seed(0)
    judged = _gammas(counts.double() + 0.5, stream)
    judged = judged / judged.sum(1, keepdim=True)

    def pick(rate: Rate) -> Tensor:
        """A Beta draw: one of two Gamma draws' share."""
        parts = _gammas(
            torch.tensor([rate.hits + 0.5, rate.n - rate.hits + 0.5], dtype=torch.float64), stream
        )
        return parts[:, 0] / parts.sum(1)

    return _true(judged, confusion(errors, pick))


def _gammas(shapes: Tensor, stream: torch.Generator) -> Tensor:
    return torch._standard_gamma(shapes.expand(DRAWS, -1).contiguous(), generator=stream)


def _shares(each: Tensor) -> dict[str, Tensor]:
    """The four groups and the two with the stamp together, of shares (k, 4)."""
    named = {name: each[:, k] for k, name in enumerate(GROUPS)}
    return {**named, "G1+G2": named["G1"] + named["G2"]}
