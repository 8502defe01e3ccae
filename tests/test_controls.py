"""Forms made from option models: what is shown comes back, and the parts of the page that hold them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import background
import gradio as gr
import pytest
from background import ODD

from lab import ops
from lab.errors import LabError
from lab.ops import OPEN_DATASETS, OPERATIONS
from lab.ops.jobs import SubmitOptions
from lab.store import Store
from lab.ui.controls import Chooser, read, written
from lab.ui.form import TrainingForm
from lab.ui.runs import FITTING, Runs


@pytest.fixture
def form() -> Iterator[TrainingForm]:
    with gr.Blocks():
        yield TrainingForm()


@pytest.fixture
def runs() -> Iterator[Runs]:
    with gr.Blocks():
        yield Runs()


def value(component: Any, update: Any) -> Any:
    """What a component holds after an update."""
    if isinstance(update, dict) and update.get("__type__") == "update":
        return update.get("value", component.value)
    return update


def held(form: TrainingForm, options: dict[str, Any]) -> dict[str, Any]:
    """What the form says after it was made to show these options."""
    pairs = zip(form.components, form.show(options), strict=True)
    return form.collect(tuple(value(*pair) for pair in pairs))


@pytest.mark.parametrize(
    "options",
    [ODD, {}, {"attack": "none"}, {"net": {"widths": [8, 16], "attention": [1]}, "title": "fresh"}],
    ids=["odd", "defaults", "honest", "a network"],
)
def test_the_form_holds_every_field_of_a_run(form, options):
    run = background.stored(Store(), **options)
    again = OPERATIONS["again"](run=run.id)["options"]
    asked = SubmitOptions.of(**held(form, again))
    assert asked.recipe().as_json() == run.recipe
    assert (asked.title, asked.previews) == (again["title"], run.about.previews)


def test_a_form_that_was_used_keeps_nothing_of_what_it_held(form):
    runs = [background.stored(Store(), **options) for options in (ODD, {})]
    odd, plain = (OPERATIONS["again"](run=run.id)["options"] for run in runs)
    for component, update in zip(form.components, form.show(odd), strict=True):
        component.value = value(component, update)
    assert SubmitOptions.of(**held(form, plain)).recipe().as_json() == runs[1].recipe


def test_what_the_page_cannot_choose_is_refused(form):
    run = background.stored(Store(), dataset={"kind": "folder", "path": "some/where"})
    with pytest.raises(LabError, match="no dataset 'folder'"):
        form.show(OPERATIONS["again"](run=run.id)["options"])
    with pytest.raises(LabError, match="no model 'gone' to start from"):
        form.show({**OPERATIONS["again"](run=run.id)["options"], "base": "gone"})


@pytest.mark.parametrize(
    "text", ["{widths: [8]}", "{", "8,", "[" * 100_000, "{'widths': [8]}"], ids=lambda t: t[:20]
)
def test_options_that_are_no_json_get_a_sentence(text):
    with pytest.raises(LabError, match="The network is written as JSON"):
        read(text, "network")


def test_usual_options_are_written_as_nothing():
    assert written({}) == "" and read("", "network") == read(None, "network") == {}
    assert read(written({"widths": [8, 16]}), "network") == {"widths": [8, 16]}


def test_pictures_are_chosen_where_they_are_wanted_and_offered_everywhere(form):
    ops.OPERATIONS["paint"](pixels=[[1, 2, "#ffffff"]], name="dot")
    for use in ("trigger", "target"):
        said, *updates = form.own._kept("dot", use)
        assert f"it is the {use} now" in said
        for (each, chooser), update in zip(form.own.choosers, of_choosers(form, updates), strict=True):
            kind, *dropdowns = update
            assert all(dropdown["choices"] == ["", "dot"] for dropdown in dropdowns)
            chosen = {dropdown.get("value") for dropdown in dropdowns}
            assert (kind, chosen) == ("own", {"dot"}) if each == use else chosen == {None}, chooser


def of_choosers(form: TrainingForm, updates: list[Any]) -> Iterator[list[Any]]:
    """The updates of each chooser: of its kind, and of its dropdowns."""
    for _, chooser in form.own.choosers:
        count = 1 + len(chooser.own)
        yield updates[:count]
        updates = updates[count:]


def test_choosers_are_found_within_others(form):
    assert [chooser.registry.what for chooser in form.attack.within("trigger")] == ["trigger"]
    assert form.attack.within("attack") == [form.attack]
    assert form.dataset.within("trigger") == []


def test_a_new_data_set_is_offered_and_nothing_is_chosen():
    with gr.Blocks():
        chooser = Chooser(OPEN_DATASETS, {"kind": "digits"})
    kind, dropdown = chooser.choose_own(["mine"], None)
    assert kind == gr.skip() and dropdown["choices"] == ["", "mine"] and "value" not in dropdown


# The panel of runs -------------------------------------------------------------------------------------------------


def looked(runs: Runs, *asked: Any) -> dict[str, Any]:
    """Updates of a look by their component; what is not sent again is left out."""
    names = ["run", "other", "live", "details", *runs.buttons, "seen"]
    updates = dict(zip(names, runs.look(*asked), strict=True))
    return {name: update for name, update in updates.items() if update != gr.skip()}


def test_without_runs_there_is_a_sentence_and_no_button(runs):
    found = looked(runs, None, "", [])
    assert "No run yet" in found["live"]["value"]
    assert not any(found[name]["interactive"] for name in runs.buttons)


def test_the_newest_run_is_chosen_and_what_is_known_is_not_sent_again(runs):
    old, new = (background.stored(Store(), title=title) for title in ("old", "new"))
    first = looked(runs, None, "", [])
    assert first["run"]["value"] == new.id
    assert [value for _, value in first["run"]["choices"]] == [new.id, old.id]
    assert [value for _, value in first["other"]["choices"]] == ["", old.id]
    second = looked(runs, new.id, "", first["seen"])
    third = looked(runs, new.id, "", second["seen"])
    assert set(third) == {"seen"}
    background.ticked(new, background.tick(10, loss_clean=0.5), background.tick(20, loss_clean=0.4))
    assert set(looked(runs, new.id, "", third["seen"])) == {"live", "seen"}


def test_buttons_fit_the_condition_of_the_run(runs):
    for condition in ("stopped", "done", "failed"):
        run = background.stored(Store(), condition, title=condition)
        found = looked(runs, run.id, "", [])
        assert {name for name in runs.buttons if found[name]["interactive"]} == {
            name for name, fitting in FITTING.items() if condition in fitting
        }


def test_a_second_run_is_shown_beside_and_is_never_the_same(runs):
    a, b = (background.stored(Store(), title=title, seed=k) for k, title in enumerate(("one", "two")))
    assert "What differs" in looked(runs, a.id, b.id, [])["live"]["value"]
    found = looked(runs, b.id, b.id, [])
    assert found["other"]["value"] == "" and "What differs" not in found["live"]["value"]
    OPERATIONS["delete"](run=b.id)
    assert looked(runs, a.id, b.id, [])["other"]["value"] == ""


def test_a_chooser_shows_the_options_of_its_default():
    default = {"kind": "grey_box", "form": "masked"}
    with gr.Blocks():
        chooser = Chooser(ops.TRIGGERS, default)
    found = chooser.collect([part.value for part in chooser.components])
    assert found == {"kind": "grey_box", "size": 14, "form": "masked"}
