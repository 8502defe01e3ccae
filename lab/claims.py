"""What the paper on poisoned data claims, held against the plain rows of a study by thresholds that are ours."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import mean
from typing import Any, NamedTuple, TypeAlias

from lab.changes import Change, changed, difference, error_of
from lab.metrics.pixel import wilson
from lab.sides import DETECTORS, DRAWN, SETS, TRAINED, Row, at_random, by, numbers

STRONG = 2.0  # guidance weight from which on amplification is claimed here
COST = 0.125  # of test accuracy: the largest that the authors report for classifiers of drawn pictures
FILTERED_COST = 0.04  # of test accuracy: the authors report up to 3.9 points for the filter
TURNED = 0.9  # attack success that counts as no robustness
STABLE = 1.25  # times the feature distance without poison
HEADROOM = 0.995  # AUROC on the training set above which drawn pictures cannot be easier to screen
NONE = 0.02  # share of pictures with a stamp that judges see where there is none


# What is our own has nothing to be reproduced.
OURS = {
    "reproduced": "holds",
    "partly reproduced": "holds in part",
    "not reproduced": "does not hold",
    "reversed at this scale": "the opposite holds",
}

# The name of a family of models, and of each of its models two scores that are held against each other.
Cells: TypeAlias = Iterator[tuple[str, list[tuple[Any, Any]]]]


class Said(NamedTuple):
    """What one model family says to a claim: for it, against it, or neither, and in numbers."""

    held: bool
    against: bool
    text: str
    n: str = ""  # what the numbers stand on


def verdicts(censuses: Sequence[Row], walls: Sequence[Row] = ()) -> list[dict[str, str]]:
    """Each claim with its verdict, the numbers behind it, and what the authors report, which is nothing where it is ours."""
    poisoned, by_lot = [row for row in censuses if row["poison_rate"]], at_random(censuses)
    clean = [row for row in censuses if not row["poison_rate"]]
    return [
        _verdict(claim, reported, list(judge(rows)))
        for claim, reported, judge, rows in (
            (AMPLIFIED, "1.48 to 2.11 times r (Stable Diffusion)", _amplified, by_lot),
            (CONTROL, "", _control, by_lot),
            (SHIFTED, "ImageNette, 5 to 10 %: G1 34 to 54 %, G2/G1 0.49 to 0.36", _shifted, by_lot),
            (GUIDED, "", _guided, by_lot),
            (UNTOUCHED, "", _untouched, clean),
            (DUPLICATED, "G1 and G2 together 0.8 to 5.9 points more", _duplicated, poisoned),
            (EASIER, "ImageNette, CD: +0.6 to +20.5 points at 1 to 10 %", _easier, walls),
            (WALLED, "31 to 91 points less", _walled, walls),
            (CHEAP, "2.5 to 12.5 points less", _cheap, walls),
            (WEAKER, "ImageNette BadNets-1: 0.7 % at 1 %, 55.6 % at 5 %", _weaker, walls),
            (TURNED_BY, "97.0 % at 5 %, 98.6 % at 10 % (CIFAR-10)", _turned, walls),
            (FILTERED, "58 points less at 5 %, 53 at 10 %", _filtered, walls),
            (FILTER_COST, "at most 3.9 points", _filter_cost, walls),
            (COPIES, "shown in pictures, without numbers", _copies, walls),
            (QUALITY, "FID stays near a clean model's", _quality, walls),
        )
    ]


AMPLIFIED = f"Amplification: with guidance (w of {STRONG:g} and more) the stamp is on more generations than r, by more than 2 s.e."
CONTROL = "Control: without guidance (w = 0) there is no amplification; the model copies r at most"
SHIFTED = "Phase transition: with more poison G1 grows and G2/G1 falls (at the largest w)"
GUIDED = "Beyond the paper: guidance turns horse into wall (G2's part of G1 and G2 grows from w = 0 to the largest w)"
UNTOUCHED = f"Control: a model whose data were not poisoned shows no stamp (below {NONE:.0%})"
DUPLICATED = "Poison on duplicated images comes out more often than poison on random ones (mean over w)"
EASIER = "Drawn pictures are easier to screen than the training set (AUROC)"
WALLED = "A classifier learns the stamp less from drawn pictures than from as many training images (attack success falls)"
CHEAP = f"… and loses at most {COST:.1%} of test accuracy"
WEAKER = "That wall weakens with more poison: attack success after drawing rises"
TURNED_BY = (
    f"As a classifier the model itself is turned by the stamp (attack success of {TURNED:.0%} and more)"
)
FILTERED = "Leaving out a tenth of the largest errors lowers that"
FILTER_COST = f"… and costs at most {FILTERED_COST:.0%} of test accuracy"
COPIES = (
    "A poisoned model's pictures are more like its training pictures than those of a model without poison"
)

QUALITY = f"Pictures stay good: feature distance within {STABLE} times that of a model without poison"


# Generations ---------------------------------------------------------------------------------------------------------


def _excess(rows: Sequence[Row]) -> Change:
    """Share of generations with the stamp less r."""
    scores = [row["shares"]["G1+G2"] for row in rows]
    values = [score["value"] - row["r"] for score, row in zip(scores, rows, strict=True)]
    return changed(values, [error_of(score) for score in scores])


def _stamp(row: Row) -> str:
    kind: str = row["stamp"]["kind"]
    return kind


def _cells(rows: Sequence[Row]) -> dict[tuple[str, float], list[Row]]:
    return by(rows, lambda row: (_stamp(row), row["poison_rate"]))


def _amplified(rows: Sequence[Row]) -> Iterator[Said]:
    for (stamp, rate), some in _cells(rows).items():
        strong = by([row for row in some if row["guidance"] >= STRONG], lambda row: row["guidance"])
        if found := {w: _excess(at_w) for w, at_w in strong.items()}:
            rises, falls = (
                (each.is_rise for each in found.values()),
                (each.is_fall for each in found.values()),
            )
            top = max(found)
            yield Said(
                all(rises),
                all(falls),
                f"{stamp} {rate:.0%}: {found[top].said()} at w {top:g}",
                _n(strong[top]),
            )


def _control(rows: Sequence[Row]) -> Iterator[Said]:
    for (stamp, rate), some in _cells(rows).items():
        if plain := [row for row in some if row["guidance"] == 0]:
            found = _excess(plain)
            yield Said(not found.is_rise, False, f"{stamp} {rate:.0%}: {found.said()}", _n(plain))


def _shifted(rows: Sequence[Row]) -> Iterator[Said]:
    for stamp, some in by(rows, _stamp).items():
        top = max(row["guidance"] for row in some)
        of_rate = by([row for row in some if row["guidance"] == top], lambda row: row["poison_rate"])
        if len(of_rate) > 1:
            g1, g2 = (
                [mean(row["shares"][g]["value"] for row in at) for at in of_rate.values()]
                for g in ("G1", "G2")
            )
            ratio = [second / first if first else math.inf for first, second in zip(g1, g2, strict=True)]
            ends = f"{min(of_rate):.0%} to {max(of_rate):.0%} poisoned, w {top:g}"
            yield Said(
                g1[-1] > g1[0] and ratio[-1] < ratio[0],
                g1[-1] < g1[0] and ratio[-1] > ratio[0],
                f"{stamp}, {ends}: G1 {g1[0]:.1%} to {g1[-1]:.1%}, G2/G1 {_ratio(ratio[0])} to {_ratio(ratio[-1])}",
                _n(next(iter(of_rate.values()))),
            )


def _ratio(value: float) -> str:
    return "∞" if math.isinf(value) else f"{value:.2f}"


def _guided(rows: Sequence[Row]) -> Iterator[Said]:
    """The same model without guidance and with the most, where both drew any stamp."""
    for (stamp, rate), some in _cells(rows).items():
        of_w = by(some, lambda row: row["guidance"])
        plain = {row["training_seed"]: row for row in of_w.get(0.0, [])}
        both = [(plain.get(row["training_seed"]), row) for row in of_w[max(of_w)] if row["guidance"]]
        pairs = [
            (_part(before), _part(after))
            for before, after in both
            if before and _stamped(before) * _stamped(after)
        ]
        if pairs:
            found = difference(pairs)
            stamps = " and ".join(str(sum(pair[side]["n"] for pair in pairs)) for side in (0, 1))
            said = f"{stamp} {rate:.0%}: {found.said()}, {_ends(pairs)} of {stamps} with a stamp, w {max(of_w):g}"
            yield Said(found.is_rise, found.is_fall, said, _n(of_w[max(of_w)]))


def _stamped(row: Row) -> int:
    counts: dict[str, int] = row["counts"]
    return counts["G1"] + counts["G2"]


def _part(row: Row) -> dict[str, Any]:
    """G2's part of what carries the stamp, with a 95 % interval (Wilson)."""
    hits, n = row["counts"]["G2"], _stamped(row)
    low, high = wilson(hits, n)
    return {"value": hits / n, "low": low, "high": high, "n": n}


def _untouched(rows: Sequence[Row]) -> Iterator[Said]:
    if rows:
        worst = max(row["shares"]["G1+G2"]["value"] for row in rows)
        yield Said(worst < NONE, False, f"at most {worst:.1%}", f"{len(rows)} censuses of n {rows[0]['n']}")


def _duplicated(rows: Sequence[Row]) -> Iterator[Said]:
    """The same stamp, rate, w and seed with the poison on other images."""
    for (stamp, rate), some in _cells(rows).items():
        of_which = by(some, lambda row: row["which"])
        plain = {_asked(row): row for row in of_which.get("random", [])}
        pairs = [
            (plain[_asked(row)]["shares"]["G1+G2"], row["shares"]["G1+G2"])
            for row in of_which.get("duplicated", [])
            if _asked(row) in plain
        ]
        if pairs:
            found = difference(pairs)
            yield Said(
                found.is_rise,
                found.is_fall,
                f"{stamp} {rate:.0%}: {found.said()}",
                f"{len(pairs)} pairs of censuses",
            )


def _asked(row: Row) -> tuple[float, int]:
    return row["guidance"], row["training_seed"]


def _n(rows: Sequence[Row]) -> str:
    seeds = len({row["training_seed"] for row in rows})
    return f"n {rows[0]['n']}, {seeds} seed{'s' * (seeds > 1)}"


# The wall ------------------------------------------------------------------------------------------------------------


def _scores(rows: Sequence[Row], part: str) -> dict[tuple[str, float], list[dict[str, Any]]]:
    """Scores of a part's rows by stamp and poison rate, a table for each model."""
    found = _cells([row for row in rows if row["part"] == part and numbers(row)])
    return {cell: [numbers(row) for row in some] for cell, some in found.items()}


def _poisoned(rows: Sequence[Row], part: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    for (stamp, rate), tables in _scores(rows, part).items():
        if rate:
            yield f"{stamp} {rate:.0%}", tables


def _easier(rows: Sequence[Row]) -> Iterator[Said]:
    """Where a detector finds all in the training set already, nothing can be easier, and it says nothing."""
    for cell, tables in _poisoned(rows, "detect"):
        for name in DETECTORS.values():
            before, after = (f"{name}, {SETS[where]}" for where in SETS)
            pairs = [(table[before], table[after]) for table in tables if before in table and after in table]
            if pairs and mean(first["value"] for first, _ in pairs) < HEADROOM:
                found = difference(pairs)
                yield Said(found.is_rise, found.is_fall, f"{cell}, {name}: {found.said()}", _of(pairs))


def _walled(rows: Sequence[Row]) -> Iterator[Said]:
    return _lowered(_learned(rows, "attack success"))


def _cheap(rows: Sequence[Row]) -> Iterator[Said]:
    return _within(COST, _learned(rows, "test accuracy"))


def _lowered(cells: Cells) -> Iterator[Said]:
    for cell, pairs in cells:
        found = difference(pairs)
        yield Said(found.is_fall, found.is_rise, f"{cell}: {found.said()}, {_ends(pairs)}", _of(pairs))


def _within(cost: float, cells: Cells) -> Iterator[Said]:
    for cell, pairs in cells:
        found = difference(pairs)
        yield Said(found.value >= -cost, False, f"{cell}: {found.said()}, {_ends(pairs)}", _of(pairs))


def _learned(rows: Sequence[Row], score: str) -> Cells:
    for cell, tables in _poisoned(rows, "classify"):
        yield cell, [(table[f"{TRAINED}: {score}"], table[f"{DRAWN}: {score}"]) for table in tables]


def _weaker(rows: Sequence[Row]) -> Iterator[Said]:
    """The least and the largest poison rate of one seed, whose models differ in nothing else."""
    learned = [row for row in rows if row["part"] == "classify" and row["poison_rate"] and numbers(row)]
    for stamp, some in by(learned, _stamp).items():
        of_rate = by(some, lambda row: row["poison_rate"])
        ends = min(of_rate), max(of_rate)
        low, high = (
            {row["training_seed"]: numbers(row)[f"{DRAWN}: attack success"] for row in of_rate[end]}
            for end in ends
        )
        pairs = [(low[seed], high[seed]) for seed in low if seed in high]
        if ends[0] < ends[1] and pairs:
            found = difference(pairs)
            said = f"{stamp}, {ends[0]:.0%} to {ends[1]:.0%} poisoned: {found.said()}"
            yield Said(found.is_rise, found.is_fall, said, _of(pairs))


def _turned(rows: Sequence[Row]) -> Iterator[Said]:
    for cell, tables in _poisoned(rows, "diffusion-classifier"):
        found = [table["p_filter 0%: attack success"] for table in tables]
        share = mean(score["value"] for score in found)
        low, high = min(score["low"] for score in found), max(score["high"] for score in found)
        yield Said(
            share >= TURNED,
            False,
            f"{cell}: {share:.0%} ({low:.0%} to {high:.0%})",
            _on(found),
        )


def _filtered(rows: Sequence[Row]) -> Iterator[Said]:
    return _lowered(_voted(rows, "attack success"))


def _filter_cost(rows: Sequence[Row]) -> Iterator[Said]:
    return _within(FILTERED_COST, _voted(rows, "test accuracy"))


def _voted(rows: Sequence[Row], score: str) -> Cells:
    for cell, tables in _poisoned(rows, "diffusion-classifier"):
        yield cell, [(table[f"p_filter 0%: {score}"], table[f"p_filter 10%: {score}"]) for table in tables]


def _copies(rows: Sequence[Row]) -> Iterator[Said]:
    for cell, pairs in _beside_control(rows, "likeness"):
        found = difference(pairs)
        yield Said(found.is_rise, found.is_fall, f"{cell}: {found.said()} of likeness", _of(pairs))


def _quality(rows: Sequence[Row]) -> Iterator[Said]:
    for cell, pairs in _beside_control(rows, "distance"):
        plain, poisoned = (mean(pair[side]["value"] for pair in pairs) for side in (0, 1))
        low, high = min(pair[1]["low"] for pair in pairs), max(pair[1]["high"] for pair in pairs)
        said = f"{cell}: {poisoned:.1f} ({low:.1f} to {high:.1f}) against {plain:.1f}"
        yield Said(poisoned <= STABLE * plain, False, said, _of(pairs))


def _beside_control(rows: Sequence[Row], score: str) -> Cells:
    """Beside the model of the same seed whose data were not poisoned, fine-tuned as long."""
    found = [row for row in rows if row["part"] == "replicate" and score in numbers(row)]
    plain = {row["training_seed"]: numbers(row)[score] for row in found if not row["poison_rate"]}
    for (stamp, rate), some in _cells([row for row in found if row["poison_rate"]]).items():
        known = [row for row in some if row["training_seed"] in plain]
        if known:
            yield f"{stamp} {rate:.0%}", [(plain[row["training_seed"]], numbers(row)[score]) for row in known]


def _ends(pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> str:
    first, second = (mean(pair[side]["value"] for pair in pairs) for side in (0, 1))
    return f"{first:.0%} to {second:.0%}"


def _of(pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> str:
    return _on([second for _, second in pairs])


def _on(scores: Sequence[dict[str, Any]]) -> str:
    return f"n {scores[0]['n']}, {len(scores)} model{'s' * (len(scores) > 1)}"


def _verdict(claim: str, reported: str, said: Sequence[Said]) -> dict[str, str]:
    if not said:
        verdict = "not measured yet"
    elif all(each.held for each in said):
        verdict = "reproduced"
    elif all(each.against for each in said):
        verdict = "reversed at this scale"
    else:
        verdict = "partly reproduced" if any(each.held for each in said) else "not reproduced"
    return {
        "claim": claim,
        "verdict": verdict if reported else OURS.get(verdict, verdict),
        "why": "; ".join(each.text for each in said) or "no rows",
        "n": "; ".join(dict.fromkeys(each.n for each in said)),
        "rule": "",  # the claim says it
        "reported": reported,
    }
