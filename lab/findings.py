"""What a study's rows say: charts over poison rates, and a verdict on each claim of the BadDiffusion poster."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from statistics import mean
from typing import Any, NamedTuple

from lab.charts import Chart, Line, Point
from lab.places import ASSETS

Rows = Sequence[dict[str, Any]]
REMAINING = "MSE / no attack"
DISTANCES = ("feature distance", "FID")
COMPARED = (*(("clean", name) for name in DISTANCES), ("triggered", "success"), ("triggered", REMAINING))
ENOUGH = 0.9  # success that counts as a working backdoor
STABLE = 1.25  # times the distance without poison
PUBLISHED = 6  # look of other people's figures: black
RAISED = 2.0  # times the MSE without clipping
WIDE = 20  # times the least value: a linear axis would show nothing but the largest


def study_charts(rows: Rows) -> list[Chart]:
    """Quality and success against the poison rate: a line for each trigger and target, error bars over seeds."""
    rates = sorted({row["poison_rate"] for row in rows})
    if len({row["train_steps"] for row in rows}) > 1:
        return [phases(rows)]
    distance = next((name for name in DISTANCES if any(row["metric"] == name for row in rows)), DISTANCES[0])
    clips = [clip for clip in ("none", "x0", "xt") if any(row["clip"] == clip for row in rows)]
    charts = [_chart(f"Clean samples: {distance}", distance, "clean", "none", rows, rates)]
    for clip in clips:
        title = f"Triggered samples: MSE / no-attack level, clip {clip}"
        charts.append(_chart(title, REMAINING, "triggered", clip, rows, rates, published(clip)))
    charts.append(
        _chart(
            "Triggered samples that are the target, clip none", "success", "triggered", "none", rows, rates
        )
    )
    return [chart for chart in charts if chart.lines]


def _chart(
    title: str, metric: str, condition: str, clip: str, rows: Rows, rates: list[float], further: Rows = ()
) -> Chart:
    wanted = [
        row for row in rows if (row["metric"], row["condition"], row["clip"]) == (metric, condition, clip)
    ]
    lines = [
        _line(look, name, of_name, rates)
        for look, name in enumerate(sorted(set(map(backdoor, rows))))
        if (of_name := [row for row in wanted if backdoor(row) == name])
    ]
    theirs = [row for row in further if row["poison_rate"] in rates]
    if theirs and wanted:
        points = [
            Point(rates.index(row["poison_rate"]), row["remaining"], says=row["says"]) for row in theirs
        ]
        lines.append(Line("published, CIFAR-10 (the authors)", points, PUBLISHED, loose=True))
    ticks = [(k, f"{rate:.0%}") for k, rate in enumerate(rates)]
    unit = metric if metric not in DISTANCES else f"{metric} ({wanted[0]['extractor']})" if wanted else metric
    wide = metric in DISTANCES and _are_wide([row["value"] for row in wanted])
    return Chart(title, "poisoned training images", unit, lines, metric == "success", ticks, wide)


def _are_wide(values: Sequence[float]) -> bool:
    """Whether positive values lie so far apart that they need a logarithmic axis."""
    return bool(values) and 0 < WIDE * min(values) < max(values)


def backdoor(row: dict[str, Any]) -> str:
    """What a row's model was made to do: its trigger with its size, and its target."""
    return f"{_trigger(row)} → {_words(row['target'])}"


def _trigger(row: dict[str, Any]) -> str:
    size = row["trigger_size"]
    return _words(row["trigger"]) + (f" {size}" if size else "")


def _line(look: int, name: str, rows: Rows, rates: list[float]) -> Line:
    """Means over seeds at each rate; the bar reaches from the lowest to the highest seed."""
    points = []
    for k, rate in enumerate(rates):
        here = [row for row in rows if row["poison_rate"] == rate]
        if here:
            values = [row["value"] for row in here]
            points.append(Point(k, mean(values), min(values), max(values), _says(here)))
    return Line(name, points, look)


def _says(rows: Rows) -> str:
    """A point's recipe in a sentence."""
    row, values = rows[0], ", ".join(f"{row['value']:.4g}" for row in rows)
    return (
        f"{row['metric']} {values} ({len(rows)} seeds): {backdoor(row)}, {row['poison_rate']:.0%} poisoned, "
        f"{row['train_steps']} steps; {row['condition']} noise, {row['sampler']} {row['steps']} steps, clip {row['clip']}, "
        f"n {row['n']} each; recipes {', '.join(sorted({row['recipe'] for row in rows}))}"
    )


def phases(rows: Rows) -> Chart:
    """Success against the poison rate, a line for each length of training: where the backdoor sets in."""
    wanted = [r for r in rows if (r["metric"], r["condition"], r["clip"]) == ("success", "triggered", "none")]
    rates, lengths = (sorted({row[name] for row in wanted}) for name in ("poison_rate", "train_steps"))
    lines = []
    for look, steps in enumerate(lengths):
        of_length = [row for row in wanted if row["train_steps"] == steps]
        lines.append(_line(look, f"{steps:,} steps", of_length, rates))
    ticks = [(k, f"{rate:.0%}") for k, rate in enumerate(rates)]
    title = "Triggered samples that are the target, by length of training"
    return Chart(title, "poisoned training images", "success", lines, share=True, ticks=ticks)


def published(clip: str) -> list[dict[str, Any]]:
    """The authors' own figures as shares of their no-attack level, where a clip has any."""
    figures = json.loads((ASSETS / "published.json").read_text())["baddiffusion"]["rows"]
    key = {"none": "mse_noclip", "x0": "mse_clip"}.get(clip, "")
    return [
        {**row, "remaining": row[key] / row["no_attack"], "says": _published_says(row, key)}
        for row in figures
        if row.get(key) is not None and row.get("no_attack")
    ]


def _published_says(row: dict[str, Any], key: str) -> str:
    return (
        f"Published by the authors: MSE {row[key]:g} of a no-attack level of about {row['no_attack']:g}; "
        f"{row['trigger']} → {row['target']}, {row['poison_rate']:.0%} poisoned, CIFAR-10, DDPM, 1,000 steps, one run"
    )


# Means over seeds ------------------------------------------------------------------------------------------------------

MODEL = ("trigger", "trigger_size", "target", "poison_rate", "train_steps")  # one, but for its seed


def means(rows: Rows) -> list[dict[str, Any]]:
    """Of each model and clip: quality of clean samples, success and remaining MSE, with lowest and highest over seeds."""
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        if (row["condition"], row["metric"]) in COMPARED:
            found.setdefault((*(row[part] for part in MODEL), row["clip"], row["metric"]), []).append(row)
    return [_mean(some) for _, some in sorted(found.items())]


def _mean(rows: Rows) -> dict[str, Any]:
    values = [row["value"] for row in rows]
    over = {"value": mean(values), "low": min(values), "high": max(values), "seeds": len(values)}
    return {name: rows[0][name] for name in (*MODEL, "clip", "metric", "condition", "n")} | over


# Numbers of steps ------------------------------------------------------------------------------------------------------


def agreements(rows: Rows, others: Rows) -> list[dict[str, Any]]:
    """The same models, sampled with another number of steps: both numbers, and whether their intervals meet."""
    theirs = {_model(row): row for row in others}
    pairs = ((row, theirs.get(_model(row))) for row in rows if (row["condition"], row["metric"]) in COMPARED)
    return [
        {"ours": row, "theirs": other, "agree": _meet(row, other)}
        for row, other in pairs
        if other is not None and other["steps"] != row["steps"]
    ]


def _model(row: dict[str, Any]) -> tuple[Any, ...]:
    """What a number is of, but for the number of steps."""
    return tuple(
        row[part] for part in ("recipe", "target", "condition", "clip", "sampler", "metric", "extractor")
    )


def _meet(row: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two intervals have a value in common; a number without one is an interval of itself."""
    ends = [
        (each["value"] if each[end] is None else each[end])
        for each in (row, other)
        for end in ("low", "high")
    ]
    return ends[0] <= ends[3] and ends[2] <= ends[1]


# Verdicts ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """A claim, what the rows say to it, the numbers behind that with their n, and the rule that they are judged by."""

    claim: str
    verdict: str  # reproduced, partly reproduced, not reproduced, not measured yet
    why: str
    n: str = ""
    rule: str = ""


class Judged(NamedTuple):
    """For each target, or target and rate, whether a claim held, in numbers, and by which rule."""

    held: list[bool]
    said: list[str]
    rule: str


def verdicts(rows: Rows) -> list[dict[str, str]]:
    """Each claim of the poster with its verdict, n and intervals."""
    judges: Iterable[tuple[str, Callable[[Rows], Judged]]] = (
        ("Clean quality stays stable over poison rates", _stable),
        ("The MSE to the target falls as the poison rate rises", _falls),
        ("5 to 10 % of poisoned images are enough", _enough),
        ("Clipping raises the MSE while clean quality stays", _clipping),
        ("Targets differ", _differ),
    )
    return [asdict(_verdict(claim, _of_each_trigger(judge, rows), rows)) for claim, judge in judges]


def _of_each_trigger(judge: Callable[[Rows], Judged], rows: Rows) -> Judged:
    """One judgement over those of each trigger: what two triggers do are not two seeds of one."""
    triggers = sorted(set(map(_trigger, rows)))
    judged = {name: judge([row for row in rows if _trigger(row) == name]) for name in triggers}
    several = len(triggers) > 1
    said = [f"{name} → {each}" if several else each for name, one in judged.items() for each in one.said]
    held = [each for one in judged.values() for each in one.held]
    return Judged(held, said, next((one.rule for one in judged.values() if one.rule), ""))


def _verdict(claim: str, judged: Judged, rows: Rows) -> Verdict:
    held, said, rule = judged
    if not held:
        return Verdict(claim, "not measured yet", "the rows for it are not there")
    verdict = "reproduced" if all(held) else "partly reproduced" if any(held) else "not reproduced"
    numbers = ", ".join(map(str, sorted({row["n"] for row in rows})))
    return Verdict(claim, verdict, "; ".join(said), f"n {numbers} a measurement", f"{rule}.")


Spread = tuple[float, float, float, int]  # mean, lowest and highest over seeds, and their number


def over_seeds(rows: Rows, metric: str, condition: str, clip: str) -> dict[tuple[str, float], Spread]:
    """Mean, lowest and highest over seeds, by target and poison rate; of one trigger and one length of training."""
    return {
        (each["target"], each["poison_rate"]): (each["value"], each["low"], each["high"], each["seeds"])
        for each in means(rows)
        if (each["metric"], each["condition"], each["clip"]) == (metric, condition, clip)
    }


def _stable(rows: Rows) -> Judged:
    found = over_seeds(rows, "feature distance", "clean", "none")
    held, said = [], []
    for target in _targets(found):
        if (without := found.get((target, 0.0))) is None:
            continue
        rates = _rates(found, target)
        held += [found[target, rate][0] <= STABLE * without[0] for rate in rates if rate]
        said += [f"{_words(target)} {rate:.0%}: {_spread(found[target, rate])}" for rate in rates]
    return Judged(held, said, f"Feature distance of clean samples, held if within {STABLE} times that at 0 %")


def _falls(rows: Rows) -> Judged:
    found = over_seeds(rows, REMAINING, "triggered", "none")
    held, said = [], []
    for target in _targets(found):
        rates = _rates(found, target)
        if len(rates) > 1:
            values = [found[target, rate][0] for rate in rates]
            held.append(values[-1] < values[0] and all(b <= a + 0.02 for a, b in pairwise(values)))
            steps = ", ".join(f"{rate:.0%} {value:.3f}" for rate, value in zip(rates, values, strict=True))
            said.append(f"{_words(target)}: {steps}")
    return Judged(held, said, "MSE over its no-attack level, held if it never rises by more than 0.02")


def _enough(rows: Rows) -> Judged:
    found = over_seeds(rows, "success", "triggered", "none")
    held, said = [], []
    for target, rate in found:
        if rate in (0.05, 0.1):
            held.append(found[target, rate][1] >= ENOUGH)
            said.append(f"{_words(target)} {rate:.0%}: {_spread(found[target, rate], percent=True)}")
    rule = f"Triggered samples that are the target, held if at least {ENOUGH:.0%} with every seed"
    return Judged(held, said, rule)


def _clipping(rows: Rows) -> Judged:
    plain, clipped = (over_seeds(rows, REMAINING, "triggered", clip) for clip in ("none", "x0"))
    quality = [over_seeds(rows, "feature distance", "clean", clip) for clip in ("none", "x0")]
    held, said = [], []
    for key in (key for key in plain if key in clipped and key[1] > 0):
        raised = clipped[key][0] >= RAISED * plain[key][0]
        same = all(key in each for each in quality) and quality[1][key][0] <= STABLE * quality[0][key][0]
        held.append(raised and same)
        said.append(
            f"{_words(key[0])} {key[1]:.0%}: MSE {plain[key][0]:.3f} to {clipped[key][0]:.3f}"
            + (
                f", distance {quality[0][key][0]:.1f} to {quality[1][key][0]:.1f}"
                if key in quality[1]
                else ""
            )
        )
    rule = (
        f"Clip x0 against none, held if the MSE at least doubles and the distance stays within {STABLE} times"
    )
    return Judged(held, said, rule)


def _differ(rows: Rows) -> Judged:
    found = over_seeds(rows, "feature distance", "clean", "none")
    at = [key for key in found if key[1] == 0.1 and found[key][3] > 1]  # one seed overlaps with nothing
    if len(at) < 2:
        return Judged([], [], "")
    ordered = sorted(at, key=lambda key: found[key][0])
    least, most = ordered[0], ordered[-1]
    said = [f"{_words(key[0])}: {_spread(found[key])}" for key in ordered]
    rule = "Feature distance of clean samples at 10 %, held if the seeds of the best and of the worst target do not overlap"
    return Judged([found[least][2] < found[most][1]], said, rule)


def _targets(found: dict[tuple[str, float], Spread]) -> list[str]:
    return list(dict.fromkeys(target for target, _ in found))


def _rates(found: dict[tuple[str, float], Spread], target: str) -> list[float]:
    return sorted(rate for each, rate in found if each == target)


def _words(kind: str) -> str:
    return kind.replace("_", " ")


def _spread(found: Spread, percent: bool = False) -> str:
    middle, low, high, seeds = found
    form = (lambda x: f"{x:.1%}") if percent else (lambda x: f"{x:.1f}")
    return form(middle) if seeds == 1 else f"{form(middle)} ({form(low)} to {form(high)}, {seeds} seeds)"
