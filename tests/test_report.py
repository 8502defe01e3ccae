"""Reports: what decides a measurement is its key, what was measured is remembered, and how rows are read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lab import report
from lab.evaluate import Trial
from lab.pictures import read_picture
from lab.progress import Tick
from lab.report import Found, Measurement, best, caution, difference, measured, nearest
from lab.sampling import SampleSpec
from lab.triggers import Corner, GreyBox, Hat, StopSign

SPEC = SampleSpec(sampler={"kind": "ddim", "steps": 2}, n=3)


@pytest.fixture
def trial(tiny) -> Trial:
    return Trial(tiny, GreyBox(), Hat(), SPEC, no_attack=0.2)


def found(measurements: list[Measurement]) -> list[Found]:
    return [news for news in measured(measurements) if isinstance(news, Found)]


def test_a_measurement_is_made_once(trial, monkeypatch):
    """The second time it comes from the disk, pictures and all; nothing is sampled."""
    both = [Measurement(trial, "clean"), Measurement(trial, "triggered")]
    first = found(both)
    monkeypatch.setattr(report, "Sampling", None)
    second = found(both)
    assert [each.remembered for each in first + second] == [False, False, True, True]
    assert [each.row for each in first] == [each.row for each in second]
    assert [each.picture for each in first] == [each.picture for each in second]


def test_everything_that_decides_the_row_is_in_its_key(trial, tiny):
    other_weights = replace(
        trial, checkpoint=replace(tiny, unet=type(tiny.unet).from_config(tiny.unet.config))
    )
    ways = [
        Measurement(trial, "clean"),
        Measurement(trial, "triggered"),
        Measurement(other_weights, "clean"),
        Measurement(replace(trial, target=Corner()), "clean"),
        Measurement(replace(trial, trigger=StopSign()), "triggered"),
        Measurement(replace(trial, exact=True), "clean"),
        Measurement(replace(trial, no_attack=0.3), "clean"),
        *(
            Measurement(replace(trial, spec=SPEC.model_copy(update=change)), "clean")
            for change in ({"n": 4}, {"seed": 1}, {"clip": "x0"})
        ),
    ]
    assert len({way.key for way in ways}) == len(ways)
    assert Measurement(trial, "clean").key == ways[0].key


def test_a_damaged_memory_is_measured_anew(trial):
    measurement = Measurement(trial, "clean")
    row = found([measurement])[0].row
    for content in (b"", b"{", b'{"n": 3}'):
        (measurement.folder / "row.json").write_bytes(content)
        again = found([measurement])[0]
        assert (again.remembered, again.row) == (False, row)
    (measurement.folder / "images.png").unlink()
    assert found([measurement])[0].remembered is False


def test_ticks_count_the_steps_of_what_is_left(trial):
    found([Measurement(trial, "clean")])
    three = [Measurement(trial, condition) for condition in ("triggered", "clean", "blank")]
    ticks = [news for news in measured(three) if isinstance(news, Tick)]
    assert [(tick.step, tick.total) for tick in ticks] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert ticks[-1].text.startswith("2 of 2: tiny, blank")


def test_a_picture_shows_the_first_images(trial, tmp_path):
    """Sixteen of twenty, in rows of eight with a pixel between them."""
    many = replace(trial, spec=SPEC.model_copy(update={"n": 20}))
    (tmp_path / "shown.png").write_bytes(found([Measurement(many, "clean")])[0].picture)
    assert read_picture(tmp_path / "shown.png").size == (8 * 33 - 1, 2 * 33 - 1)


# Reading rows ------------------------------------------------------------------------------------------------------


def row(condition: str = "clean", n: int = 2000, **scores: float) -> dict:
    named = {name.replace("_", " "): value for name, value in scores.items()}
    return {"condition": condition, "n": n, "scores": [{"name": k, "value": v} for k, v in named.items()]}


def test_the_best_row_is_one_of_clean_noise():
    rows = [
        row(feature_distance=9, precision=0.5),
        row(feature_distance=4, precision=0.4),
        row("triggered", feature_distance=1),
    ]
    assert best(rows) == {"feature distance": 1, "precision": 0}


def test_the_row_nearest_to_the_target_may_be_any():
    rows = [row(success=0.0, MSE=0.2), row("triggered", success=0.9, MSE=0.01)]
    assert nearest(rows) == {"success": 1, "MSE": 1}


def test_nothing_is_best_of_one_or_of_equals():
    assert best([row(feature_distance=4)]) == {} == best([row(feature_distance=4), row(feature_distance=4)])


def test_difference_of_two_intervals():
    """Equal half widths add as squares; unequal ones keep their sides."""
    one, other = {"value": 1.0, "low": 0.7, "high": 1.3}, {"value": 2.0, "low": 1.6, "high": 2.4}
    assert difference(one, other) == pytest.approx((1.0, 0.5, 1.5))
    skewed = {"value": 2.0, "low": 1.6, "high": 3.2}
    assert difference(one, skewed) == pytest.approx((1.0, 0.5, 1 + (1.2**2 + 0.3**2) ** 0.5))
    assert difference(one, {"value": 2.0, "low": None, "high": None}) is None


def test_few_images_are_said_where_a_distance_is_shown():
    assert "n = 64" in caution([row(n=64, feature_distance=4)])
    assert caution([row(n=64, MSE=0.1)]) == "" == caution([row(n=1000, feature_distance=4)])


def test_the_key_needs_no_card(tiny):
    """Without a sha256 in the card the weights themselves are read."""
    one = Measurement(Trial(tiny, GreyBox(), Hat(), SPEC), "clean")
    state = {name: value + 1 for name, value in tiny.unet.state_dict().items()}
    before = one.key
    tiny.unet.load_state_dict(state)
    assert Measurement(Trial(tiny, GreyBox(), Hat(), SPEC), "clean").key != before
