"""Charts as matplotlib figures: the same figure goes to the page as SVG and into a report as PNG or PDF.

Lines and bars are told apart by marks and hatches as well as by colour, so that they survive a projector and a copier.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from cachetools import LRUCache, cached

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which most people with a colour deficiency can tell apart
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKS = ("o", "s", "^", "D", "v", "P", "X")
STYLES = ("-", "--", "-.", ":")
HATCHES = ("", "//", "..", "xx", "\\\\", "++", "oo")
TITLE = 10.5  # points
ROOM, MARKED = 60, 10  # letters beside each other above a pair of axes, and as many as a line's mark takes
REMEMBERED = 32  # figures, of 0.3 MB or less
SVG = "http://www.w3.org/2000/svg"
ElementTree.register_namespace("", SVG)
ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
SETTINGS: Any = {
    "font.family": "sans-serif",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "svg.fonttype": "none",  # text stays text: it can be searched, read aloud and scaled
    "svg.hashsalt": "lab",  # the same chart is the same file
}


@dataclass(frozen=True)
class Point:
    """A value with its interval, and the sentence that tells how it was made."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    says: str = ""


@dataclass(frozen=True)
class Line:
    """Points of one name, joined."""

    name: str
    points: Sequence[Point]
    look: int = 0  # colour, mark and style: the same for the same thing in every panel
    loose: bool = False  # marks without a line, for what somebody else published


@dataclass(frozen=True)
class Chart:
    """One pair of axes."""

    title: str
    x_title: str
    y_title: str
    lines: Sequence[Line]
    share: bool = False  # y runs from 0 to 1
    ticks: Sequence[tuple[float, str]] = field(default=())
    logarithmic: bool = False  # y, which is above 0


def lines(charts: Sequence[Chart], columns: int = 2) -> Figure:
    """A figure with a panel for each chart."""
    figure, panels = _panels(len(charts), columns, height=3.3 + 0.2 * max(map(_named, charts), default=0))
    for chart, axes in zip(charts, panels, strict=True):
        for line in chart.lines:
            _line(axes, line)
        _dress(axes, chart)
    return figure


def _line(axes: Axes, line: Line) -> None:
    number = line.look
    colour, mark = COLOURS[number % len(COLOURS)], MARKS[number % len(MARKS)]
    style = "none" if line.loose else STYLES[number % len(STYLES)]
    x, y = [p.x for p in line.points], [p.y for p in line.points]
    axes.plot(x, y, color=colour, marker=mark, markersize=6, linestyle=style, linewidth=1.8, label=line.name)
    for point in line.points:
        if point.low is not None and point.high is not None:
            axes.vlines(point.x, point.low, point.high, color=colour, linewidth=1.2)
        (spot,) = axes.plot(point.x, point.y, linestyle="none", markersize=14, alpha=0, marker="o")
        spot.set_gid(_told(point.says))


def _dress(axes: Axes, chart: Chart) -> None:
    if len(chart.lines) > 1:
        _name_lines(axes, chart)
    else:
        axes.set_title(chart.title, loc="left", fontsize=TITLE)
    axes.set(xlabel=chart.x_title, ylabel=chart.y_title)
    if chart.share:
        axes.set_ylim(-0.03, 1.03)
        axes.yaxis.set_major_formatter(lambda value, position: f"{value:.0%}")
    if chart.logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, position: f"{value:,g}")
    if chart.ticks:
        axes.set_xticks(*zip(*chart.ticks, strict=True))


def _name_lines(axes: Axes, chart: Chart) -> None:
    """Names of the lines between title and axes, where they hide no point."""
    above = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderpad": 0, "borderaxespad": 0.6}
    look = {"alignment": "left", "frameon": False, "fontsize": 9.5, "title_fontsize": TITLE}
    axes.legend(title=chart.title, ncols=_columns(chart), **above, **look)


def _columns(chart: Chart) -> int:
    """As many as names fit beside each other."""
    return max(1, ROOM // (MARKED + max(len(line.name) for line in chart.lines)))


def _named(chart: Chart) -> int:
    """Rows that the names of its lines take."""
    return -(-len(chart.lines) // _columns(chart)) if len(chart.lines) > 1 else 0


@dataclass(frozen=True)
class Bar:
    """A value of one model with its interval, and how it was made; colour and pattern say what it belongs to."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    says: str = ""
    colour: int = 0
    pattern: int = 0


def bars(panels: Mapping[str, Sequence[Bar]], columns: int = 2) -> Figure:
    """A figure with a panel of horizontal bars for each score."""
    rows = max((len(each) for each in panels.values()), default=1)
    figure, places = _panels(len(panels), columns, height=0.9 + 0.34 * rows)
    for (title, found), axes in zip(panels.items(), places, strict=True):
        for number, bar in enumerate(found):
            _bar(axes, bar, number)
        axes.set_title(title, loc="left", fontsize=11)
        axes.set(yticks=range(len(found)), xlim=(min(0, *(bar.value for bar in found)), None))
        axes.set_yticklabels([bar.name for bar in found], fontsize=9)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
    return figure


def _bar(axes: Axes, bar: Bar, number: int) -> None:
    colour, hatch = COLOURS[bar.colour % len(COLOURS)], HATCHES[bar.pattern % len(HATCHES)]
    (drawn,) = axes.barh(number, bar.value, height=0.66, color=colour, hatch=hatch, edgecolor="white")
    drawn.set_gid(_told(bar.says))
    if bar.low is not None and bar.high is not None:
        axes.hlines(number, bar.low, bar.high, color="#222", linewidth=1.6)


def _panels(count: int, columns: int, height: float) -> tuple[Figure, list[Axes]]:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    columns = min(columns, max(1, count))
    rows = -(-count // columns)
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(5.4 * columns, height * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False).flatten()
    for spare in grid[count:]:
        spare.remove()
    return figure, list(grid[:count])


# A mark carries what it has to say in its id, which SVG keeps; there it becomes a title, which a browser shows.
_SAYS = "says:"


def _told(text: str) -> str | None:
    return _SAYS + text if text else None


def save(figure: Figure, form: str) -> bytes:
    """The figure as svg, png or pdf."""
    import matplotlib as mpl

    stream = io.BytesIO()
    dated = {"svg": "Date", "pdf": "CreationDate"}  # left out: the same chart is the same file
    with mpl.rc_context(SETTINGS):
        figure.savefig(stream, format=form, dpi=160, metadata={dated[form]: None} if form in dated else None)
    return stream.getvalue()


def _digest(draw: Callable[..., Figure], what: Any, label: str, **layout: Any) -> str:
    return hashlib.sha256(repr((draw.__name__, what, label, layout)).encode()).hexdigest()


@cached(LRUCache(REMEMBERED), key=_digest, lock=Lock())
def shown(draw: Callable[..., Figure], what: Any, label: str, **layout: Any) -> str:
    """A figure of this for the page, as svg says; drawn once, and not for everybody who looks: a study takes seconds."""
    return svg(draw(what, **layout), label)


def svg(figure: Figure, label: str) -> str:
    """The figure as an SVG element for the page: scales with its room, says each mark's sentence, has a label."""
    root = ElementTree.fromstring(save(figure, "svg"))
    for group in root.iter(f"{{{SVG}}}g"):
        if group.get("id", "").startswith(_SAYS):
            title = ElementTree.Element(f"{{{SVG}}}title")
            title.text = group.attrib.pop("id").removeprefix(_SAYS)
            group.insert(0, title)
            group.set("class", "said")
    # the first defs hold a style sheet, which on a page would be everybody's
    for rest in ("metadata", "defs"):
        root.remove(next(root.iter(f"{{{SVG}}}{rest}")))
    size = {"viewBox": root.attrib["viewBox"]}
    root.attrib = {"role": "img", "aria-label": label, "class": "chart", "stroke-linejoin": "round", **size}
    _own_names(root, hashlib.sha256(ElementTree.tostring(root)).hexdigest()[:8])
    return ElementTree.tostring(root, encoding="unicode")


def _own_names(root: ElementTree.Element, prefix: str) -> None:
    """Names that no other chart of the page has: a pattern that is first found in a hidden tab paints nothing."""
    for element in root.iter():
        for name, value in element.attrib.items():
            if name == "id":
                element.set(name, f"{prefix}-{value}")
            elif name.endswith("href"):
                element.set(name, value.replace("#", f"#{prefix}-", 1))
            else:
                element.set(name, value.replace("url(#", f"url(#{prefix}-"))


ABOUT_TARGET = ("success", "MSE / no attack")
ABOUT_REAL = ("FID", "feature distance", "confident digits", "confident faces")


def report_bars(rows: Sequence[dict[str, Any]]) -> Figure:
    """Bars of a report's rows: how near to the target, for all; how good the pictures are, for those of clean noise."""
    panels: dict[str, list[Bar]] = {}
    models, conditions = (
        list(dict.fromkeys(row[part] for row in rows)) for part in ("checkpoint", "condition")
    )
    names = labels(rows)
    for row, name in zip(rows, names, strict=True):
        look = models.index(row["checkpoint"]), conditions.index(row["condition"])
        wanted = ABOUT_TARGET + (ABOUT_REAL if row["condition"] == "clean" else ())
        for score in (score for score in row["scores"] if score["name"] in wanted):
            bar = Bar(name, score["value"], score["low"], score["high"], said(row, score), *look)
            panels.setdefault(titled(score), []).append(bar)
    return bars(panels)


def titled(score: dict[str, Any]) -> str:
    """A score's name with whose features it stands on."""
    return f"{score['name']} ({score['extractor']})" if score["extractor"] else score["name"]


def labels(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What tells each row from the others: of model, condition, sampler and clip, those that differ."""
    parts = [
        (
            row["checkpoint"],
            row["condition"],
            f"{row['sampler']['kind'].upper()}-{row['sampler']['steps']}",
            f"clip {row['clip']}",
        )
        for row in rows
    ]
    differ = [len(set(column)) > 1 for column in zip(*parts, strict=True)] or [True]
    shown = [[text for text, differs in zip(each, differ, strict=True) if differs] for each in parts]
    return [", ".join(each) or parts[0][0] for each in shown]


def said(row: dict[str, Any], score: dict[str, Any]) -> str:
    """A number with all that it takes to repeat it."""
    ends = "" if score["low"] is None else f" ({score['low']:.4g} to {score['high']:.4g})"
    judge = f", {score['extractor']}, {score['reference']}" if score["extractor"] else ""
    return (
        f"{score['name']} {score['value']:.4g}{score['unit']}{ends}: {row['checkpoint']}, {row['condition']}, "
        f"{row['scheduler']}, {row['sampler']['steps']} steps, clip {row['clip']}, seed {row['seed']}, n {score['n']}{judge}"
    )
