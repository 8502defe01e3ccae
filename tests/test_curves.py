"""Words and curves of runs: one pair of axes for two runs, and nothing from outside becomes HTML."""

from __future__ import annotations

import re
from typing import Any

import pytest

from lab.ui import words
from lab.ui.curves import Axes, panels, running_mean

EVIL = "<script>alert(1)</script>"


def run(title: str = "hat", total: int = 100, **curves: list[tuple[int, float]]) -> dict[str, Any]:
    """One side of a comparison."""
    empty: dict[str, list[tuple[int, float]]] = {"loss_clean": [], "loss_poisoned": [], "success": []}
    return {
        **{
            "run": "0badcafe-1",
            "title": title,
            "condition": "running",
            "error": EVIL,
            "step": 10,
            "total": total,
        },
        **{
            "attended": False,
            "left": 90,
            "pace": 6.54,
            "curves": {**empty, **curves},
            "newest": None,
            "samples": [],
            "checkpoint": EVIL,
        },
    }


def places(html: str, kind: str) -> list[tuple[float, float]]:
    """The points of a line."""
    found = re.search(rf'<polyline class="{kind}" points="([^"]*)"', html)
    assert found, f"no line {kind} in {html}"
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in found[1].split())]


def test_two_runs_share_their_axes():
    a, b = run(loss_clean=[(0, 1.0), (50, 0.1)]), run(total=200, loss_clean=[(0, 0.01), (200, 0.1)])
    html = panels([a, b])
    assert html.count("<svg") == 1
    (_, highest), (middle, same) = places(html, "mean a")
    (left, lowest), (right, also) = places(html, "mean b")
    assert same == also  # the same loss stands at the same height
    assert highest < same < lowest
    assert middle - left == pytest.approx((right - left) / 4, abs=0.1)  # step 50 of 200


def test_equal_ratios_are_equal_distances():
    axes = Axes(last=10, low=0.01, high=1.0, log=True)
    (_, low), (_, middle), (_, high) = (axes.place(0, value) for value in (0.01, 0.1, 1.0))
    assert low - middle == pytest.approx(middle - high)
    assert axes.marks == pytest.approx([0.01, 0.1, 1.0])


def test_success_is_drawn_from_nothing_to_all_with_a_mark_of_its_own_for_each_run():
    html = panels([run(success=[(50, 0.5)]), run(success=[(50, 1.0), (100, 0.0)])])
    assert [html.count(mark) for mark in ("<circle", "<rect")] == [1, 2]
    assert "0%" in html and "50%" in html and "100%" in html
    assert "A 50% · B 0%" in html


def test_a_curve_that_nobody_has_has_no_panel():
    assert "svg" not in panels([run(), run()])
    assert panels([run(loss_clean=[(1, 0.5)]), run()]).count("<svg") == 1


def test_a_flat_curve_can_be_drawn():
    assert "nan" not in panels([run(loss_clean=[(10, 0.5), (20, 0.5)])])


def test_the_bold_line_is_the_mean_of_the_last_values():
    assert running_mean([(1, 4.0), (2, 2.0)]) == [(1, 4.0), (2, 2.0)]
    points = [(k, float(k % 2)) for k in range(40)]
    assert running_mean(points)[0] == (0, 0.0)
    assert {value for _, value in running_mean(points)[1:]} == {0.5}


def test_what_differs_is_a_line_each_and_equal_recipes_say_so():
    lines = [{"what": "poison rate", "a": "0.1", "b": EVIL}]
    html = words.comparison({"a": run(), "b": run(), "differences": lines})
    assert "poison rate" in html and "0.1" in html
    assert "same recipe" in words.comparison({"a": run(), "b": run(), "differences": []})


def test_nothing_from_outside_becomes_html():
    shown = [
        words.run(run(EVIL)),
        words.comparison(
            {"a": run(EVIL), "b": run(EVIL), "differences": [dict.fromkeys(("what", "a", "b"), EVIL)]}
        ),
        words.recipe_and_log({"recipe": {"title": EVIL}, "log": EVIL}),
        words.kept("data:image/png;base64,", EVIL, EVIL),
        words.busy(EVIL),
    ]
    for html in shown:
        assert "<script" not in html and "&lt;script" in html


def test_a_run_at_work_says_how_fast_it_is():
    assert "running, step 10 of 100, 6.54 steps a second, about 2 min left." in words.run(run())
    assert "a second" not in words.run({**run(), "pace": None})
    assert "a second" not in words.run({**run(), "condition": "stopped"})


def test_a_line_of_the_list_says_how_far_and_how_long():
    line = {"state": "running", "step": 30, "total": 120, "left": 240.0}
    assert words.condition(line) == "▶ running 25%, 4 min left"
    assert words.condition({"state": "done"}) == "✓ done"
