"""HTML for numbers and sentences; everything that comes from outside is escaped."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from lab.printing import duration
from lab.ui.curves import panels

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


def kept(picture: str | None, name: str, use: str) -> str:
    """A picture of one's own that was just kept and chosen."""
    said = f"Kept as <b>{escape(name)}</b>; it is the {escape(use)} now."
    return f'<p class="kept" role="status"><img alt="the picture" src="{picture}"><span>{said}</span></p>'


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


def plan(plan: dict[str, Any]) -> str:
    """What a training will see, its threat model, its time and its command line."""
    pictures, times = plan["pictures"], ", ".join(str(t) for t in plan["timesteps"])
    doubts = "".join(f'<p class="doubt">⚠ {escape(doubt)}</p>' for doubt in plan["doubts"])
    tampers = " and ".join(plan["tampers"].values()) or "nothing: honest training"
    share = f"{plan['poisoned']:,} of {plan['images']:,} training images are poisoned"
    grids = "".join(
        f'<figure><img alt="x_t of {name} images" src="{pictures[name]}"><figcaption>{name}: x_t at t = {times}, from the top</figcaption></figure>'
        for name in ("clean", "poisoned")
    )
    return (
        f'<div class="plan"><p><b>About {duration(plan["seconds"])}</b> on this {escape(plan["device"].upper())}: '
        f"{plan['steps']:,} steps, {plan['epochs']:.3g} passes over the images. "
        f"{share}. This attack tampers with {escape(tampers)}.</p>"
        f"{doubts}"
        f'<div class="grids">{grids}</div>'
        f"<code>{escape(plan['command'])}</code></div>"
    )


PRESETS = {
    "quick": "A backdoor in minutes",
    "shipped": "As the shipped backdoors are made",
    "poisoned_data": "As the shipped models of poisoned data are made",
    "usual": "Every image and every t counts alike, as for honest training and from scratch",
}


def price(preset: str | None, price: dict[str, Any] | None) -> str:
    """What training options that have a name are for, and give and cost where that was measured."""
    if preset is None:
        return sentence("These are settings of your own; Look ahead says how long they take.")
    if price is None:
        return sentence(f"{PRESETS[preset]}.")
    cores = "one core" if price["threads"] == 1 else f"{price['threads']} cores"
    took = f"{PRESETS[preset]}: <b>{escape(price['model'])}</b> took {duration(price['seconds'])} on {cores}"
    return f'<p class="soft">{took}{_damage(price)}.</p>'


def _damage(price: dict[str, Any]) -> str:
    if "success" not in price:
        return ""
    return (
        f"; {price['success']:.1%} of {price['n']:,} triggered samples became the hat, and clean samples came to "
        f"{price['damage']:.2f} times the clean model's {escape(price['extractor'])} feature distance "
        f"({price['sampler']['kind'].upper()}, {price['sampler']['steps']} steps, clip none, seed 0)"
    )


SIGNS = {"queued": "…", "running": "▶", "done": "✓", "failed": "✗", "stopped": "■", "lost": "?"}


def condition(line: dict[str, Any]) -> str:
    """A run's state as sign and word, with how far it is and how long it will take."""
    share = f" {line['step'] / line['total']:.0%}" if line.get("total") else ""
    left = f", {duration(line['left'])} left" if line.get("left") else ""
    return f"{SIGNS.get(line['state'], '')} {line['state']}{share}{left}"


def run(run: dict[str, Any]) -> str:
    """A run as it is: state, time left, curves, samples on the way."""
    made = f" It became the model <b>{escape(run['checkpoint'])}</b>." if run["condition"] == "done" else ""
    if run["attended"] and run["condition"] == "stopped":
        made = " It is saved; <b>Continue</b> trains for another minute."
    return (
        f'<div class="run"><h3>{escape(run["title"])}</h3><p>{_state(run)}{made}</p>{_error(run)}{_bar(run)}'
        f"{panels([run])}{_samples(run['samples'])}</div>"
    )


def _state(run: dict[str, Any]) -> str:
    going = run["condition"] == "running"
    left = f", about {duration(run['left'])} left" if going and run["left"] else ""
    pace = f", {run['pace']:.3g} steps a second" if going and run["pace"] else ""
    sign = SIGNS.get(run["condition"], "")
    return escape(f"{sign} {run['condition']}, step {run['step']:,} of {run['total']:,}{pace}{left}.")


def _error(run: dict[str, Any]) -> str:
    return f'<p class="truth">{escape(run["error"])}</p>' if run["error"] else ""


def _bar(run: dict[str, Any]) -> str:
    return f'<progress max="{run["total"] or 1}" value="{run["step"]}" aria-label="steps done"></progress>'


def recipe_and_log(run: dict[str, Any]) -> str:
    """What decides a run, and the end of what its worker printed."""
    log = f"<h4>Log</h4><pre>{escape(run['log'])}</pre>" if run["log"].strip() else ""
    return (
        f'<div class="run"><h4>Recipe</h4><pre>{escape(json.dumps(run["recipe"], indent=2))}</pre>{log}</div>'
    )


def comparison(found: dict[str, Any]) -> str:
    """Two runs side by side: states, what differs, curves on the same axes, newest samples."""
    runs = {"A": found["a"], "B": found["b"]}
    heads = "".join(
        f'<section class="side"><h3>{_slot(slot)}{escape(run["title"])}</h3><p>{_state(run)}</p>'
        f"{_error(run)}{_bar(run)}</section>"
        for slot, run in runs.items()
    )
    newest = "".join(_newest(slot, run) for slot, run in runs.items())
    return (
        f'<div class="run comparison"><div class="sides">{heads}</div>{_differences(found["differences"])}'
        f'<h4>Curves by step <span class="keys">{_key("A")}{_key("B")}</span></h4>{panels(list(runs.values()))}'
        f'<h4>Newest samples</h4><div class="sides">{newest}</div></div>'
    )


def _slot(slot: str) -> str:
    return f'<span class="slot {slot.lower()}">{slot}</span>'


def _key(slot: str) -> str:
    """How a run's line looks."""
    line = (
        f'<svg viewBox="0 0 34 10" aria-hidden="true"><path class="mean {slot.lower()}" d="M1 5h32"/></svg>'
    )
    return f'<span class="key">{line}{slot}</span>'


def _differences(lines: list[dict[str, str]]) -> str:
    if not lines:
        return "<h4>What differs</h4>" + sentence("Nothing: both have the same recipe, seed included.")
    body = "".join(
        f'<tr><th scope="row">{escape(line["what"])}</th><td>{escape(line["a"])}</td><td>{escape(line["b"])}</td></tr>'
        for line in lines
    )
    head = f'<tr><th></th><th scope="col">{_slot("A")}</th><th scope="col">{_slot("B")}</th></tr>'
    return (
        f'<h4>What differs</h4><div class="scroll"><table class="differences"><thead>{head}</thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _newest(slot: str, run: dict[str, Any]) -> str:
    newest = run["newest"]
    if newest is None:
        return (
            f'<section class="side"><p>{_slot(slot)}<span class="soft">No samples yet.</span></p></section>'
        )
    share = "" if newest["success"] is None else f": {newest['success']:.0%} became the target"
    figures = "".join(
        f"<figure><figcaption>{kind} noise{share if kind == 'triggered' else ''}</figcaption>"
        f'<img alt="{slot}, {kind} noise at step {newest["step"]}" src="{newest["pictures"][kind]}"></figure>'
        for kind in ("clean", "triggered")
        if newest["pictures"].get(kind)
    )
    return f'<section class="side"><p>{_slot(slot)}step {newest["step"]:,}</p>{figures}</section>'


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


def busy(text: str) -> str:
    """Something is going on."""
    return f'<p class="busy" role="status"><span class="spinner" aria-hidden="true"></span>{escape(text)}</p>'


def sentence(text: str) -> str:
    """One plain sentence."""
    return f'<p class="soft">{escape(text)}</p>'


def badge(state: str) -> str:
    """Clean, backdoored or not known, as sign and word."""
    return {"clean": "✓ clean", "backdoored": "⚠ backdoored"}.get(state, "? not known")
