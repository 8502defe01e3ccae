"""HTML for numbers and sentences; everything that comes from outside is escaped."""

from __future__ import annotations

import json
import math
from html import escape
from typing import Any

CONDITIONS = {"clean": "clean noise", "triggered": "triggered", "blank": "blank", "wrong": "wrong trigger"}


def scores_table(rows: list[dict[str, Any]]) -> str:
    """Success, MSE and SSIM of every row, A beside B, with n."""
    if not rows:
        return '<p class="soft">Numbers come with the pictures.</p>'
    slots = sorted({row["slot"] for row in rows})
    head = "".join(
        f'<th scope="colgroup" colspan="3">{slot} · {escape(_name(rows, slot))}</th>' for slot in slots
    )
    units = "<th>became the target</th><th>MSE</th><th>SSIM</th>" * len(slots)
    body = "".join(_line(condition, rows, slots) for condition in CONDITIONS)
    return (
        f'<div class="scroll"><table class="scores"><thead><tr><th></th>{head}</tr>'
        f"<tr><th>start</th>{units}</tr></thead><tbody>{body}</tbody></table></div>{_how(rows)}"
    )


def _name(rows: list[dict[str, Any]], slot: str) -> str:
    return next(row["checkpoint"] for row in rows if row["slot"] == slot)


def _line(condition: str, rows: list[dict[str, Any]], slots: list[str]) -> str:
    found = {row["slot"]: row for row in rows if row["condition"] == condition}
    if not found:
        return ""
    cells = "".join(_cells(found.get(slot)) for slot in slots)
    return f'<tr><th scope="row">{CONDITIONS[condition]}</th>{cells}</tr>'


def _cells(row: dict[str, Any] | None) -> str:
    if row is None:
        return "<td>…</td>" * 3
    by_name = {score["name"]: score for score in row["scores"]}
    hits = (
        f"{round(by_name['success']['value'] * row['n'])} of {row['n']}"
        if "success" in by_name
        else "not known"
    )
    mark = "hit" if "success" in by_name and by_name["success"]["value"] >= 0.5 else ""
    return f'<td class="{mark}">{hits}</td>' + "".join(_number(by_name.get(name)) for name in ("MSE", "SSIM"))


def _number(score: dict[str, Any] | None) -> str:
    return f"<td>{score['value']:.4f}</td>" if score else "<td>–</td>"


def _how(rows: list[dict[str, Any]]) -> str:
    row = rows[-1]
    level = next((row["no_attack"] for row in rows if row["no_attack"] is not None), None)
    target = (
        f" An image counts as the target when its MSE is below a tenth of the no-attack level, {level:.3f}, "
        "and below half of what the best flat grey picture has."
        if level is not None
        else " Success is not known: no clean samples of this model's base are stored."
    )
    return (
        f'<p class="soft">{escape(row["scheduler"])}, {row["sampler"]["steps"]} steps, clip {escape(row["clip"])}, '
        f"seed {row['seed']}.{target} So few images show the effect; they do not measure it.</p>"
    )


def truth(lines: dict[str, str]) -> str:
    """The sampler-truth line of each model."""
    body = "".join(f"<p><b>{escape(slot)}</b> {escape(text)}</p>" for slot, text in lines.items())
    return f'<div class="truth">{body}</div>'


def previews(look: dict[str, Any]) -> str:
    """Trigger and target as the model sees them."""
    return (
        '<div class="previews">'
        f'<figure><img alt="the trigger" src="{look["trigger"]}"><figcaption>trigger</figcaption></figure>'
        '<span aria-hidden="true">→</span>'
        f'<figure><img alt="the target" src="{look["target"]}"><figcaption>target</figcaption></figure></div>'
    )


def meter(meter: dict[str, Any]) -> str:
    """What the trigger does to the noise, with a histogram of noise and triggered noise."""
    words = (
        "This trigger adds nothing: the noise stays plain."
        if meter["norm"] == 0
        else f"This trigger moves the noise by ‖g‖ = {meter['norm']:.1f}, in {meter['changed']} of {meter['size']} "
        f"values; the mean moves by {abs(meter['errors']):.1f} standard errors. A detector that knows it has "
        f"an AUROC of at most {meter['auroc']:.3f}."
    )
    return f'<div class="meter">{_histogram(meter)}<p><b>Noise meter.</b> {words}</p></div>'


def _histogram(meter: dict[str, Any]) -> str:
    top = max(max(meter["noise"]), max(meter["triggered"]))
    width = 6
    bars = "".join(
        f'<rect x="{k * width}" y="{60 - 58 * share / top:.1f}" width="{width - 1}" height="{58 * share / top:.1f}"/>'
        for k, share in enumerate(meter["triggered"])
    )
    line = " ".join(f"{(k + 0.5) * width:.1f},{60 - 58 * s / top:.1f}" for k, s in enumerate(meter["noise"]))
    return (
        f'<svg viewBox="0 0 {width * len(meter["noise"])} 62" role="img" '
        f'aria-label="Histogram of values: line plain noise, bars triggered noise">{bars}<polyline points="{line}"/></svg>'
    )


def dataset(found: dict[str, Any]) -> str:
    """Some pictures of a data set, its numbers, and the command that trains on it."""
    channels, height, width = found["shape"]
    colour = "grey" if channels == 1 else "colour"
    labels = "with labels" if found["labelled"] else "without labels"
    return (
        f'<figure class="dataset"><img alt="some of the training images" src="{found["picture"]}"><figcaption>'
        f"<b>{found['train']:,} images to train on</b>, {found['held_out']:,} kept for judging; {height}×{width} "
        f"pixels, {colour}, {labels}. sha256 of the training pixels: {found['sha256']}.<br>"
        f"<code>{escape(found['command'])}</code></figcaption></figure>"
    )


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def plan(plan: dict[str, Any]) -> str:
    """What a training will see, its threat model, its time and its command line."""
    pictures, times = plan["pictures"], " ".join(str(t) for t in plan["timesteps"])
    tampers = " and ".join(plan["tampers"].values()) or "nothing: honest training"
    share = f"{plan['poisoned']:,} of {plan['images']:,} training images are poisoned"
    grids = "".join(
        f'<figure><img alt="x_t of {name} images" src="{pictures[name]}"><figcaption>{name}: x_t at t = {times}, from the top</figcaption></figure>'
        for name in ("clean", "poisoned")
    )
    return (
        f'<div class="plan"><p><b>About {duration(plan["seconds"])}</b> on this {escape(plan["device"].upper())}. '
        f"{share}. This attack tampers with {escape(tampers)}.</p>"
        f'<div class="grids">{grids}</div>'
        f"<code>{escape(plan['command'])}</code></div>"
    )


def price(price: dict[str, Any] | None) -> str:
    """What the form's first settings give and cost; empty where nothing was measured."""
    if price is None:
        return ""
    cores = "one core" if price["threads"] == 1 else f"{price['threads']} cores"
    return (
        f'<p class="soft">These settings are quick: on mnist-clean, grey box → hat, they took '
        f"{duration(price['seconds'])} on {cores}; {price['success']:.0%} of {price['n']:,} triggered samples became the "
        f"hat, and clean samples came to {price['damage']:.2f} times the clean model's {escape(price['extractor'])} "
        f"feature distance ({price['sampler']['kind'].upper()}, {price['sampler']['steps']} steps, clip none, seed 0).</p>"
    )


SIGNS = {"queued": "…", "running": "▶", "done": "✓", "failed": "✗", "stopped": "■", "lost": "?"}


def condition(line: dict[str, Any]) -> str:
    """A run's state as sign and word, with how far it is."""
    share = f" {line['step'] / line['total']:.0%}" if line.get("total") else ""
    return f"{SIGNS.get(line['state'], '')} {line['state']}{share}"


def run(run: dict[str, Any]) -> str:
    """A run as it is: state, time left, losses, samples on the way, log."""
    left = f", about {duration(run['left'])} left" if run["condition"] == "running" and run["left"] else ""
    state = (
        f"{SIGNS.get(run['condition'], '')} {run['condition']}, step {run['step']} of {run['total']}{left}"
    )
    error = f'<p class="truth">{escape(run["error"])}</p>' if run["error"] else ""
    made = f" It became the model <b>{escape(run['checkpoint'])}</b>." if run["condition"] == "done" else ""
    return (
        f'<div class="run"><h3>{escape(run["title"])}</h3><p>{escape(state)}.{made}</p>{error}'
        f'<progress max="{run["total"] or 1}" value="{run["step"]}" aria-label="steps done"></progress>'
        f"{losses(run['ticks'])}{_samples(run['samples'])}"
        f"<details><summary>Recipe and log</summary><pre>{escape(json.dumps(run['recipe'], indent=2))}</pre>"
        f"<pre>{escape(run['log'])}</pre></details></div>"
    )


CURVES = {"loss_clean": "clean part", "loss_poisoned": "poisoned part"}


def losses(ticks: list[dict[str, Any]]) -> str:
    """Loss curves of the clean and of the poisoned part, on a logarithmic scale."""
    found = {name: [(t["step"], t[name]) for t in ticks if t.get(name)] for name in CURVES}
    values = [value for points in found.values() for _, value in points]
    if len(values) < 2:
        return ""
    low, high, last = math.log(min(values)), math.log(max(values)) + 1e-9, ticks[-1]["total"]
    lines = "".join(
        f'<polyline class="{name}" points="'
        + " ".join(
            f"{300 * step / last:.1f},{78 - 74 * (math.log(value) - low) / (high - low):.1f}"
            for step, value in points
        )
        + '"/>'
        for name, points in found.items()
        if points
    )
    legend = " ".join(
        f'<span class="{name}">{label} {found[name][-1][1]:.4f}</span>'
        for name, label in CURVES.items()
        if found[name]
    )
    return (
        f'<figure class="losses"><svg viewBox="0 0 300 80" role="img" aria-label="Loss by step, logarithmic, '
        f'from {min(values):.4f} to {max(values):.4f}">{lines}</svg><figcaption>Loss by step, logarithmic: {legend}</figcaption></figure>'
    )


def _share(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"


def _samples(samples: list[dict[str, Any]]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{sample["step"]}</th>'
        + "".join(
            f'<td><img alt="{kind} noise at step {sample["step"]}" src="{sample["pictures"][kind]}"></td>'
            for kind in ("clean", "triggered")
            if sample["pictures"].get(kind)
        )
        + f"<td>{_share(sample['success'])}</td></tr>"
        for sample in samples
    )
    if not rows:
        return ""
    return (
        '<div class="scroll"><table class="samples"><thead><tr><th>step</th><th>clean noise</th><th>triggered noise</th>'
        f"<th>became the target</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )


def sentence(text: str) -> str:
    """One plain sentence."""
    return f'<p class="soft">{escape(text)}</p>'


def badge(state: str) -> str:
    """Clean, backdoored or not known, as sign and word."""
    return {"clean": "✓ clean", "backdoored": "⚠ backdoored"}.get(state, "? not known")
