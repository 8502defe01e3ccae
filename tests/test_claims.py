"""Claims about poisoned data: what plain rows say for them, against them, and not at all."""

from __future__ import annotations

from typing import Any

import pytest

from lab import claims
from lab.changes import changed, difference
from lab.claims import verdicts
from lab.sides import DETECTORS, headlines, wall_charts

PATCH = {"kind": "patch"}


def score(value: float, half: float = 0.02, n: int = 500) -> dict[str, Any]:
    return {"value": value, "low": value - half, "high": value + half, "n": n}


def census(rate: float, w: float, g1: float, g2: float, r: float, **changes: Any) -> dict[str, Any]:
    shares = {"G1": g1, "G2": g2, "G3": 0.0, "G4": 1 - g1 - g2, "G1+G2": g1 + g2}
    plain = {
        "stamp": PATCH,
        "poison_rate": rate,
        "which": "random",
        "guidance": w,
        "r": r,
        "n": 500,
        "training_seed": 0,
    }
    counts = {name: round(500 * share) for name, share in shares.items()}
    return {
        **plain,
        "counts": counts,
        "shares": {name: score(value) for name, value in shares.items()},
        **changes,
    }


def wall(part: str, rate: float, seed: int = 0, **found: Any) -> dict[str, Any]:
    return {
        "part": part,
        "stamp": PATCH,
        "poison_rate": rate,
        "which": "random",
        "training_seed": seed,
        **found,
    }


def detected(rate: float, before: float, after: float, seed: int = 0) -> dict[str, Any]:
    sets = {
        name: [{"detector": {"kind": kind}, "auroc": score(value)} for kind in DETECTORS]
        for name, value in (("training", before), ("generated", after))
    }
    return wall("detect", rate, seed, **sets)


def classified(rate: float, drawn: float, right: float = 0.9, seed: int = 0) -> dict[str, Any]:
    rows = [
        {"attack_success": score(a), "test_accuracy": score(t)}
        for a, t in ((1.0, 0.99), (1.0, 0.95), (drawn, right))
    ]
    return wall("classify", rate, seed, rows=rows)


def voted(rate: float, plain: float, filtered: float, right: float = 0.95, seed: int = 0) -> dict[str, Any]:
    ends = ((0.0, plain, 0.96), (0.1, filtered, right))
    votes = [{"p_filter": p, "attack_success": score(a), "test_accuracy": score(t)} for p, a, t in ends]
    return wall("diffusion-classifier", rate, seed, votes=votes)


def replicated(rate: float, likeness: float, distance: float, seed: int = 0) -> dict[str, Any]:
    row = {"likeness": score(likeness, 0.001), "copies": score(0.05), "distance": score(distance, 2.0)}
    return wall("replicate", rate, seed, rows=[row])


def judged(censuses: list[dict[str, Any]], walls: list[dict[str, Any]] = ()) -> dict[str, str]:  # type: ignore[assignment]
    return {each["claim"]: each["verdict"] for each in verdicts(censuses, walls)}


def test_nothing_is_said_of_what_was_not_measured():
    assert set(judged([]).values()) == {"not measured yet"}


def test_every_claim_stands_beside_what_its_authors_report():
    found = {each["claim"]: each["reported"] for each in verdicts([])}
    ours = {claims.CONTROL, claims.GUIDED, claims.UNTOUCHED}
    assert len(found) == 15 and {claim for claim, reported in found.items() if not reported} == ours


def test_generations_that_do_as_the_paper_says():
    rows = [census(0.05, 0, 0.3, 0.0, 0.33), census(0.05, 5, 0.15, 0.4, 0.33), census(0.1, 0, 0.45, 0.0, 0.5)]
    rows += [census(0.1, 5, 0.3, 0.3, 0.5), census(0.0, 5, 0.0, 0.0, 0.0)]
    found = judged(rows)
    assert found[claims.AMPLIFIED] == found[claims.SHIFTED] == "reproduced"
    assert found[claims.CONTROL] == found[claims.UNTOUCHED] == "holds"


def test_generations_that_do_not():
    found = judged(
        [census(0.05, 0, 0.5, 0.0, 0.33), census(0.05, 5, 0.1, 0.05, 0.33), census(0.0, 5, 0.1, 0.0, 0.0)]
    )
    assert found[claims.AMPLIFIED] == "reversed at this scale"
    assert found[claims.CONTROL] == found[claims.UNTOUCHED] == "does not hold"


@pytest.mark.parametrize(
    ("g1", "g2", "verdict"),
    [(0.1, 0.3, "holds"), (0.3, 0.1, "does not hold"), (0.4, 0.0, "the opposite holds")],
)
def test_guidance_is_held_against_the_same_model_without(g1, g2, verdict):
    """What another seed draws, what carries no stamp and what was poisoned at another rate says nothing."""
    rows = [census(0.1, 0, 0.3, 0.1, 0.5), census(0.1, 1, 0.0, 0.4, 0.5), census(0.1, 5, g1, g2, 0.5)]
    rows += [census(0.1, 5, 0.2, 0.2, 0.5, training_seed=1), census(0.01, 0, 0.0, 0.0, 0.1)]
    rows += [census(0.01, 5, 0.0, 0.1, 0.1)]
    (said,) = [each for each in claims.verdicts(rows) if each["claim"] == claims.GUIDED]
    assert said["verdict"] == verdict and "of 200 and 200 with a stamp, w 5" in said["why"]


def test_one_of_two_is_a_part():
    found = judged([census(0.05, 5, 0.15, 0.4, 0.33), census(0.1, 5, 0.25, 0.25, 0.5)])
    assert found[claims.AMPLIFIED] == "partly reproduced"


@pytest.mark.parametrize(
    ("more", "verdict"), [(0.2, "reproduced"), (0.0, "not reproduced"), (-0.2, "reversed at this scale")]
)
def test_duplicates_are_held_against_random_images_of_the_same_model_family(more, verdict):
    plain = [census(0.1, w, 0.3, 0.2, 0.5) for w in (0, 2)]
    other = [census(0.1, w, 0.3, 0.2 + more, 0.5, which="duplicated") for w in (0, 2)]
    # no random one of this seed
    stranger = [census(0.1, 2, 0.9, 0.1, 0.5, which="duplicated", training_seed=7)]
    assert judged([*plain, *other, *stranger])[claims.DUPLICATED] == verdict


def test_duplicates_do_not_count_as_generations_of_the_grid():
    rows = [census(0.1, 5, 0.1, 0.1, 0.5, which="duplicated"), census(0.1, 5, 0.4, 0.4, 0.5)]
    assert judged(rows)[claims.AMPLIFIED] == "reproduced"


def test_a_wall_that_does_as_the_paper_says():
    walls = [detected(0.05, 0.9, 0.99), classified(0.05, 0.1), classified(0.1, 0.5), voted(0.05, 0.97, 0.4)]
    walls += [replicated(0.0, 0.95, 20), replicated(0.05, 0.97, 24)]
    found = judged([], walls)
    parts = (
        "EASIER",
        "WALLED",
        "CHEAP",
        "WEAKER",
        "TURNED_BY",
        "FILTERED",
        "FILTER_COST",
        "COPIES",
        "QUALITY",
    )
    assert {found[getattr(claims, name)] for name in parts} == {"reproduced"}


def test_a_wall_that_does_not():
    walls = [
        detected(0.05, 0.9, 0.8),
        classified(0.05, 1.0, 0.6),
        classified(0.1, 0.5, 0.6),
        voted(0.05, 0.5, 0.9, 0.7),
    ]
    walls += [replicated(0.0, 0.97, 20), replicated(0.05, 0.95, 26)]
    found = judged([], walls)
    assert {found[c] for c in (claims.EASIER, claims.WEAKER, claims.FILTERED, claims.COPIES)} == {
        "reversed at this scale"
    }
    assert {found[c] for c in (claims.CHEAP, claims.TURNED_BY, claims.FILTER_COST, claims.QUALITY)} == {
        "not reproduced"
    }
    assert found[claims.WALLED] == "partly reproduced"


def test_the_wall_weakens_between_models_of_one_seed():
    """While a study runs, more seeds have one rate than the other; what has no partner waits."""
    walls = [classified(0.05, 0.2), classified(0.1, 0.6), classified(0.1, 0.0, seed=1)]
    assert judged([], walls)[claims.WEAKER] == "reproduced"
    assert judged([], walls[1:])[claims.WEAKER] == "not measured yet"


def test_a_ratio_to_nothing_is_not_a_number():
    rows = [census(0.01, 5, 0.0, 0.02, 0.09), census(0.1, 5, 0.3, 0.3, 0.5)]
    (said,) = [each for each in claims.verdicts(rows) if each["claim"] == claims.SHIFTED]
    assert said["verdict"] == "reproduced" and "G2/G1 ∞ to 1.00" in said["why"]


def test_headlines_are_means_at_the_largest_rate_and_guidance():
    rows = [census(0.1, 5, 0.2, 0.3, 0.5), census(0.1, 5, 0.4, 0.1, 0.5, training_seed=1)]
    rows += [census(0.1, 2, 0.9, 0.0, 0.5), census(0.05, 5, 0.9, 0.0, 0.3), census(0.0, 5, 0.9, 0.0, 0.0)]
    rows += [census(0.1, 5, 0.9, 0.0, 0.5, which="duplicated")]
    walls = [classified(0.1, 0.2), classified(0.1, 0.4, seed=1), classified(0.05, 0.9)]
    (found,) = headlines(rows, walls)
    assert (found["poison_rate"], found["guidance"], found["seeds"], found["n"]) == (0.1, 5, 2, 500)
    assert found["G1"] == pytest.approx(0.3) and found["G2"] == pytest.approx(0.2)
    assert found["learned"] == [pytest.approx(1.0), pytest.approx(0.3)]


def test_headlines_wait_for_what_is_not_measured():
    assert headlines([census(0.0, 5, 0.0, 0.0, 0.0)], []) == []
    (found,) = headlines([census(0.1, 5, 0.2, 0.3, 0.5)], [wall("classify", 0.1, refused="no stamp")])
    assert found["learned"] == []


def test_where_all_is_found_already_nothing_can_be_easier():
    assert judged([], [detected(0.05, 1.0, 0.9)])[claims.EASIER] == "not measured yet"


def test_what_was_refused_says_nothing():
    """A model that drew no stamp cannot be screened; its training set was, before that was found out."""
    refused = [
        wall(part, 0.05, refused="no stamp")
        for part in ("detect", "classify", "diffusion-classifier", "replicate")
    ]
    assert set(judged([], [*refused, replicated(0.0, 0.9, 20)]).values()) == {"not measured yet"}
    half = wall(
        "detect", 0.05, training=detected(0.05, 0.9, 0.9)["training"], generated=[], refused="no stamp"
    )
    assert judged([], [half])[claims.EASIER] == "not measured yet"
    (chart,) = wall_charts([half, *refused])
    assert [line.name for line in chart.lines] == [f"{name}, training set" for name in DETECTORS.values()]


def test_seeds_that_differ_widen_the_error():
    same, apart = changed([0.1, 0.1, 0.1], [0.01] * 3), changed([0.0, 0.1, 0.2], [0.01] * 3)
    assert same.value == apart.value == pytest.approx(0.1)
    assert same.error == pytest.approx(0.01 / 3**0.5) and apart.error == pytest.approx(0.1 / 3**0.5)
    assert same.is_rise and not apart.is_rise


def test_a_difference_has_the_errors_of_both_sides():
    found = difference([(score(0.2, 0.0196 * 3), score(0.5, 0.0196 * 4))])
    assert (found.value, found.error) == (pytest.approx(0.3), pytest.approx(0.05))
    assert found.said() == "+30.0 ± 9.8 points"


def test_each_stamp_has_its_panels_and_each_score_its_line():
    walls = [detected(rate, 0.9, 0.95, seed) for rate in (0.05, 0.1) for seed in (0, 1)]
    walls += [classified(rate, 0.4) for rate in (0.0, 0.05, 0.1)]
    charts = wall_charts(walls)
    assert [chart.title.split(": ")[1] for chart in charts] == [
        "AUROC",
        "attack success of a classifier",
        "test accuracy of a classifier",
    ]
    assert [line.name for line in charts[1].lines] == [claims.TRAINED, claims.DRAWN]
    assert [point.x for point in charts[1].lines[0].points] == [0, 5, 10], "the control, too"
    assert "2 trained models" in charts[0].lines[0].points[0].says
