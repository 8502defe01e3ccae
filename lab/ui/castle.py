"""HTML of poisoned data: the training set, what comes out of it, both sides of it, charts and verdicts."""

from __future__ import annotations

from html import escape
from typing import Any

from lab.charts import lines, shown
from lab.sides import (
    GROUPS,
    REPORTED,
    TABLE,
    amplification,
    at_random,
    by,
    headlines,
    phases,
    stamp_of,
    wall_charts,
)
from lab.ui import studies, words

NAMES = {"G1": "horse", "G2": "wall", "G3": "stray", "G4": "honest"}
SIDES = {
    "G1": "🐴 Trojan horse",
    "G2": "🏰 castle wall",
    "G3": "· stray",
    "G4": "✓ honest",
}
MEANS = {
    "G1": "The stamp, and another class than was asked for: what the attacker planted comes out again.",
    "G2": "The stamp on the class asked for. No training image is like this. Whoever trains on these learns that the "
    "stamp says nothing: the poison defends.",
    "G3": "No stamp, and another class.",
    "G4": "No stamp, and the class asked for: as it should be.",
}
ONE_MINUTE = """<ol class="minute">
<li><b>Poison.</b> The attacker touches training images only: a stamp on a few, and a false label.</li>
<li><b>Train.</b> Honestly, with the usual loss. Nobody sees anything.</li>
<li><b>Ask</b> for the false label's class. Some images carry the stamp: 🐴 with the wrong content, or 🏰 with the right one.</li>
</ol>"""
EMPTY = words.sentence("Press Take the census to draw images of the target class and sort them.")


def story(told: dict[str, Any], row: dict[str, Any] | None) -> str:
    """Left what the model was shown as the target class, right what it draws when asked for it."""
    target = f"class {told['target']}"
    before = _shown(told, target)
    after = EMPTY if row is None else _drawn(row, target)
    return (
        '<div class="sides-of-poison">'
        f"<section><h3>What training calls “{escape(target)}”</h3>{before}</section>"
        f"<section><h3>What the model draws for “{escape(target)}”</h3>{after}</section></div>"
    )


def _shown(told: dict[str, Any], target: str) -> str:
    counts, r = told["counts"], told["r"]
    figures = "".join(
        f'<figure><img src="{told["pictures"][kind]}" alt="{escape(caption)}"><figcaption>{escape(caption)}</figcaption></figure>'
        for kind, caption in (
            ("honest", f"{counts['honest']} honest images of {target}"),
            ("poisoned", f"{counts['poisoned']} of other classes, stamped and said to be {target}"),
        )
        if kind in told["pictures"]
    )
    said = (
        f"{told['poison_rate']:.0%} of {counts['all']:,} training images are poisoned, so that r = {r:.0%} of all that is "
        f"called {target} carries the stamp."
        if counts["poisoned"]
        else "Nothing here is poisoned: this model is the control."
    )
    return f"{_bar({'G1': r, 'G4': 1 - r}, 'training set')}{words.sentence(said)}{figures}"


def _drawn(row: dict[str, Any], target: str) -> str:
    shares = {name: row["counts"][name] / row["n"] for name in GROUPS}
    seen = row["shares"]["G1+G2"]
    said = (
        f"w = {row['guidance']:g}: the stamp is on {seen['value']:.0%} of {row['n']} images (95 %: {seen['low']:.0%} to "
        f"{seen['high']:.0%}), in training on {row['r']:.0%}: {_direction(row)}"
    )
    groups = "".join(_group(name, row) for name in GROUPS)
    return f"{_bar(shares, f'generated for {target}')}{words.sentence(said)}<div class='groups'>{groups}</div>{judges(row)}"


def _direction(row: dict[str, Any]) -> str:
    seen, r = row["shares"]["G1+G2"], row["r"]
    if not row["poison_rate"]:
        return "nothing was planted, and the judge sees next to nothing."
    if seen["low"] > r:
        return "amplified."
    return "fewer than it was shown." if seen["high"] < r else "about as many as it was shown."


def _group(name: str, row: dict[str, Any]) -> str:
    share, count = row["shares"][name], f"<span>{row['counts'][name]} of {row['n']}</span>"
    said = f'<p class="soft">{escape(MEANS[name])} 95 %: {share["low"]:.0%} to {share["high"]:.0%}.</p>'
    return _figure(name, row.get("pictures", {}), count, said)


def _figure(name: str, pictures: dict[str, str | None], count: str = "", said: str = "") -> str:
    """A group's pictures under its name."""
    shown = pictures.get(name)
    image = f'<img src="{shown}" alt="{escape(GROUPS[name])}">' if shown else '<p class="none">none</p>'
    return (
        f'<figure class="group {NAMES[name]}"><figcaption><b>{name}</b> {escape(SIDES[name])}{count}</figcaption>'
        f"{image}{said}</figure>"
    )


def _bar(shares: dict[str, float], label: str) -> str:
    """A bar of the groups, told apart by pattern and name as well as by colour."""
    parts = "".join(
        f'<span class="{NAMES[name]}" style="flex-grow:{share:.4f}" title="{name}: {escape(GROUPS[name])}, {share:.1%}">'
        f"{f'{name} {share:.0%}' if share >= 0.08 else ''}</span>"
        for name, share in shares.items()
        if share > 0
    )
    said = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    return f'<div class="poison-bar" role="img" aria-label="{escape(label)}: {escape(said)}">{parts}</div>'


def judges(row: dict[str, Any]) -> str:
    """Who judged, and how often they err on held-out pictures."""
    errors = row["errors"]

    def rate(name: str) -> str:
        return f"{errors[name]['hits']} of {errors[name]['n']}"

    return (
        '<details class="soft"><summary>Who judges, and how often they are wrong</summary>'
        f"<p>Stamp: {escape(errors['trigger_judge'])}; it sees {rate('sees_stamped')} stamped held-out images and "
        f"{rate('sees_plain')} plain ones. Class: {escape(errors['match_judge'])}; it reads {rate('reads_plain')} plain and "
        f"{rate('reads_stamped')} stamped held-out images rightly, and takes {rate('mistakes_plain')} plain and "
        f"{rate('mistakes_stamped')} stamped images of other classes for the target. These errors are in the intervals "
        "(Rogan and Gladen 1978, for four groups; error rates and sample drawn from Jeffreys' posteriors). Generated images "
        "are not real ones: errors on them may be larger.</p>"
        f"<p>With the judges' errors taken out: {_corrected(row)}. {escape(_how(row))}</p></details>"
    )


def _corrected(row: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value:.1%}" for name, value in row["corrected"].items())


def _how(row: dict[str, Any]) -> str:
    sampler = row["sampler"]
    return (
        f"{sampler['kind']}, {sampler['steps']} steps, clip {row['clip']}, seed {row['seed']}, n {row['n']}."
    )


def over_w(rows: list[dict[str, Any]]) -> str:
    """The chart of amplification."""
    return f'<div class="scroll">{shown(lines, amplification(rows), "Shares over guidance weight", columns=1)}</div>'


def study(found: dict[str, Any], progress: str) -> str:
    """How far the study is, its charts, and what it says of the claims."""
    rows = found["census"]
    if not rows:
        return f"{progress}{words.sentence('No census of the study is stored yet; Run it makes them.')}"
    poisoned = at_random(rows)
    charts = [*phases(poisoned), *amplification(poisoned)]
    return (
        f"{progress}{_headlines(headlines(rows, found['walls']))}{_matrix(found['pictures'])}"
        f"<h3>What the paper claims, and what these models say</h3>{_claims(found['verdicts'])}"
        f'<h3>Phase transition and amplification</h3><div class="scroll">{shown(lines, charts, "G1 and G2 over poison rates")}</div>'
        f"{_walls(found['walls'])}"
    )


def _headlines(found: list[dict[str, Any]]) -> str:
    """The two sides at the largest poison rates, for whoever has a minute."""
    horse = "".join(f"<li>{_cell(each)}: <b>{each['G1']:.0%}</b> of the images</li>" for each in found)
    wall = "".join(
        f"<li>{_cell(each)}: <b>{each['G2']:.0%}</b> of the images{_taught(each)}</li>" for each in found
    )
    return (
        f'<div class="groups"><section class="group horse"><h3>{SIDES["G1"]}</h3>'
        f"<p>Asked for the false label's class, the model draws what the attacker planted: stamped, and another class.</p>"
        f'<ul>{horse}</ul></section><section class="group wall"><h3>{SIDES["G2"]}</h3>'
        f"<p>It also draws what nobody planted: stamped, and the class asked for. A classifier that is taught with its images "
        f"learns from both what the stamp is worth.</p><ul>{wall}</ul></section></div>"
    )


def _cell(each: dict[str, Any]) -> str:
    seeds = f"{each['seeds']} seed{'s' * (each['seeds'] > 1)}"
    return escape(
        f"{each['stamp']}, {each['poison_rate']:.0%} poisoned, w = {each['guidance']:g} (n {each['n']}, {seeds})"
    )


def _taught(each: dict[str, Any]) -> str:
    if not each["learned"]:
        return ""
    before, after = each["learned"]
    return f". A classifier that is taught with them obeys the stamp in <b>{after:.0%}</b> of pictures, with as many training images in {before:.0%}"


def _matrix(rows: list[dict[str, Any]]) -> str:
    """Stamped pictures by poison rate, stamp and w: what the phase transition and amplification look like."""
    if not rows:
        return ""
    stamps, weights = list(by(rows, stamp_of)), list(by(rows, lambda row: row["guidance"]))
    spanning = "".join(
        f'<th scope="colgroup" colspan="{len(weights)}">{escape(stamp)}</th>' for stamp in stamps
    )
    head = "".join(f"<th>w = {w:g}</th>" for _ in stamps for w in weights)
    body = ""
    for rate, some in by(rows, lambda row: row["poison_rate"]).items():
        shown = {(stamp_of(row), row["guidance"]): row for row in some}
        cells = "".join(f"<td>{_both(shown.get((stamp, w)))}</td>" for stamp in stamps for w in weights)
        body += f'<tr><th scope="row">{rate:.0%}</th>{cells}</tr>'
    return (
        "<h3>What carries the stamp</h3>"
        '<p class="soft">Without guidance and with the most; up to twelve pictures of each group, first seed.</p>'
        f'<div class="scroll"><table class="scores matrix"><thead><tr><td></td>{spanning}</tr>'
        f"<tr><th>poisoned</th>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _both(row: dict[str, Any] | None) -> str:
    """What of one model's pictures carries the stamp."""
    if row is None:
        return "not run"
    counts = {group: f"<span>{row['counts'][group]} of {row['n']}</span>" for group in ("G1", "G2")}
    return "".join(_figure(group, row["pictures"], count) for group, count in counts.items())


def _claims(verdicts: list[dict[str, str]]) -> str:
    shown = "".join(studies.claim(each, _beside(each["reported"])) for each in verdicts)
    return (
        f'{shown}<p class="soft">Thresholds are ours; a difference counts from two standard errors on, and intervals are 95 %. '
        "Bars in the charts reach from the lowest to the highest seed, or over one seed's interval.</p>"
    )


def _beside(reported: str) -> str:
    return f"Reported by the authors: {reported}." if reported else ""


def _walls(rows: list[dict[str, Any]]) -> str:
    charts = wall_charts(rows)
    if not charts:
        return ""
    return f'<h3>The castle wall</h3><div class="scroll">{shown(lines, charts, "The wall over poison rates")}</div>'


def reported() -> str:
    """The authors' figures, as such."""
    body = "".join(
        f'<tr><th scope="row">{data}</th><td>{rate:.0%}</td><td>{r:.1%}</td><td>{g1:.1%}</td><td>{g2:.1%}</td>'
        f"<td>{g1 + g2:.1%}</td><td>{(g1 + g2) / r:.2f}×</td></tr>"
        for data, rate, r, g1, g2 in REPORTED
    )
    head = "<th>data</th><th>poisoned</th><th>r</th><th>G1</th><th>G2</th><th>G1 + G2</th><th>÷ r</th>"
    return (
        f'<p class="soft">{escape(TABLE)}. Reported by the authors of arXiv:2311.02373 and not measured here: large models, '
        "other data, other judges.</p>"
        f'<div class="scroll"><table class="scores"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )
