"""Results of operations as text for people; --json has them whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from lab.findings import backdoor
from lab.sides import DETECTORS, SETS


def table(result: Any) -> str:
    """A result as text for people."""
    if isinstance(result, list):
        width = max((len(str(line["name"])) for line in result), default=0)
        return "\n".join(_line(line, width) for line in result) or "nothing yet"
    for keys, form in FORMS:
        if keys <= result.keys():
            return form(result)
    if result.keys() == {"seconds"}:
        return _time(result)
    return json.dumps(_without_pictures(result), indent=2, ensure_ascii=False)


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def cost(plan: dict[str, Any]) -> str:
    """What is missing of a study and what that will take."""
    if not plan["trainings"]:
        return f"{plan['study']}: nothing is missing"
    trainings, measurements = (_counted(plan[what], what) for what in ("trainings", "measurements"))
    return (
        f"{plan['study']}: {trainings} and {measurements}: about "
        f"{plan['training_hours']:.1f} + {plan['measuring_hours']:.1f} hours on this device, one after the other, and "
        f"{plan['bytes'] / 1e9:.1f} GB"
    )


def _counted(number: int, what: str) -> str:
    return f"{number} {what if number != 1 else what.removesuffix('s')}"


def census_cost(plan: dict[str, Any]) -> str:
    """How long a census will take, at one guidance weight and over all."""
    one, all_ = duration(plan["census_seconds"]), duration(plan["amplification_seconds"])
    return f"{plan['n']:,} images: about {one} on this device; over the guidance weights {all_}"


def _without_pictures(result: Any) -> Any:
    """A result without the pictures in it, which no terminal shows; --json has them."""
    if isinstance(result, dict):
        return {name: _without_pictures(value) for name, value in result.items()}
    if isinstance(result, list | tuple):
        return [_without_pictures(value) for value in result]
    return "(a picture)" if isinstance(result, str) and result.startswith("data:image/") else result


def _line(line: dict[str, Any], width: int) -> str:
    done = f"step {line['step']} of {line['total']}" if "step" in line else ""
    words = [line.get("state", ""), done, line.get("title", ""), *_found(line), line.get("help", "")]
    head = "  ".join(filter(None, [str(line["name"]).ljust(width), *words]))
    options = [f"{' ' * width}    {name}: {text}" for name, text in line.get("options", {}).items()]
    return "\n".join([head, *options])


def _census(row: dict[str, Any]) -> str:
    """A census: what it was taken of, the four counts, and the share with the stamp beside that of the training set."""
    counts = "  ".join(f"{name} {count}" for name, count in row["counts"].items())
    seen = row["shares"]["G1+G2"]
    share = f"{seen['value']:.1%} ({seen['low']:.1%} to {seen['high']:.1%})"
    return (
        f"{row['stamp']['kind']} {row['poison_rate']:.0%}, {_origin(row)}: {counts}\n"
        f"      stamp seen in {share}, in training r = {row['r']:.1%}  ({_drawn(row)}n {row['n']})"
    )


def _origin(row: dict[str, Any]) -> str:
    return f"w {row['guidance']:g}" if "guidance" in row else "drawn elsewhere"


def _drawn(row: dict[str, Any]) -> str:
    if "sampler" not in row:
        return ""
    sampler = row["sampler"]
    return f"{sampler['kind']}, {sampler['steps']} steps, clip {row['clip']}, seed {row['seed']}, "


def _claim(each: dict[str, str]) -> str:
    stands_on = f", {each['n']}" if each["n"] else ""
    beside = f"; reported by the authors: {each['reported']}" if each.get("reported") else ""
    return f"{each['verdict']}: {each['claim']} ({each['why']}{stands_on}){beside}"


def _found(line: dict[str, Any]) -> list[str]:
    """What is said of a model on the Hub."""
    downloads = f"{line['downloads']:,} downloads" if line.get("downloads") else ""
    return [*line.get("marks", []), line.get("closed", ""), line.get("licence", ""), downloads]


def _row(row: dict[str, Any]) -> str:
    how = f"{row['scheduler']}, {row['sampler']['steps']} steps, clip {row['clip']}, seed {row['seed']}, n {row['n']}"
    scores = "  ".join(f"{s['name']} {s['value']:.4f}{s['unit']}" for s in row["scores"])
    return f"{row['condition']:>9}: {scores}\n{'':>11}{how}"


def _compared(row: dict[str, Any]) -> str:
    """A row of a report, each score with its interval."""
    scores = "\n".join(f"      {_score(score)}" for score in row["scores"])
    how = f"{row['scheduler']}, {row['sampler']['steps']} steps, clip {row['clip']}, seed {row['seed']}, n {row['n']}"
    return f"{row['checkpoint']}, {row['condition']}  ({how})\n{scores}"


def _score(score: dict[str, Any]) -> str:
    ends = "" if score["low"] is None else f"  ({score['low']:.4g} to {score['high']:.4g})"
    judge = f"  {score['extractor']}" if score["extractor"] else ""
    return f"{score['name']:<18} {score['value']:.4g}{score['unit']}{ends}{judge}"


def _study(found: dict[str, Any]) -> str:
    """How far a study is: a line for each of its trainings, or what its rows say."""
    head = f"{found['study']}: {found['measured']} of {found['asked']} measurements"
    if "rows" in found:
        said = (*_means(found["means"]), *map(_claim, found["verdicts"]), *map(_check, found["checks"]))
        return "\n".join([head, *said])
    cells = [f"  {cell['state']:<8} {cell['run'] or '–':<12} {cell['cell']}" for cell in found["cells"]]
    return "\n".join([head, *cells])


def _means(means: list[dict[str, Any]]) -> list[str]:
    """A line for each model and clip."""
    lines: dict[str, list[str]] = {}
    for each in means:
        name = f"{_attacked(each)}, {each['train_steps']:,} steps, clip {each['clip']}"
        seeds = (
            f" ({each['low']:.3g} to {each['high']:.3g}, {each['seeds']} seeds)" if each["seeds"] > 1 else ""
        )
        lines.setdefault(name, []).append(f"{each['metric']} {each['value']:.3g}{seeds}")
    return [f"  {name}: {'  '.join(numbers)}" for name, numbers in lines.items()]


def _attacked(row: dict[str, Any]) -> str:
    return f"{backdoor(row)}, {row['poison_rate']:.0%}"


def _check(pair: dict[str, Any]) -> str:
    """A number that was measured with two numbers of steps."""
    ours, theirs = pair["ours"], pair["theirs"]
    numbers = " and ".join(f"{row['value']:.3g} with {row['steps']:,} steps" for row in (ours, theirs))
    meet = "intervals meet" if pair["agree"] else "intervals lie apart"
    return f"{_attacked(ours)}, seed {ours['seed']}, clip {ours['clip']}: {ours['metric']} {numbers}, {meet}"


def _side(name: str, run: dict[str, Any]) -> str:
    last = "  ".join(f"{what} {points[-1][1]:.4f}" for what, points in run["curves"].items() if points)
    return f"{name}: {run['title']} ({run['run']}), {run['condition']}, step {run['step']} of {run['total']}  {last}"


def _difference(line: dict[str, str]) -> str:
    return f"   {line['what']}: {line['a']} | {line['b']}"


def _curve(curve: dict[str, Any]) -> str:
    points = ", ".join(
        f"{amount:g}: {seconds:.3g} s"
        for amount, seconds in zip(curve["amounts"], curve["seconds"], strict=True)
    )
    return f"{curve['name']:<12} grows with exponent {curve['exponent']:.2f}  ({points})"


def _layer(layer: dict[str, Any]) -> str:
    limit = f"{layer['peak_share']:4.0%} of the peak at {layer['per_byte']:.0f} operations a byte"
    return f"{layer['time_share']:6.1%}  {layer['name']:<58} {layer['count']:>3}  {limit if layer['operations'] else ''}"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _timing(timing: dict[str, Any]) -> str:
    share = timing["peak_share"]
    limit = "" if share is None else f", {share:.0%} of the matmul peak"
    rates = f"{timing['ours']:.4g} and {timing['rivals']:.4g} {timing['unit']}/s{limit}"
    notes = "".join(f"\n      {name}: {_short(value)}" for name, value in timing["notes"].items())
    ratio = f"{timing['ratio']:.2f}× ({timing['low']:.2f} to {timing['high']:.2f})"
    return (
        f"{timing['name']}: {ratio} {timing['rival']}\n      {rates}, medians of {timing['repeats']}{notes}"
    )


# Whole results -----------------------------------------------------------------------------------------------------


def _censuses(result: dict[str, Any]) -> str:
    lines = [*map(_census, result["census"]), *map(_claim, result.get("verdicts", []))]
    return "\n".join(lines) or "nothing yet"


def _report(result: dict[str, Any]) -> str:
    return "\n".join([*map(_compared, result["rows"]), *result["skipped"], result["caution"]]).rstrip()


def _evaluated(result: dict[str, Any]) -> str:
    head = f"{result['checkpoint']}  target {result['target']['kind']}"
    return "\n".join([head, *map(_row, result["rows"])])


def _bench(result: dict[str, Any]) -> str:
    machine = ", ".join(f"{name} {value}" for name, value in result["machine"].items())
    rest = [*map(_curve, result["costs"]), *map(_layer, result["layers"])]
    return "\n".join([machine, *map(_timing, result["timings"]), *rest])


def _two_runs(result: dict[str, Any]) -> str:
    sides = [_side(name, result[name]) for name in ("a", "b")]
    return "\n".join([*sides, *map(_difference, result["differences"])])


def _sampled(result: dict[str, Any]) -> str:
    where = f"pictures in {result['out']}" if result.get("out") else ""
    return "\n".join(filter(None, [_row(result), where]))


def _planned(plan: dict[str, Any]) -> str:
    """What a training will see and take; its command line."""
    tampers = " and ".join(plan["tampers"].values()) or "nothing: honest training"
    return "\n".join(
        [
            f"about {duration(plan['seconds'])} on this {plan['device']}, {plan['bytes'] / 1e6:.0f} MB",
            f"{plan['steps']:,} steps, {plan['epochs']:.3g} passes over {plan['images']:,} images, {plan['poisoned']:,} of them poisoned",
            f"tampers with {tampers}",
            *plan["doubts"],
            plan["command"],
        ]
    )


def _time(result: dict[str, Any]) -> str:
    return f"about {duration(result['seconds'])} on this device"


def _revealed(result: dict[str, Any]) -> str:
    lines = [
        f"{each['means']} ({each['added']}): PSNR {_between(each, each['psnr'])} dB"
        + ("" if each["success"] is None else f", {each['success']:.0%} are the secret")
        + f", n {each['n']}"
        for each in result["found"]
    ]
    return "\n".join([result["checkpoint"], *lines])


def _detection(result: dict[str, Any]) -> str:
    """AUROC of each detector on each set, and what drawn pictures gain."""
    lines = [
        f"{DETECTORS[row['detector']['kind']]}, {SETS[where]}: AUROC {_interval(row['auroc'])}, {row['poisoned']} of them poisoned"
        for where in SETS
        for row in result[where]
    ]
    gains = [
        f"{DETECTORS[each['detector']]}, gain: {_between(each, each['gain'])}" for each in result["gains"]
    ]
    return "\n".join([_model(result), *lines, *gains])


def _classifiers(result: dict[str, Any]) -> str:
    """What was trained on which pictures, and how the stamp turns it."""
    lines = [
        f"trained on {row['set_name']}, {row['n']:,} pictures, {row['poisoned'] / row['n']:.1%} with the trigger: {_turned(row)}"
        for row in result["rows"]
    ]
    return "\n".join([_model(result), *lines])


def _votes(result: dict[str, Any]) -> str:
    return "\n".join(
        [result["model"], *(f"p_filter {each['p_filter']:.0%}: {_turned(each)}" for each in result["votes"])]
    )


def _replication(result: dict[str, Any]) -> str:
    """Likeness to the nearest training picture, and the share that is more like it than twins are."""
    return "\n".join(
        f"{row['set_name']}, w {result['guidance']:g}: likeness {_interval(row['likeness'])} by {row['describer']}; "
        f"copies {_share(row['copies'])}; nearest is poisoned {_share(row['nearest_poisoned'])}"
        for row in result["rows"]
    )


def _model(result: dict[str, Any]) -> str:
    return f"{result['checkpoint']}, drawn with w {result['guidance']:g}"


def _turned(row: dict[str, Any]) -> str:
    return f"test accuracy {_share(row['test_accuracy'])}; attack success {_share(row['attack_success'])}"


def _share(score: dict[str, Any] | None) -> str:
    if score is None:
        return "not measured"
    return f"{score['value']:.1%} ({score['low']:.1%} to {score['high']:.1%}), n {score['n']:,}"


def _interval(score: dict[str, Any]) -> str:
    return f"{_between(score, score['value'])}, n {score['n']:,}"


def _between(ends: dict[str, Any], value: float) -> str:
    return f"{value:.3g}" if ends["low"] is None else f"{value:.3g} ({ends['low']:.3g} to {ends['high']:.3g})"


# the first whose keys a result has says how it reads
FORMS: tuple[tuple[set[str], Callable[[dict[str, Any]], str]], ...] = (
    ({"census"}, _censuses),
    ({"planned"}, _report),
    ({"cells"}, _study),
    ({"training_hours"}, cost),
    ({"census_seconds"}, census_cost),
    ({"gains"}, _detection),
    ({"votes"}, _votes),
    ({"rows", "guidance", "pictures"}, _replication),
    ({"rows", "guidance"}, _classifiers),
    ({"rows", "target"}, _evaluated),
    ({"timings"}, _bench),
    ({"differences"}, _two_runs),
    ({"scores"}, _sampled),
    ({"found", "secret"}, _revealed),
    ({"tampers"}, _planned),
)
