"""HTML of a study: how far it is, its charts, the verdicts on the poster's claims, and what the authors published."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from lab import printing
from lab.charts import lines, shown
from lab.claims import OURS
from lab.findings import backdoor, study_charts
from lab.models import read_card
from lab.places import ASSETS, CHECKPOINTS
from lab.sampling import SAMPLERS
from lab.ui import words

SECRETS = ("mnist-grey-box-hat-masked", "emoji-grey-box-hat")  # with a key as `hide` makes it
MARKS = {
    "reproduced": "✓",
    "partly reproduced": "◐",
    "not reproduced": "✗",
    "reversed at this scale": "⇄",
    "not measured yet": "…",
}
MARKS |= {ours: MARKS[theirs] for theirs, ours in OURS.items()}


def study(found: dict[str, Any]) -> str:
    """Progress, charts and verdicts."""
    rows = found["rows"]
    drawn = (
        f'<div class="scroll">{shown(lines, study_charts(rows), "Charts of the study")}</div>' if rows else ""
    )
    judged = _verdicts(found["verdicts"], len({row["seed"] for row in rows}))
    return f"{progress(found)}{drawn}{judged}{_checked(found['checks'])}{matrix(found['pictures'])}"


def progress(found: dict[str, Any]) -> str:
    """How many measurements there are, and what the trainings do."""
    states = ", ".join(f"{count} {state}" for state, count in found["states"].items())
    share = found["measured"] / max(1, found["asked"])
    return (
        f'<p class="soft"><b>{found["measured"]} of {found["asked"]} measurements</b>. Trainings: {escape(states)}. '
        "What was not run is not shown.</p>"
        f'<progress max="1" value="{share:.4f}" aria-label="measured so far"></progress>'
    )


def _verdicts(verdicts: list[dict[str, str]], seeds: int) -> str:
    if not verdicts:
        return ""
    few = (
        words.sentence(f"From {seeds} {'seed' if seeds == 1 else 'seeds'} so far: a verdict may change.")
        if seeds < SEEDS
        else ""
    )
    shown = "".join(map(claim, verdicts))
    return f"<h3>What the poster claims, and what these models say</h3>{few}{shown}"


def claim(each: dict[str, str], beside: str = "") -> str:
    """A claim with its verdict, the rule and the numbers behind it, and what is to be said beside them."""
    numbers = "".join(f"<li>{escape(line)}</li>" for line in each["why"].split("; "))
    notes = " ".join(filter(None, (each["rule"], f"{each['n']}." if each["n"] else "", beside)))
    return (
        f'<section class="claim"><h4><span>{MARKS[each["verdict"]]} {escape(each["verdict"])}</span>{escape(each["claim"])}</h4>'
        f'<ul>{numbers}</ul><p class="soft">{escape(notes)}</p></section>'
    )


def _checked(pairs: list[dict[str, Any]]) -> str:
    """The same models sampled with another number of steps."""
    if not pairs:
        return ""
    ours, theirs = pairs[0]["ours"], pairs[0]["theirs"]
    body = "".join(
        f'<tr><th scope="row">{escape(_what(each["ours"]))}</th><td>{_interval(each["ours"])}</td>'
        f"<td>{_interval(each['theirs'])}</td><td>{'✓ they meet' if each['agree'] else '✗ apart'}</td></tr>"
        for each in pairs
    )
    head = (
        f"<th></th><th>{ours['steps']:,} steps</th><th>{theirs['steps']:,} steps</th><th>95 % intervals</th>"
    )
    return (
        f"<h3>The same models, sampled with {ours['steps']:,} and with {theirs['steps']:,} steps</h3>"
        f'<p class="soft">{escape(ours["sampler"].upper())}, n = {ours["n"]:,} and {theirs["n"]:,}.</p>'
        f'<div class="scroll"><table class="scores claims"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _what(row: dict[str, Any]) -> str:
    return f"{backdoor(row)}, {row['poison_rate']:.0%}, seed {row['seed']}: {row['metric']}, {row['condition']} noise, clip {row['clip']}"


def _interval(row: dict[str, Any]) -> str:
    ends = "" if row["low"] is None else f" ({row['low']:.3g} to {row['high']:.3g})"
    return f"{row['value']:.3g}{ends}"


SEEDS = 3  # below which a verdict is a first look
SHOWN = (0.05, 0.1, 0.2)  # poison rates of the poster's pictures


def matrix(pictures: list[dict[str, Any]]) -> str:
    """Samples by poison rate and target, as on the poster: from triggered noise, and from clean noise."""
    rates = {each["poison_rate"] for each in pictures}
    chosen = [each for each in pictures if each["poison_rate"] in SHOWN] if rates > set(SHOWN) else pictures
    if not chosen:
        return ""
    columns = list(dict.fromkeys(map(backdoor, chosen)))
    lines: dict[str, dict[str, dict[str, str]]] = {}
    for each in sorted(chosen, key=lambda each: (each["poison_rate"], each["train_steps"])):
        line = lines.setdefault(f"{each['poison_rate']:.0%}, {each['train_steps']:,} steps", {})
        line[backdoor(each)] = each["pictures"]
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(_images(line.get(column, {}), f"{column}, {name}") for column in columns)}</tr>'
        for name, line in lines.items()
    )
    return (
        "<h3>What the models draw</h3>"
        f'<p class="soft">Above from triggered noise, below from clean noise; first seed, clip {chosen[0]["clip"]}.</p>'
        f'<div class="scroll"><table class="scores matrix"><thead><tr><th>poisoned</th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _images(pictures: dict[str, str], name: str) -> str:
    images = "".join(
        f'<img src="{source}" alt="{escape(condition)} noise: {escape(name)}">'
        for condition, source in pictures.items()
    )
    return f"<td>{images}</td>"


def cost(plan: dict[str, Any]) -> str:
    """What is missing of a study and what that will take, before it starts."""
    hint = " It can be stopped and taken up again." if plan["trainings"] else ""
    return words.sentence(f"{printing.cost(plan)}.{hint}")


def begun(counts: dict[str, Any]) -> str:
    """What became of the trainings of a study that was asked to run: each state with its number."""
    said = ", ".join(f"{count} {what}" for what, count in counts.items() if what != "study")
    if counts.keys() <= {"study", "stored", "done"}:
        return words.sentence(f"{counts['study']}: nothing is missing ({said}).")
    return words.sentence(f"{counts['study']}, in the background: {said}. Close the page, and it goes on.")


def published() -> str:
    """The authors' figures with their conditions: beside ours, never on their axis."""
    data = json.loads((ASSETS / "published.json").read_text())["baddiffusion"]
    head = "<th>poisoned</th><th>trigger → target</th><th>FID, clip</th><th>FID, no clip</th><th>MSE, clip</th><th>MSE, no clip</th>"
    body = "".join(
        f'<tr><th scope="row">{row["poison_rate"]:.0%}</th><td>{escape(row["trigger"])} → {escape(row["target"])}</td>'
        + "".join(f"<td>{row[name]:g}</td>" for name in ("fid_clip", "fid_noclip", "mse_clip", "mse_noclip"))
        + "</tr>"
        for row in data["rows"]
    )
    return (
        f'<p class="soft">{escape(data["source"])}. {escape(data["conditions"])}. '
        "FID is Inception's; our feature distance is another number and cannot be compared with it.</p>"
        f'<div class="scroll"><table class="scores"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def literature() -> str:
    """What BadDiffusion is quoted for elsewhere, with the command lines that would measure it here, and what was measured here."""
    data = json.loads((ASSETS / "published.json").read_text())["literature"]
    quoted = (
        (row["task"], row["data"], f"{row['measure']} {row['quoted']:g}", "not run", row["commands"])
        for row in data["rows"]
    )
    body = "".join(_task(*cells) for cells in (*quoted, *map(_extraction, SECRETS)))
    head = "<th>task</th><th>data</th><th>quoted</th><th>here</th><th>how to run it</th>"
    return (
        f'<p class="soft">{escape(data["note"])}</p>'
        f'<div class="scroll"><table class="scores claims"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _task(task: str, data: str, quoted: str, here: str, commands: list[str]) -> str:
    lines = "<br>".join(map(escape, commands))
    return (
        f'<tr><th scope="row">{escape(task)}</th><td>{escape(data)}</td><td>{escape(quoted)}</td><td>{escape(here)}</td>'
        f"<td><details><summary>recipe</summary><code>{lines}</code></details></td></tr>"
    )


def _extraction(name: str) -> tuple[str, str, str, str, list[str]]:
    """A shipped backdoor as a secret: its target behind its trigger as key, by the card."""
    card = read_card(CHECKPOINTS / name)
    data = f"{card.recipe['dataset']['kind']}, {card.recipe['attack']['target']['kind']}"
    rows = [row for row in card.scores if (row["condition"], row["clip"]) == ("triggered", "none")]
    if not rows:
        return "Secret-image extraction", data, "–", "not measured yet", [f"python -m lab reveal {name}"]
    row = max(rows, key=lambda row: row["n"])
    return "Secret-image extraction", data, "–", _psnr(row), [f"python -m lab reveal {name} --n {row['n']}"]


def _psnr(row: dict[str, Any]) -> str:
    psnr = next(score for score in row["scores"] if score["name"] == "PSNR")
    return (
        f"PSNR, dB {psnr['value']:.1f} ({psnr['low']:.1f} to {psnr['high']:.1f}; n {row['n']:,}, "
        f"{SAMPLERS.parse(row['sampler']).title}, clip none, seed {row['seed']})"
    )
