"""Both sides of poisoned data as charts, from the plain rows of a study, and what the authors report."""

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
# in charts; a horse is orange and a wall blue, as in the bars of a census
LOOKS = {"G1+G2": 3, "G1": 1, "G2": 0}
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


def at_random(rows: Iterable[Row]) -> list[Row]:
    """Those of models with poison on images that were drawn by lot."""
    return [row for row in rows if row["poison_rate"] and row["which"] == "random"]


def amplification(rows: Sequence[Row]) -> list[Chart]:
    """A panel for each stamp and poison rate: G1, G2 and both over w, beside r, the share in the training set."""
    return [
        _over_w(f"{stamp}, {rate:.0%} of the training set poisoned", found)
        for (stamp, rate), found in by(rows, lambda row: (stamp_of(row), row["poison_rate"])).items()
    ]


def _over_w(title: str, rows: Sequence[Row]) -> Chart:
    of_w = by(rows, lambda row: row["guidance"])
    lines = [_line(name, name.replace("+", " + "), of_w, look) for name, look in LOOKS.items()]
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
    for (stamp, w), some in by(rows, lambda row: (stamp_of(row), row["guidance"])).items():
        of_rate = by(some, lambda row: 100 * row["poison_rate"])
        lines = [_line(name, name, of_rate, LOOKS[name]) for name in ("G1", "G2")]
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


def headlines(censuses: Sequence[Row], walls: Sequence[Row]) -> list[dict[str, Any]]:
    """Both sides of each stamp, at its largest poison rate and guidance weight, as means over the seeds.

    Shares G1 and G2; and, where they are known, the attack success of classifiers that learned from training images and
    from drawn ones.
    """
    return [_headline(some, walls) for some in by(at_random(censuses), stamp_of).values()]


def _headline(censuses: Sequence[Row], walls: Sequence[Row]) -> dict[str, Any]:
    rate, w = max((row["poison_rate"], row["guidance"]) for row in censuses)
    rows = [row for row in censuses if (row["poison_rate"], row["guidance"]) == (rate, w)]
    cell = stamp_of(rows[0]), rate
    learned = [
        numbers(row)
        for row in walls
        if row["part"] == "classify" and (stamp_of(row), row["poison_rate"]) == cell
    ]
    return {
        "stamp": cell[0],
        "poison_rate": rate,
        "guidance": w,
        **{group: mean(row["shares"][group]["value"] for row in rows) for group in ("G1", "G2")},
        "n": rows[0]["n"],
        "seeds": len(rows),
        "learned": [
            mean(table[f"{side}: attack success"]["value"] for table in learned if table)
            for side in (TRAINED, DRAWN)
            if any(learned)
        ],
    }


# The wall -----------------------------------------------------------------------------------------------------------

DETECTORS = {"cognitive_distillation": "Cognitive Distillation", "strip": "STRIP", "fct": "FCT"}
SETS = {"training": "training set", "generated": "drawn by the model"}
TRAINED, DRAWN = "trained on the training set", "trained on drawn pictures"


def numbers(row: Row) -> dict[str, dict[str, Any]]:
    """The scores of a part's row under names that a chart and a claim use; none where the part was refused."""
    return NUMBERS[row["part"]](row)


def _detected(row: Row) -> dict[str, dict[str, Any]]:
    return {
        f"{DETECTORS.get(each['detector']['kind'], each['detector']['kind'])}, {SETS[where]}": each["auroc"]
        for where in SETS
        for each in row.get(where, [])
    }


def _classified(row: Row) -> dict[str, dict[str, Any]]:
    """Of the drawn set, and of as many pictures of the training set, which is the whole where no part was needed."""
    found = row.get("rows", [])
    if len(found) < 2:
        return {}
    sides = {TRAINED: found[-2], DRAWN: found[-1]}
    return {
        f"{name}: {key.replace('_', ' ')}": each[key]
        for name, each in sides.items()
        for key in ("attack_success", "test_accuracy")
    }


def _voted(row: Row) -> dict[str, dict[str, Any]]:
    return {
        f"p_filter {each['p_filter']:.0%}: {key.replace('_', ' ')}": each[key]
        for each in row.get("votes", [])
        for key in ("attack_success", "test_accuracy")
    }


def _replicated(row: Row) -> dict[str, dict[str, Any]]:
    first = next(iter(row.get("rows", [])), {})
    return {name: first[name] for name in ("likeness", "copies", "distance") if first.get(name)}


NUMBERS: dict[str, Callable[[Row], dict[str, dict[str, Any]]]] = {
    "detect": _detected,
    "classify": _classified,
    "diffusion-classifier": _voted,
    "replicate": _replicated,
}
PANELS = (
    ("detect", "AUROC", ""),
    ("classify", "attack success of a classifier", "attack success"),
    ("classify", "test accuracy of a classifier", "test accuracy"),
    ("diffusion-classifier", "attack success of the model as a classifier", "attack success"),
    ("replicate", "pictures that are copies", "copies"),
)


def wall_charts(rows: Sequence[Row]) -> list[Chart]:
    """A panel for each stamp and part: its scores over the poison rate, mean of the seeds."""
    stamps = by(rows, stamp_of)
    panels = ((stamp, panel) for stamp in stamps for panel in PANELS)
    charts = [_over_rates(stamp, panel, stamps[stamp]) for stamp, panel in panels]
    return [chart for chart in charts if chart.lines]


def _over_rates(stamp: str, panel: tuple[str, str, str], rows: Sequence[Row]) -> Chart:
    part, title, kept = panel
    found: dict[str, dict[float, list[Row]]] = {}
    for row in (row for row in rows if row["part"] == part):
        for name, score in numbers(row).items():
            if kept in name:
                line = found.setdefault(name.removesuffix(f": {kept}"), {})
                line.setdefault(100 * row["poison_rate"], []).append(
                    {"shares": {kept: score}, "n": score["n"]}
                )
    lines = [_line(kept, name, by_rate, look) for look, (name, by_rate) in enumerate(found.items())]
    return Chart(f"{stamp}: {title}", "poisoned, % of the training set", kept or title, lines, share=True)


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


def by(rows: Sequence[Row], key: Callable[[Row], Any]) -> dict[Any, list[Row]]:
    """Rows in groups, in the order of their keys."""
    found: dict[Any, list[Row]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return dict(sorted(found.items()))
