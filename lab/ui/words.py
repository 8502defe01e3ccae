"""HTML for numbers and sentences; everything that comes from outside is escaped."""

from __future__ import annotations

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


def sentence(text: str) -> str:
    """One plain sentence."""
    return f'<p class="soft">{escape(text)}</p>'


def badge(state: str) -> str:
    """Clean, backdoored or not known, as sign and word."""
    return {"clean": "✓ clean", "backdoored": "⚠ backdoored"}.get(state, "? not known")
