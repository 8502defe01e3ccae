"""HTML for models: what is here, what the Hub has, what is known of one; everything from outside is escaped."""

from __future__ import annotations

from html import escape
from typing import Any

from lab.ui import words

MARKS = {"safetensors": "✓ safetensors", "pickle": "⚠ pickle", "code": "⚠ has code"}
SETTINGS = {
    "clip_sample": "The lab never takes this over: clip is your choice in each sampling.",
    "variance_type": "The lab's ancestral DDPM samples with it.",
    "prediction_type": "Networks that predict noise (epsilon) are the only ones taken.",
    "thresholding": "The lab does not threshold.",
    "clip_sample_range": "The lab clips to [-1, 1].",
    "timestep_spacing": "The lab's samplers space their steps themselves.",
}


def shelf(lines: list[dict[str, Any]]) -> str:
    """Every model that is here: badge, where from, what it is."""
    body = "".join(
        f'<tr><th scope="row">{escape(line["name"])}</th><td class="badge">{words.badge(line["state"])}</td>'
        f"<td>{escape(line['origin'])}</td><td>{escape(line['help'])}</td></tr>"
        for line in lines
    )
    head = "<thead><tr><th>model</th><th>state</th><th>from</th><th>what it is</th></tr></thead>"
    return f'<div class="scroll"><table class="shelf">{head}<tbody>{body}</tbody></table></div>'


def choice(row: dict[str, Any]) -> tuple[str, str]:
    """A model of the Hub as one line of a list, and its name."""
    marks = [MARKS[mark] for mark in row["marks"]]
    size = f"{row['parameters'] / 1e6:,.1f} M parameters" if row.get("parameters") else ""
    downloads = f"{row['downloads']:,} downloads" if row.get("downloads") else ""
    parts = [row["name"], *marks, size, row.get("licence", ""), downloads, row.get("closed", ""), row["help"]]
    return " · ".join(filter(None, parts)), row["name"]


def repository(found: dict[str, Any]) -> str:
    """What is known of a repository before it is fetched."""
    marks = ", ".join(MARKS[mark] for mark in found["marks"])
    facts = {
        "size": f"{found['bytes'] / 1e6:,.1f} MB to fetch",
        "licence": found["licence"] or "none stated",
        "files": marks,
        "downloads": f"{found['downloads']:,}",
        "access": found["closed"] or "open",
        "revision": found["revision"],
        "becomes": found["name"],
    }
    doubt = (
        '<p class="doubt">⚠ Its weights are a pickle, a format that can carry a program. Tick <b>Also take a pickle</b> to have them '
        "read in a process of their own and kept as safetensors.</p>"
        if found["pickle"]
        else ""
    )
    return f'<div class="model"><h3>{escape(found["repo"])}</h3>{_facts(facts)}{doubt}</div>'


def model(found: dict[str, Any]) -> str:
    """What is known of a model that is here, what its scheduler's file says, and its authors' scores beside ours."""
    card = found["card"]
    facts = {
        "state": words.badge(found["badge"]),
        "from": found["origin"],
        "what": card["summary"] or "no card",
    }
    if licence := card["origin"].get("licence"):
        facts["licence"] = str(licence)
    return (
        f'<div class="model"><h3>{escape(card["name"])}</h3>{_facts(facts)}<h4>What its scheduler\'s file says</h4>'
        f"{_settings(found['stored'])}{_scores(card)}</div>"
    )


def _facts(facts: dict[str, str]) -> str:
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())
    return f'<dl class="facts">{rows}</dl>'


def _settings(stored: dict[str, Any]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(str(value))}</td><td>{SETTINGS.get(name, "")}</td></tr>'
        for name, value in stored.items()
    )
    return f'<div class="scroll"><table class="shelf"><tbody>{rows}</tbody></table></div>'


def _scores(card: dict[str, Any]) -> str:
    """The authors' own scores, and what was measured here for the card, side by side."""
    theirs = [(name, f"{value:.5g}") for name, value in card["authors_scores"].items()]
    ours = [
        (f"{row['condition']} noise, {score['name']}", f"{score['value']:.5g} (n = {score['n']})")
        for row in card["scores"]
        for score in row["scores"]
    ][:20]
    if not theirs:
        return ""
    columns = (
        ("The authors' own scores", theirs, "none"),
        ("Measured in this lab", ours, "nothing yet; press Measure"),
    )
    return '<div class="sides">' + "".join(_list(*column) for column in columns) + "</div>"


def _list(title: str, rows: list[tuple[str, str]], empty: str) -> str:
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in rows
    )
    table = f'<table class="shelf"><tbody>{body}</tbody></table>' if rows else words.sentence(f"{empty}.")
    return f'<section class="side"><h4>{title}</h4><div class="scroll">{table}</div></section>'


def progress(step: int, total: int, text: str) -> str:
    """How far a download is."""
    return (
        f'<div class="run"><progress max="{total or 1}" value="{step}" aria-label="bytes fetched"></progress>'
        f"{words.sentence(text)}</div>"
    )
