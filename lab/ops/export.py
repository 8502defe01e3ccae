"""A report as files: JSON, CSV, pictures, charts as PNG and PDF, and a page to print."""

from __future__ import annotations

import base64
import csv
import io
import json
import tempfile
import zipfile
from html import escape
from pathlib import Path
from typing import Any

from lab.charts import labels, report_bars, said, save, svg, titled
from lab.models import as_json
from lab.pictures import write_atomically

COLUMNS = (
    *(
        "checkpoint",
        "condition",
        "trigger",
        "target",
        "sampler",
        "steps",
        "scheduler",
        "clip",
        "seed",
        "n",
        "no_attack",
    ),
    *("metric", "value", "low", "high", "unit", "extractor", "reference"),
)
STYLE = """body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:62rem;color:#111}
table{border-collapse:collapse;width:100%;font-size:.85rem}td,th{border-bottom:1px solid #ccc;padding:.25rem .5rem;text-align:left}
td{font-variant-numeric:tabular-nums}figure{margin:0;display:inline-block;width:30rem;max-width:100%}
img{image-rendering:pixelated;width:100%}svg{max-width:100%;height:auto}figure,tr{break-inside:avoid}.warn{font-weight:600}"""


def write_report(report: dict[str, Any], folder: Path) -> str:
    """Write every file of a report; returns the folder."""
    rows = report["rows"]
    plain = {**report, "rows": [without_picture(row) for row in rows]}
    figure = report_bars(rows)
    files = {
        "report.json": as_json(plain),
        "report.csv": as_csv(rows),
        "report.html": page(report).encode(),
        **{f"report.{form}": save(figure, form) for form in ("png", "pdf")},
        **{f"images/{k:02d}.png": pixels(row) for k, row in enumerate(rows)},
    }
    for name, content in files.items():
        write_atomically(folder / name, content)
    return str(folder)


def zipped(report: dict[str, Any]) -> bytes:
    """All files of a report in one."""
    stream = io.BytesIO()
    with (
        tempfile.TemporaryDirectory() as folder,
        zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        write_report(report, Path(folder))
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder))
    return stream.getvalue()


def without_picture(row: dict[str, Any]) -> dict[str, Any]:
    """A row as data."""
    return {name: value for name, value in row.items() if name != "picture"}


def pixels(row: dict[str, Any]) -> bytes:
    """A row's picture as PNG."""
    return base64.b64decode(row["picture"].partition(",")[2])


def as_csv(rows: list[dict[str, Any]]) -> bytes:
    """One line for each number, with everything that decides it."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        plain = {
            **row,
            "trigger": json.dumps(row["trigger"]),
            "target": json.dumps(row["target"]),
            "sampler": row["sampler"]["kind"],
            "steps": row["sampler"]["steps"],
        }
        writer.writerows({**plain, **score, "metric": score["name"]} for score in row["scores"])
    return text.getvalue().encode()


def page(report: dict[str, Any]) -> str:
    """The report as one HTML file without anything from elsewhere, made for printing."""
    rows = report["rows"]
    chart = svg(report_bars(rows), "Scores of every row, as bars")
    names = labels(rows)
    figures = "".join(map(_figure, rows, names))
    lines = "".join(
        _number(name, row, score) for name, row in zip(names, rows, strict=True) for score in row["scores"]
    )
    notes = "".join(f"<p>{escape(note)}</p>" for note in [report["caution"], *report["skipped"]] if note)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Trojan Noise report</title><style>{STYLE}</style>'
        f"<h1>Trojan Noise report</h1>{notes}{chart}<h2>Samples</h2>{figures}"
        f"<h2>Numbers</h2><table><tr><th>row<th>metric<th>value<th>95 % interval<th>how</tr>"
        f"{lines}</table></html>"
    )


def _figure(row: dict[str, Any], name: str) -> str:
    return (
        f'<figure><img alt="samples" src="{row["picture"]}"><figcaption>{escape(name)}</figcaption></figure> '
    )


def _number(name: str, row: dict[str, Any], score: dict[str, Any]) -> str:
    ends = "–" if score["low"] is None else f"{score['low']:.4g} to {score['high']:.4g}"
    cells = (name, titled(score), f"{score['value']:.4g}{score['unit']}", ends, said(row, score))
    return f"<tr>{''.join(f'<td>{escape(cell)}' for cell in cells)}</tr>"
