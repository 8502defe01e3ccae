"""Both sides of poisoned data: charts and verdicts from the plain rows of censuses, and what the authors report."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from lab.charts import Chart, Line, Point

Row = dict[str, Any]
GROUPS = {
    "G1": "stamp on, another class",
    "G2": "stamp on, the class asked for",
    "G3": "no stamp, another class",
    "G4": "no stamp, the class asked for",
}
NAMES = {"patch": "BadNets-1, patch", "blend": "BadNets-2, blend"}
STRONG = 2.0  # guidance weight from which on amplification is claimed here
ERRORS = 2.0  # standard errors that a difference must exceed
TABLE = "Duplication table of the authors' slides, its random columns; Stable Diffusion; stamp and w not stated there"
# (data set, poison rate, r, G1, G2): reported by the authors, never measured here
REPORTED = (
    ("ImageNette", 0.05, 0.330, 0.338, 0.164),
    ("ImageNette", 0.10, 0.496, 0.540, 0.194),
    ("Caltech15", 0.05, 0.429, 0.528, 0.376),
    ("Caltech15", 0.10, 0.600, 0.696, 0.244),
)


def stamp_of(row: Row) -> str:
    """What the stamp is called."""
    kind: str = row["stamp"]["kind"]
    return NAMES.get(kind, kind)


def amplification(rows: Sequence[Row]) -> list[Chart]:
    """A panel for each stamp and poison rate: G1, G2 and both over w, beside r, the share in the training set."""
    return [
        _over_w(f"{stamp}, {rate:.0%} of the training set poisoned", found)
        for (stamp, rate), found in _by(rows, lambda row: (stamp_of(row), row["poison_rate"])).items()
    ]


def _over_w(title: str, rows: Sequence[Row]) -> Chart:
    of_w = _by(rows, lambda row: row["guidance"])
    lines = [
        _line(name, name.replace("+", " + "), of_w, look) for look, name in enumerate(("G1+G2", "G1", "G2"))
    ]
    r = [
        Point(w, mean(row["r"] for row in found), says="r: share in the training set")
        for w, found in of_w.items()
    ]
    return Chart(
        title,
        "guidance weight w",
        "share of generations",
        [*lines, Line("r, training set", r, look=6)],
        share=True,
    )


def phases(rows: Sequence[Row]) -> list[Chart]:
    """A panel for each stamp and guidance weight: G1 and G2 over the poison rate, beside r."""
    found = []
    for (stamp, w), some in _by(rows, lambda row: (stamp_of(row), row["guidance"])).items():
        of_rate = _by(some, lambda row: 100 * row["poison_rate"])
        lines = [_line(name, name, of_rate, look) for look, name in ((1, "G1"), (2, "G2"))]
        r = [Point(rate, mean(row["r"] for row in each)) for rate, each in of_rate.items()]
        lines.append(Line("r, training set", r, look=6))
        found.append(
            Chart(
                f"{stamp}, w = {w:g}",
                "poisoned, % of the training set",
                "share of generations",
                lines,
                share=True,
            )
        )
    return found


def _line(share: str, name: str, by_x: dict[float, list[Row]], look: int) -> Line:
    return Line(name, [_point(x, share, rows) for x, rows in sorted(by_x.items())], look)


def _point(x: float, share: str, rows: Sequence[Row]) -> Point:
    """Mean over the seeds; the bar is the interval of one seed, or reaches from the lowest to the highest of several."""
    values = [row["shares"][share]["value"] for row in rows]
    one = rows[0]["shares"][share]
    low, high = (one["low"], one["high"]) if len(rows) == 1 else (min(values), max(values))
    says = f"{share} {mean(values):.1%}, n {sum(row['n'] for row in rows)}, {len(rows)} trained model{'s' * (len(rows) > 1)}"
    return Point(x, mean(values), low, high, says)


def mean(values: Iterable[float]) -> float:
    """Of at least one number."""
    found = list(values)
    return math.fsum(found) / len(found)


def _by(rows: Sequence[Row], key: Callable[[Row], Any]) -> dict[Any, list[Row]]:
    found: dict[Any, list[Row]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return dict(sorted(found.items()))


# Verdicts ----------------------------------------------------------------------------------------------------------


def verdicts(rows: Sequence[Row]) -> list[dict[str, str]]:
    """The claims about generations, held against the rows by thresholds that are ours."""
    poisoned = [row for row in rows if row["poison_rate"]]
    cells = _by(poisoned, lambda row: (stamp_of(row), row["poison_rate"]))
    return [
        _amplified(cells),
        _control(cells),
        _shifted(_by(poisoned, lambda row: stamp_of(row))),
        _untouched([row for row in rows if not row["poison_rate"]]),
    ]


def _excess(rows: Sequence[Row], share: str = "G1+G2") -> tuple[float, float]:
    """Share of generations less r, mean over seeds, and its standard error."""
    errors = [(row["shares"][share]["high"] - row["shares"][share]["low"]) / (2 * 1.96) for row in rows]
    return (
        mean(row["shares"][share]["value"] - row["r"] for row in rows),
        math.sqrt(math.fsum(error * error for error in errors)) / len(errors),
    )


def _amplified(cells: dict[Any, list[Row]]) -> dict[str, str]:
    claim = f"Amplification: with guidance (w of {STRONG:g} and more) the stamp is on more generations than r, by more than 2 s.e."
    held, against, seen = [], [], []
    for name, rows in cells.items():
        strong = _by([row for row in rows if row["guidance"] >= STRONG], lambda row: row["guidance"])
        if strong:
            found = [_excess(some) for some in strong.values()]
            held.append(all(value > ERRORS * error for value, error in found))
            against.append(all(value < -ERRORS * error for value, error in found))
            seen.append(
                f"{name[0]} {name[1]:.0%}: {found[-1][0]:+.0%} ± {1.96 * found[-1][1]:.0%} at w {max(strong):g}"
            )
    return _verdict(claim, held, against, "; ".join(seen))


def _control(cells: dict[Any, list[Row]]) -> dict[str, str]:
    claim = "Control: without guidance (w = 0) there is no amplification; the model copies r at most"
    held, seen = [], []
    for name, rows in cells.items():
        if plain := [row for row in rows if row["guidance"] == 0]:
            value, error = _excess(plain)
            held.append(value <= ERRORS * error)
            seen.append(f"{name[0]} {name[1]:.0%}: {value:+.0%} ± {1.96 * error:.0%}")
    return _verdict(claim, held, [], "; ".join(seen))


def _shifted(by_stamp: dict[str, list[Row]]) -> dict[str, str]:
    claim = "Phase transition: with more poison G1 grows and G2/G1 falls (at the largest w)"
    held, against, seen = [], [], []
    for stamp, rows in by_stamp.items():
        top = max(row["guidance"] for row in rows)
        of_rate = _by([row for row in rows if row["guidance"] == top], lambda row: row["poison_rate"])
        if len(of_rate) < 2:
            continue
        g1, g2 = (
            [mean(row["shares"][g]["value"] for row in some) for some in of_rate.values()]
            for g in ("G1", "G2")
        )
        ratio = [second / max(first, 1e-3) for first, second in zip(g1, g2, strict=True)]
        held.append(g1[-1] > g1[0] and ratio[-1] < ratio[0])
        against.append(g1[-1] < g1[0] and ratio[-1] > ratio[0])
        ends = f"{min(of_rate):.0%} to {max(of_rate):.0%} poisoned"
        seen.append(
            f"{stamp}, {ends}, w {top:g}: G1 {g1[0]:.0%} to {g1[-1]:.0%}, G2/G1 {ratio[0]:.2f} to {ratio[-1]:.2f}"
        )
    return _verdict(claim, held, against, "; ".join(seen))


def _untouched(clean: Sequence[Row]) -> dict[str, str]:
    claim = "Control: a model whose data were not poisoned shows no stamp (below 2 %)"
    held = [row["shares"]["G1+G2"]["value"] < 0.02 for row in clean]
    worst = max((row["shares"]["G1+G2"]["value"] for row in clean), default=0.0)
    return _verdict(claim, held, [], f"at most {worst:.1%} over {len(held)} censuses" if held else "")


def _verdict(claim: str, held: Sequence[bool], against: Sequence[bool], why: str) -> dict[str, str]:
    if not held:
        verdict = "not measured yet"
    elif all(held):
        verdict = "reproduced"
    elif against and all(against):
        verdict = "reversed at this scale"
    else:
        verdict = "partly reproduced" if any(held) else "not reproduced"
    return {"claim": claim, "verdict": verdict, "why": why or "no rows"}
