"""Two runs side by side, and a run's recipe once more: what differs is said, and nothing is lost on the way."""

from __future__ import annotations

import json
import shlex
from typing import Any

import background
import pytest
from asking import decoded, refusal
from background import ODD, sampled, tick, ticked

from lab.cli import main, nested, parser, table
from lab.ops import OPERATIONS
from lab.ops.again import next_title
from lab.ops.diff import differences, said
from lab.ops.jobs import POINTS, SubmitOptions, thinned
from lab.store import About, Store, Stored


def stored(**options: Any) -> Stored:
    """A run of this lab that nobody starts."""
    return background.stored(Store(), **options)


# diff --------------------------------------------------------------------------------------------------------------


def compared(a: Stored, b: Stored) -> dict[str, Any]:
    return OPERATIONS["diff"](a=a.id, b=b.id)


def differing(**options: Any) -> dict[str, tuple[str, str]]:
    """What is said of a run with these options beside the one called odd."""
    found = compared(stored(**ODD), stored(**{**ODD, **options}))["differences"]
    return {line["what"]: (line["a"], line["b"]) for line in found}


def test_equal_recipes_have_no_differences():
    assert differing() == differing(title="another name", previews=1) == {}


def test_only_what_differs_is_said_and_in_words():
    attack = {**ODD["attack"], "poison_rate": 0.3, "trigger": {**ODD["attack"]["trigger"], "size": 8}}
    assert differing(attack=attack, lr=0.001, steps=78) == {
        "trigger size": ("9", "8"),
        "poison rate": ("0.123", "0.3"),
        "learning rate": ("0.00037", "0.001"),
        "steps": ("77", "78"),
    }


def test_another_kind_is_said_with_its_options():
    attack = {**ODD["attack"], "trigger": "blank"}
    assert differing(attack=attack)["trigger"] == ("stop sign (size 9, form masked)", "blank")
    assert differing(attack="none")["attack"][1] == "none (poison rate 0)"


def test_a_base_and_a_fresh_network_are_said():
    found = differing(base="", net={"widths": [8, 16]})
    assert found["start from"] == ("mnist-clean", "from scratch")
    assert found["network"][0] == "–" and "widths 8, 16" in found["network"][1]


def test_options_that_an_older_recipe_leaves_out_do_not_differ():
    old, new = stored(**{**ODD, "warmup": 100}), stored(**{**ODD, "warmup": 100, "title": "new"})
    recipe = old.recipe
    del recipe["train"]["warmup"], recipe["attack"]["trigger"]["form"]
    (old.folder / "recipe.json").write_text(json.dumps(recipe))
    assert [line["what"] for line in compared(old, new)["differences"]] == ["trigger form"]  # not its default


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (True, "yes"),
        (None, "–"),
        ([], "–"),
        ([8, 16], "8, 16"),
        (1e-4, "0.0001"),
        ({"kind": "grey_box"}, "grey box"),
    ],
    ids=str,
)
def test_values_are_said_as_people_say_them(value, words):
    assert said(value) == words


def test_a_part_that_only_one_recipe_has_is_named():
    assert list(differences({"x": 1}, {"y_z": 2})) == [
        {"what": "x", "a": "1", "b": "–"},
        {"what": "y z", "a": "–", "b": "2"},
    ]


def test_both_curves_and_the_newest_samples_are_there():
    one = sampled(sampled(stored(**ODD), 10, 0.25), 20, 0.75)
    ticked(one, tick(10, loss_clean=0.5, loss_poisoned=0.9), tick(20, loss_clean=0.4))
    found = compared(one, stored(**{**ODD, "seed": 1}))
    assert found["a"]["curves"] == {
        "loss_clean": [(10, 0.5), (20, 0.4)],
        "loss_poisoned": [(10, 0.9)],
        "success": [(10, 0.25), (20, 0.75)],
    }
    assert found["a"]["newest"]["step"] == 20
    assert decoded(found["a"]["newest"]["pictures"]["triggered"]).size == (20, 4)
    assert (found["a"]["step"], found["a"]["total"], found["a"]["left"]) == (20, 100, 40)
    assert found["a"]["pace"] == 2 and found["b"]["pace"] is None
    assert found["b"]["newest"] is None and set(map(len, found["b"]["curves"].values())) == {0}


def test_a_success_that_is_not_known_is_no_point_of_a_curve():
    assert compared(sampled(stored(**ODD), 10, None), stored(**ODD))["a"]["curves"]["success"] == []


def test_a_run_is_not_compared_with_itself_or_with_nothing():
    run = stored(**ODD).id
    assert "two different runs" in refusal("diff", a=run, b=run)
    assert "no run" in refusal("diff", a=run, b="deadbeef-1")
    assert "no run" in refusal("diff", a=run)


@pytest.mark.parametrize("count", [0, 1, POINTS - 1, POINTS, 2 * POINTS + 3, 7 * POINTS])
def test_a_long_curve_is_thinned_and_keeps_its_ends(count):
    found = thinned([tick(k) for k in range(count)])
    assert len(found) == min(count, len(found)) <= 2 * POINTS + 1
    assert [each["step"] for each in found[:1] + found[-1:]] == ([0, count - 1] if count else [])
    assert len({each["step"] for each in found}) == len(found)


def test_a_terminal_shows_the_differences_and_no_picture(capsys):
    one, other = sampled(stored(**ODD), 10, 1.0), stored(**{**ODD, "seed": 5, "title": "other"})
    assert main(["diff", "--a", one.id, "--b", other.id]) == 0
    shown = capsys.readouterr().out
    assert "seed: 41 | 5" in shown and "success 1.0000" in shown and "b: other" in shown
    assert "base64" not in shown
    main(["show", one.id])
    shown = capsys.readouterr().out
    assert "(a picture)" in shown and "base64" not in shown


def test_a_table_without_pictures_changes_nothing_else():
    result = {"a": [1, None, "text"], "b": {"c": True}}
    assert json.loads(table(result)) == result


# again -------------------------------------------------------------------------------------------------------------


def parsed(command: str) -> SubmitOptions:
    words = shlex.split(command)
    assert words[:4] == ["python", "-m", "lab", "submit"]
    options, dotted = parser().parse_known_args(words[3:])
    given = {k: v for k, v in vars(options).items() if k not in ("operation", "json")}
    return SubmitOptions.of(**nested(given, dotted))


@pytest.mark.parametrize(
    "options",
    [
        ODD,
        {},
        {"attack": "none", "dataset": "emoji", "net": {"widths": [8, 16], "attention": [1]}},
        {"dataset": {"kind": "folder", "path": "some/where", "side": 64}, "net": {"norm_num_groups": 4}},
        {"net": {"side": 16, "widths": [16]}, "dataset": "emoji", "title": "small 9"},
    ],
    ids=["odd", "defaults", "from scratch", "a folder", "another side"],
)
def test_a_recipe_comes_back_whole_as_options_and_as_a_command(options):
    run = stored(**options)
    found = OPERATIONS["again"](run=run.id)
    assert json.loads(json.dumps(found)) == found
    for once_more in (SubmitOptions.of(**found["options"]), parsed(found["command"])):
        assert once_more.recipe().as_json() == run.recipe
        assert once_more.about().previews == run.about.previews
        assert once_more.title == next_title(run.about.title)


def test_a_fresh_network_takes_the_size_of_another_dataset():
    run = stored(net={"widths": [8, 16]}, dataset="digits")
    options = OPERATIONS["again"](run=run.id)["options"]
    assert options["net"] == {"widths": [8, 16]}
    changed = SubmitOptions.of(**{**options, "dataset": "emoji"}).recipe().net
    assert (changed.channels, changed.side) == (3, 32)


@pytest.mark.parametrize(
    ("title", "following"),
    [("hat", "hat 2"), ("hat 2", "hat 3"), ("hat 99", "hat 100"), ("7", "7 2"), ("x" * 80, "x" * 78 + " 2")],
)
def test_the_next_title_counts(title, following):
    assert next_title(title) == following
    assert About(title=following).title == following


def test_a_damaged_recipe_is_said():
    run = stored()
    (run.folder / "recipe.json").write_text("{")
    assert "damaged" in refusal("again", run=run.id)


def test_the_command_says_only_what_is_not_usual():
    command = OPERATIONS["again"](run=stored(title="plain").id)["command"]
    assert command == "python -m lab submit --title 'plain 2'"
