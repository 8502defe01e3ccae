"""Charts: what is drawn, what a mark says, and that the same chart is the same file."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from typing import Any

import pytest

from lab.charts import Bar, Chart, Line, Point, bars, labels, lines, report_bars, save, shown, svg

CHART = Chart(
    "Success", "poisoned", "share",
    [
        Line("hat", [Point(0, 0.1, 0.0, 0.2, 'recipe "a" <b>'), Point(1, 0.9, 0.8, 1.0)]),
        Line("published", [Point(1, 0.5, says="theirs")], look=1, loose=True),
    ],
    share=True,
    ticks=((0, "0%"), (1, "10%")),
)  # fmt: skip
SVG = "{http://www.w3.org/2000/svg}"


def drawn(figure) -> ElementTree.Element:
    return ElementTree.fromstring(svg(figure, "a <label>"))


def test_a_mark_says_its_sentence():
    titles = [title.text for title in drawn(lines([CHART])).iter(f"{SVG}title")]
    assert titles == ['recipe "a" <b>', "theirs"]


def test_text_stays_text_and_the_label_is_escaped():
    root = drawn(lines([CHART]))
    texts = {"".join(text.itertext()).strip() for text in root.iter(f"{SVG}text")}
    assert {"Success", "poisoned", "share", "hat", "published", "0%", "10%"} <= texts
    assert root.attrib["aria-label"] == "a <label>" and root.attrib["role"] == "img"


def test_a_chart_scales_with_its_room():
    root = drawn(lines([CHART]))
    assert "viewBox" in root.attrib and "width" not in root.attrib


@pytest.mark.parametrize(("form", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_the_same_chart_is_the_same_file(form, start):
    first, second = (save(lines([CHART, CHART]), form) for _ in range(2))
    assert first == second and first.startswith(start)


def test_lines_differ_by_more_than_colour():
    axes = lines([CHART]).axes[0]
    shown = [line for line in axes.lines if line.get_label() in ("hat", "published")]
    assert len({line.get_marker() for line in shown}) == 2
    assert shown[1].get_linestyle() == "None"


def test_bars_have_their_values_intervals_and_names():
    figure = bars({"MSE": [Bar("one", 0.2, 0.1, 0.3), Bar("two", 0.4)], "success": [Bar("one", 1.0)]})
    first = figure.axes[0]
    assert [patch.get_width() for patch in first.patches] == [0.2, 0.4]
    assert [text.get_text() for text in first.get_yticklabels()] == ["one", "two"]
    assert len(first.collections) == 1  # the interval of the first


def row(checkpoint: str, condition: str, clip: str = "none") -> dict:
    score = {"value": 0.5, "low": None, "high": None, "n": 4, "unit": "", "reference": "", "extractor": ""}
    return {
        "checkpoint": checkpoint, "condition": condition, "clip": clip, "seed": 0, "n": 4, "scheduler": "DDPMScheduler",
        "sampler": {"kind": "ddpm", "steps": 250},
        "scores": [{**score, "name": "success"}, {**score, "name": "feature distance", "extractor": "digit reader"}],
    }  # fmt: skip


def test_labels_say_only_what_differs():
    rows = [row("a", "clean"), row("a", "triggered"), row("b", "clean", "x0")]
    assert labels(rows) == ["a, clean, clip none", "a, triggered, clip none", "b, clean, clip x0"]
    assert labels(rows[:2]) == ["clean", "triggered"] and labels(rows[:1]) == ["a"]


def test_quality_is_drawn_of_clean_noise_only():
    """A distance of triggered samples to digits says nothing of quality."""
    figure = report_bars([row("a", "clean"), row("a", "triggered")])
    found = {axes.get_title(loc="left"): len(axes.patches) for axes in figure.axes}
    assert found == {"success": 2, "feature distance (digit reader)": 1}


def test_a_bar_says_how_it_was_made():
    text = svg(report_bars([row("a", "clean")]), "bars")
    assert re.search(
        r"<title>success 0.5: a, clean, DDPMScheduler, 250 steps, clip none, seed 0, n 4</title>", text
    )


def test_a_logarithmic_axis_is_one_and_reads_in_plain_numbers():
    wide = replace(CHART, share=False, logarithmic=True, lines=[Line("a", [Point(0, 10), Point(1, 1000)])])
    (axes,) = lines([wide]).axes
    assert axes.get_yscale() == "log"
    assert axes.yaxis.get_major_formatter()(1000.0, 0) == "1,000"


@pytest.mark.parametrize("name", ["G1", "Cognitive Distillation, drawn by the model"])
def test_names_of_lines_hide_no_point(name):
    """They stand above the axes, in as many columns as there is room for, and inside the picture."""
    chart = Chart("title", "x", "y", [Line(f"{name} {k}", [Point(0, 1), Point(1, 0)], k) for k in range(6)])
    figure = lines([chart, chart])
    figure.draw_without_rendering()
    for axes in figure.axes:
        legend = axes.get_legend()
        box, room = legend.get_window_extent(), axes.get_window_extent()
        assert legend.get_title().get_text() == "title"
        assert box.y0 >= room.y1 and box.y1 <= figure.bbox.y1 and box.x1 <= room.x1
        assert room.height > figure.bbox.height / 3


def test_two_charts_of_a_page_share_no_name():
    """Patterns and marks are found by their id in the whole page, and one in a hidden tab paints nothing."""
    one, other = (svg(report_bars([row("a", "clean"), row(name, "triggered")]), "bars") for name in "bc")
    names = [set(re.findall(r'\bid="([^"]+)"', text)) for text in (one, other)]
    assert names[0] and names[1] and not names[0] & names[1]
    for text, own in zip((one, other), names, strict=True):
        asked = set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', text))
        assert {first or second for first, second in asked} <= own
    assert one == svg(report_bars([row("a", "clean"), row("b", "triggered")]), "bars")


def test_a_chart_is_drawn_once_for_all_who_look():
    drawn: list[Any] = []

    def draw(charts, columns=2):
        drawn.append(charts)
        return lines(charts, columns)

    first, again = shown(draw, [CHART], "a study"), shown(draw, [replace(CHART)], "a study")
    assert first == again == svg(lines([CHART]), "a study") and len(drawn) == 1
    shown(draw, [CHART], "another")
    shown(draw, [CHART], "a study", columns=1)
    shown(draw, [replace(CHART, title="Failure")], "a study")
    assert len(drawn) == 4
