"""Results of operations as text for people."""

from __future__ import annotations

import json

import pytest

from lab.ops import OPERATIONS, stored
from lab.printing import FORMS, duration, table


@pytest.mark.parametrize(
    ("part", "line"),
    [
        ("detect", r"STRIP, training set: AUROC 1 (0.92 to 1), n 500, 44 of them poisoned"),
        ("classify", "trained on drawn, w = 5, 1,000 pictures, 5.8% with the trigger: test accuracy 82.0%"),
        ("diffusion-classifier", "p_filter 10%: test accuracy 71.0% (61.5% to 79.0%), n 100; attack success 15.2%"),
        ("replicate", "digits-cond-clean, w 5: likeness 0.981 (0.98 to 0.982), n 1,000 by digit reader; copies 6.8%"),
    ],
)  # fmt: skip
def test_a_part_of_the_wall_is_read_line_by_line(part, line):
    found = stored("digits-cond-patch", part)
    assert found is not None
    assert line in table(found) and "{" not in table(found)


def test_what_comes_out_of_a_model_is_a_line_for_each_key():
    scores = {"psnr": 22.123, "low": None, "high": None, "n": 1, "success": 1.0}
    found = {"checkpoint": "m", "key": "", "secret": "", "found": [{"means": "with the key", "added": "grey box", **scores}]}  # fmt: skip
    assert table(found) == "m\nwith the key (grey box): PSNR 22.1 dB, 100% are the secret, n 1"


def test_an_estimate_is_said_as_a_person_would():
    assert table({"seconds": 1319.4}) == "about 22 min on this device"
    assert [duration(s) for s in (0.2, 89, 90, 5399, 5400)] == ["1 s", "89 s", "2 min", "90 min", "1.5 h"]


def test_a_planned_training_is_four_lines():
    attack = {"kind": "baddiffusion", "poison_rate": 0.1}
    found = OPERATIONS["plan"](base="mnist-clean", attack=attack, steps=100, batch=45)
    time, size, tampers, command = table(found).splitlines()
    assert time.startswith("about ") and "on this cpu" in time
    assert size == "100 steps, 1 passes over 4,500 images, 450 of them poisoned"
    assert tampers.startswith("tampers with the forward process") and command == found["command"]


def test_what_has_no_form_is_whole_json():
    described = OPERATIONS["describe"](checkpoint="mnist-clean")
    assert "mnist-clean" in table(described)
    assert json.loads(table({"a": {"b": [1, "data:image/png;base64,xx"]}})) == {
        "a": {"b": [1, "(a picture)"]}
    }


def test_no_form_is_hidden_by_one_before_it():
    for place, (keys, _) in enumerate(FORMS):
        assert not any(before <= keys for before, _ in FORMS[:place]), keys
