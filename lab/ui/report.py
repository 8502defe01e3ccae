"""HTML of a report: pictures first, bars, then every number with its interval and how it was made."""

from __future__ import annotations

from html import escape
from typing import Any

from lab.charts import labels, report_bars, said, shown, titled
from lab.report import difference, score_of
from lab.ui import words

EMPTY = words.sentence("Choose models and press Measure.")
FEW = 1000  # images below which a number is flagged


def report(found: dict[str, Any], note: str = "") -> str:
    """The whole report as far as it has come."""
    rows = found["rows"]
    if not rows:
        return EMPTY
    notes = [note, found["caution"], *found["skipped"]]
    said_first = "".join(words.sentence(each) for each in notes if each)
    names = labels(rows)
    chart = f'<div class="scroll">{shown(report_bars, rows, "Scores of every row as bars")}</div>'
    theirs = "".join(_authors(*each) for each in found.get("authors", {}).items())
    return f"{said_first}{_pictures(rows, names)}{chart}{_table(found, names)}{_differences(rows, names)}{theirs}"


def _authors(name: str, scores: dict[str, float]) -> str:
    """What a model's authors say that they measured."""
    values = ", ".join(f"{escape(what)} {value:.5g}" for what, value in scores.items())
    note = "their sampler, their pictures, their n; nothing of it was checked here"
    return f'<p class="soft"><b>{escape(name)}, its authors\' own scores</b> ({note}): {values}.</p>'


def _pictures(rows: list[dict[str, Any]], names: list[str]) -> str:
    figures = "".join(
        f'<figure><img src="{row["picture"]}" alt="samples: {escape(name)}"><figcaption>{escape(name)}</figcaption></figure>'
        for row, name in zip(rows, names, strict=True)
        if row["picture"]
    )
    return f'<div class="gallery">{figures}</div>' if figures else ""


def _table(found: dict[str, Any], names: list[str]) -> str:
    columns = {score["name"]: titled(score) for row in found["rows"] for score in row["scores"]}
    head = "".join(f"<th>{escape(title)}</th>" for title in columns.values())
    body = "".join(
        f'<tr><th scope="row">{escape(name)}{_size(row)}</th>'
        f"{''.join(_cell(found, k, row, column) for column in columns)}</tr>"
        for k, (row, name) in enumerate(zip(found["rows"], names, strict=True))
    )
    return (
        f'<div class="scroll"><table class="scores"><thead><tr><th>95 % intervals below the values</th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
        '<p class="soft">★ best of the rows from clean noise · ◎ nearest to the target. '
        "A cell tells how it was made when you point at it.</p>"
    )


def _size(row: dict[str, Any]) -> str:
    mark = ' <span class="few" title="few images">few</span>' if row["n"] < FEW else ""
    return f" <small>n = {row['n']:,}</small>{mark}"


def _cell(found: dict[str, Any], k: int, row: dict[str, Any], name: str) -> str:
    score = score_of(row, name)
    if score is None:
        return "<td>–</td>"
    mark = "★ " if found["best"].get(name) == k else "◎ " if found["nearest"].get(name) == k else ""
    ends = "" if score["low"] is None else f"<small>{number(score['low'])} … {number(score['high'])}</small>"
    return f'<td title="{escape(said(row, score), quote=True)}">{mark}{number(score["value"])}{ends}</td>'


def number(value: float) -> str:
    """A number in four figures."""
    return f"{value:.4g}"


def _differences(rows: list[dict[str, Any]], names: list[str]) -> str:
    """Each row against the first of its condition: only what differs by more than its interval."""
    lines = []
    for k, row in enumerate(rows):
        first = next(j for j, other in enumerate(rows) if other["condition"] == row["condition"])
        if first != k:
            lines += [
                f"<li><b>{escape(names[k])}</b> against {escape(names[first])}: {text}</li>"
                for text in [_against(rows[first], row)]
                if text
            ]
    if not lines:
        return ""
    return (
        '<details class="differences"><summary>What differs by more than its 95 % interval</summary>'
        f"<ul>{''.join(lines)}</ul></details>"
    )


def _against(first: dict[str, Any], row: dict[str, Any]) -> str:
    found = []
    for score in row["scores"]:
        other = score_of(first, score["name"])
        gap = difference(other, score) if other else None
        if gap and not gap[1] <= 0 <= gap[2]:
            found.append(f"{escape(score['name'])} {gap[0]:+.4g} ({gap[1]:+.4g} … {gap[2]:+.4g})")
    return "; ".join(found)
