"""What rows say: charts with error bars over seeds, and verdicts that can go either way."""

from __future__ import annotations

import json
import re
import shlex

import pytest

from lab.cli import nested, parser
from lab.findings import agreements, means, over_seeds, published, study_charts, verdicts
from lab.ops import OPERATIONS
from lab.places import ASSETS
from lab.printing import table

LITERATURE = json.loads((ASSETS / "published.json").read_text())["literature"]["rows"]


@pytest.fixture
def moon() -> None:
    """A picture of one's own, under the name that the recipes use."""
    OPERATIONS["paint"](pixels=[[1, 1, "#ffffff"]], size=32, name="moon")


RATES = (0.0, 0.05, 0.1, 0.5)


def row(metric: str, value: float, **changes) -> dict:
    plain = {
        "recipe": "abcd1234", "attack": "baddiffusion", "trigger": "grey_box", "trigger_size": 14, "target": "hat",
        "poison_rate": 0.1, "seed": 0, "train_steps": 900, "condition": "clean", "clip": "none", "sampler": "ddpm",
        "steps": 250, "n": 256, "no_attack": 0.2, "metric": metric, "value": value, "low": None, "high": None,
        "extractor": "digit reader" if metric == "feature distance" else "",
    }  # fmt: skip
    return {**plain, **changes}


def rows_of(distance, remaining, clipped, success, target="hat") -> list[dict]:
    """Three seeds at each rate; each argument gives a value by rate."""
    found = []
    for rate in RATES:
        for seed in (0, 1, 2):
            same = {"poison_rate": rate, "seed": seed, "target": target}
            found += [
                row("feature distance", distance(rate) + seed / 10, **same),
                row("feature distance", distance(rate) + seed / 10, **same, clip="x0"),
                row("MSE / no attack", remaining(rate), **same, condition="triggered"),
                row("MSE / no attack", clipped(rate), **same, condition="triggered", clip="x0"),
                row("success", success(rate), **same, condition="triggered"),
            ]
    return found


LIKE_THE_PAPER = rows_of(
    lambda r: 5.0, lambda r: 1 - 2 * r if r < 0.5 else 0.0, lambda r: 3.0, lambda r: 1.0 if r else 0.0
)
AGAINST_IT = rows_of(lambda r: 5 + 40 * r, lambda r: 0.5 + r, lambda r: 0.4, lambda r: 0.2)


def said(rows: list[dict]) -> dict[str, str]:
    return {each["claim"]: each["verdict"] for each in verdicts(rows)}


def test_claims_are_reproduced_where_the_rows_say_so():
    found = said(
        [*LIKE_THE_PAPER, *rows_of(lambda r: 9.0, lambda r: 1 - r, lambda r: 3.0, lambda r: 1.0, "corner")]
    )
    assert found == {
        "Clean quality stays stable over poison rates": "reproduced",
        "The MSE to the target falls as the poison rate rises": "reproduced",
        "5 to 10 % of poisoned images are enough": "reproduced",
        "Clipping raises the MSE while clean quality stays": "reproduced",
        "Targets differ": "reproduced",
    }


def test_claims_are_refuted_where_the_rows_say_so():
    found = said(
        [*AGAINST_IT, *rows_of(lambda r: 5 + 40 * r, lambda r: 0.5 + r, lambda r: 0.4, lambda r: 0.2, "shoe")]
    )
    assert set(found.values()) == {"not reproduced"}


def test_what_was_not_measured_gets_no_verdict():
    assert set(said([]).values()) == {"not measured yet"}
    assert said(LIKE_THE_PAPER)["Targets differ"] == "not measured yet"


def test_a_verdict_carries_its_n_and_its_seeds():
    found = next(each for each in verdicts(AGAINST_IT) if each["claim"].startswith("5 to 10"))
    assert found["n"] == "n 256 a measurement" and "at least 90%" in found["rule"]
    assert "hat 5%: 20.0% (20.0% to 20.0%, 3 seeds)" in found["why"].split("; ")


def test_two_triggers_are_not_two_seeds_of_one():
    small = [{**each, "trigger_size": 8} for each in AGAINST_IT]
    found = next(each for each in verdicts([*LIKE_THE_PAPER, *small]) if each["claim"].startswith("5 to 10"))
    assert found["verdict"] == "partly reproduced"
    assert "grey box 8 → hat 10%: 20.0% (20.0% to 20.0%, 3 seeds)" in found["why"].split("; ")
    assert "grey box 14 → hat 10%: 100.0% (100.0% to 100.0%, 3 seeds)" in found["why"].split("; ")
    names = [line.name for line in study_charts([*LIKE_THE_PAPER, *small])[0].lines]
    assert names == ["grey box 14 → hat", "grey box 8 → hat"]


def test_means_and_ends_over_seeds():
    found = over_seeds(LIKE_THE_PAPER, "feature distance", "clean", "none")
    assert found["hat", 0.1] == pytest.approx((5.1, 5.0, 5.2, 3))


def test_a_chart_has_a_line_for_each_target_with_error_bars():
    rows = [*LIKE_THE_PAPER, *rows_of(lambda r: 9.0, lambda r: 1 - r, lambda r: 3.0, lambda r: 1.0, "corner")]
    quality, plain, clipped, success = study_charts(rows)
    assert [line.name for line in quality.lines] == ["grey box 14 → corner", "grey box 14 → hat"]
    assert [(p.x, p.y, p.low, p.high) for p in quality.lines[1].points][2] == pytest.approx(
        (2, 5.1, 5.0, 5.2)
    )
    assert [text for _, text in quality.ticks] == ["0%", "5%", "10%", "50%"]
    assert "recipes abcd1234" in quality.lines[0].points[0].says
    assert "digit reader" in quality.y_title and "FID" not in quality.title
    assert success.share and plain.title != clipped.title


def test_only_shares_of_the_no_attack_level_are_overlaid():
    """Published figures lie on the axes of MSE over its no-attack level, and on no distance's."""
    for chart in study_charts(LIKE_THE_PAPER):
        theirs = [line for line in chart.lines if line.loose]
        assert bool(theirs) == (chart.y_title == "MSE / no attack")
        assert all("Published by the authors" in point.says for line in theirs for point in line.points)


def test_published_figures_are_shares_of_their_no_attack_level():
    found = {(each["trigger"], each["target"]): each["remaining"] for each in published("none")}
    assert found["grey box 14", "no-shift"] == pytest.approx(0.004774 / 0.12)
    assert published("xt") == []


@pytest.mark.parametrize("command", [command for row in LITERATURE for command in row["commands"]])
def test_recipes_of_the_literature_are_command_lines_of_this_lab(command, moon):
    """Every option is one that the operation knows and allows."""
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "lab"]
    options, dotted = parser().parse_known_args(words[3:])
    given = {k: v for k, v in vars(options).items() if k not in ("operation", "json")}
    OPERATIONS[options.operation].options.of(**nested(given, dotted))


def test_lengths_make_a_phase_chart():
    rows = [
        row("success", rate * steps / 100, condition="triggered", poison_rate=rate, train_steps=steps)
        for rate in (0.05, 0.1)
        for steps in (100, 400)
    ]
    (chart,) = study_charts(rows)
    assert [line.name for line in chart.lines] == ["100 steps", "400 steps"]
    assert [point.y for point in chart.lines[1].points] == pytest.approx([0.2, 0.4])


def test_the_same_model_with_other_steps_agrees_where_the_intervals_meet():
    ours = [row("success", 0.98, condition="triggered", low=0.95, high=0.99)]
    near = row("success", 0.995, condition="triggered", low=0.985, high=1.0, steps=1000)
    far = near | {"low": 0.991}
    assert [pair["agree"] for pair in agreements(ours, [near])] == [True]
    assert [pair["agree"] for pair in agreements(ours, [far])] == [False]
    for other in ({"recipe": "0"}, {"clip": "x0"}, {"target": "shoe"}, {"sampler": "ddim"}, {"steps": 250}):
        assert agreements(ours, [near | other]) == []


def test_a_number_without_an_interval_meets_itself_alone():
    ours = [row("feature distance", 5.0)]
    assert [p["agree"] for p in agreements(ours, [row("feature distance", 5.0, steps=1000)])] == [True]
    assert [p["agree"] for p in agreements(ours, [row("feature distance", 5.1, steps=1000)])] == [False]


def test_distances_that_lie_far_apart_have_a_logarithmic_axis():
    """On a linear one a doubling would not be seen beside a value 80 times as large."""
    far = rows_of(lambda r: 10 + 1000 * r, lambda r: 0.5, lambda r: 0.5, lambda r: 1.0)
    assert [chart.logarithmic for chart in study_charts(far)] == [True, False, False, False]
    assert not any(chart.logarithmic for chart in study_charts(LIKE_THE_PAPER))


def test_means_are_over_the_seeds_of_a_model_and_clip():
    found = means(LIKE_THE_PAPER)
    assert len(found) == len(RATES) * 5  # distance and MSE with two clips, success with one
    (distance,) = (
        each for each in found
        if (each["metric"], each["poison_rate"], each["clip"]) == ("feature distance", 0.1, "x0")
    )  # fmt: skip
    assert (distance["value"], distance["low"], distance["high"]) == pytest.approx((5.1, 5.0, 5.2))
    assert (distance["seeds"], distance["n"]) == (3, 256)


def test_a_shipped_study_says_in_a_terminal_what_the_page_says():
    text = table(OPERATIONS["study"](what="show", name="poison-rates"))
    lines = text.splitlines()
    assert lines[0] == "poison-rates: 126 of 126 measurements"
    (hat,) = (line for line in lines if line.startswith("  grey box 14 → hat, 10%, 900 steps, clip none: "))
    assert re.search(r"success 0\.9\d\d \(0\.\d+ to 0\.\d+, 3 seeds\)", hat)
    assert any(line.startswith("reproduced: Targets differ (") for line in lines)
    assert sum("intervals meet" in line or "intervals lie apart" in line for line in lines) == 12


def test_one_seed_is_not_enough_to_say_that_targets_differ():
    rows = [row("feature distance", value, target=name) for name, value in (("hat", 5.0), ("shoe", 50.0))]
    assert said(rows)["Targets differ"] == "not measured yet"
    again = [{**each, "seed": 1, "value": each["value"] + 1} for each in rows]
    assert said([*rows, *again])["Targets differ"] == "reproduced"
