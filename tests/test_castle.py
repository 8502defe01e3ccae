"""The operation `castle`: census, amplification, plan, story, phase, and the study through the queue."""

from __future__ import annotations

import json
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import pytest

from lab import claims, poisoning, space
from lab.attacks import BadNets
from lab.castle.survey import Survey
from lab.castle.walls import WALLS, Vote
from lab.cli import main
from lab.errors import LabError
from lab.models import Card, Net, find, fresh, read_card
from lab.ops import OPERATIONS, final
from lab.ops import poisoning as studies
from lab.ops.castle import CastleOptions, castle_seconds, conditional_models, stored
from lab.people import Person, acting_as
from lab.pictures import uri, write_atomically
from lab.poisoning import PoisonStudy
from lab.printing import table
from lab.recipe import Recipe
from lab.sampling import DDIM
from lab.stamps import Blend, Patch
from lab.store import Store
from lab.training import TrainSpec
from lab.ui import castle as page
from lab.worker import work

CASTLE = OPERATIONS["castle"]
QUICK = {"sampler": {"kind": "ddim", "steps": 2}, "n": 6}


def told(**options: Any) -> dict[str, Any]:
    """The last that it says."""
    return final(CASTLE(**options))


@pytest.fixture
def model(lab_home: Path) -> str:
    """A small untrained model that draws digits on request, with the card of a poisoned one."""
    made = fresh(Net(widths=(8, 16), classes=11), 0)
    recipe = Recipe(base="mine", attack=BadNets(poison_rate=0.05)).as_json()
    card = Card(name="asked", backdoored=True, recipe=recipe)
    replace(made, card=card).save(lab_home / "checkpoints" / "asked")
    return "asked"


def test_a_census_adds_up_and_names_what_decides_it(model):
    (row,) = told(what="census", checkpoint=model, guidance=1.0, **QUICK)["census"]
    assert sum(row["counts"].values()) == row["n"] == 6
    assert (row["checkpoint"], row["guidance"], row["poison_rate"]) == ("asked", 1.0, 0.05)
    assert row["r"] == pytest.approx(1 / 3, abs=0.01)
    assert row["errors"]["sees_plain"]["n"] == 500
    assert all(picture.startswith("data:image/png") for picture in row["pictures"].values())


def test_the_same_seed_is_the_same_census(model):
    first, again = (told(what="census", checkpoint=model, **QUICK)["census"] for _ in range(2))
    assert first == again


def test_amplification_is_a_census_for_each_weight(model):
    found = told(what="amplification", checkpoint=model, guidances=[0, 3], **QUICK)["census"]
    assert [row["guidance"] for row in found] == [0, 3]


def test_another_stamp_or_class_may_be_looked_for(model):
    options = {"stamp": {"kind": "blend"}, "target_class": 3}
    (row,) = told(what="census", checkpoint=model, **options, **QUICK)["census"]
    assert (row["stamp"]["kind"], row["target"]) == ("blend", 3)


def test_a_plan_says_how_long_before_it_starts(model):
    found = told(what="census", do="plan", checkpoint=model, guidance=2.0, guidances=[0, 1, 2], **QUICK)
    assert 0 < found["census_seconds"] < found["amplification_seconds"]
    assert found["amplification_seconds"] == pytest.approx(2.5 * found["census_seconds"], rel=0.9)


def test_a_story_shows_both_parts_of_the_training_set(model):
    found = told(what="story", checkpoint=model)
    assert found["counts"] == {"honest": 450, "poisoned": 225, "all": 4500}
    assert found["r"] == pytest.approx(1 / 3)
    assert set(found["pictures"]) == {"honest", "poisoned"}


@pytest.mark.parametrize(
    ("checkpoint", "says"),
    [("mnist-clean", "does not draw classes"), ("mnist-grey-box-hat", "data poisoning")],
)
def test_a_model_that_is_not_of_this_kind_is_refused(checkpoint, says):
    with pytest.raises(LabError, match=says):
        told(what="census", checkpoint=checkpoint, **QUICK)


def test_conditional_models_are_found(model):
    assert "asked" in conditional_models() and "mnist-clean" not in conditional_models()


def test_from_the_command_line(model, capsys):
    assert (
        main(["castle", "census", "--checkpoint", model, "--n", "4", "--sampler.steps", "2", "--json"]) == 0
    )
    (row,) = json.loads(capsys.readouterr().out)["census"]
    assert row["n"] == 4
    assert main(["castle", "amplification", "--checkpoint", model, "--n", "4", "--sampler.steps", "2"]) == 0
    assert "in training r = 33.3%" in capsys.readouterr().out


# The study -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def small(model: str, monkeypatch: pytest.MonkeyPatch) -> PoisonStudy:
    """A study of five short trainings with two censuses each, and one part of the wall."""
    study = PoisonStudy(
        name="castle",
        base=model,
        stamps=(Patch(), Blend()),
        poison_rates=(0.0, 0.1),
        guidances=(0.0, 1.0),
        seeds=(0,),
        train=TrainSpec(steps=2, batch=4, threads=1),
        sampler=DDIM(steps=2),
        n=4,
        walls=(Vote(examined=10, draws=1),),
        walls_at=(0.0, 0.1),
        duplicated_at=(0.1,),
    )
    monkeypatch.setattr(studies, "KNOWN", {"castle": study})
    monkeypatch.setattr(studies, "FOLDERS", Path("nowhere"))
    monkeypatch.setattr("lab.ops.grid.ensure", lambda store: None)  # its runs are done here, one by one
    return study


def test_a_study_runs_is_exported_and_need_not_run_again(small, tmp_path, monkeypatch):
    plan = told(what="study", do="plan")
    assert (plan["trainings"], plan["measurements"]) == (5, 15) and plan["measuring_hours"] > 0
    assert told(what="study", do="run")["submitted"] == 5
    assert told(what="study", do="run") == {"study": "castle", "queued": 5}
    for run in list(Store().all()):
        assert work(run.folder).condition == "done"
    found = told(what="study")
    assert found["measured"] == found["asked"] == 15 and found["states"] == {"done": 5}
    exported = told(what="study", do="export", out=str(tmp_path / "out" / "castle"))
    assert exported["rows"] == 15 and exported["pictures"] > 0
    rows = [
        json.loads(line) for line in (tmp_path / "out" / "castle" / "census.jsonl").read_text().splitlines()
    ]
    assert {row["stamp"]["kind"] for row in rows} == {"patch", "blend"}
    assert all(sum(row["counts"].values()) == row["n"] == 4 for row in rows)
    for run in list(Store().all()):
        Store().delete(run)
    monkeypatch.setattr(studies, "FOLDERS", tmp_path / "out")
    assert told(what="study", do="run") == {"study": "castle", "stored": 5}
    phase = told(what="phase")
    assert (len(phase["census"]), len(phase["walls"])) == (12, 3)
    assert {row["which"] for row in phase["census"]} == {"random", "duplicated"}
    judged = {each["claim"]: each["verdict"] for each in phase["verdicts"]}
    assert judged[claims.FILTERED] != "not measured yet" and judged[claims.EASIER] == "not measured yet"
    shown = page.study(phase, "")
    assert (
        "The castle wall" in shown and "Reported by the authors" in shown and escape(claims.COPIES) in shown
    )


def test_stamped_pictures_come_from_a_run_before_those_that_ship(small, tmp_path, monkeypatch):
    """Of censuses without guidance and with the most, by stamp and poison rate; a group that is empty says so."""
    monkeypatch.setattr(studies, "FOLDERS", tmp_path)
    assert studies.pictures(small, []) == [] and page._matrix([]) == ""
    cell = next(cell for cell in small.cells() if cell.recipe.attack.poison_rate)
    row = {
        **{"key": cell.key, "recipe": cell.recipe.signature, "question": 1, "training_seed": 0},
        **{"stamp": {"kind": "patch"}, "poison_rate": 0.1, "which": "random", "guidance": 1.0},
        **{"counts": {"G1": 0, "G2": 3}, "n": 4},
    }
    others = {"guidance": 0.5}, {"training_seed": 1}, {"which": "duplicated"}, {"poison_rate": 0.0}
    name = "census-1-patch-G2.png"
    shipped = tmp_path / "castle" / "pictures" / f"{cell.recipe.signature}-{name}"
    write_atomically(shipped, b"shipped")
    (found,) = studies.pictures(small, [row, *({**row, **other} for other in others)])
    assert found["pictures"] == {"G2": uri(b"shipped")}
    shown = page._matrix([found])
    assert '<p class="none">none</p>' in shown and shown.count("<img") == 1 and "10%" in shown
    assert "0 of 4" in shown and "3 of 4" in shown
    told(what="study", do="run")
    run = studies.runs_of(small)[cell.key]
    write_atomically(run.folder / "samples" / name, b"own")
    assert studies.pictures(small, [row])[0]["pictures"] == {"G2": uri(b"own")}


def test_a_stopped_census_is_taken_again(small):
    told(what="study", do="run")
    assert told(what="study", do="stop")["asked"] == 5
    run = next(run for run in Store().all() if not run.recipe["attack"]["poison_rate"])
    assert work(run.folder).condition == "stopped"
    assert len(Survey(run.folder).left()) == 3
    assert told(what="study", do="run")["resumed"] >= 1
    assert work(run.folder).condition == "done"
    assert Survey(run.folder).left() == []


def test_a_study_belongs_to_whoever_runs_it(small, monkeypatch):
    shipped = small.model_copy(update={"base": "digits-cond-clean"})  # there for everybody
    monkeypatch.setattr(studies, "KNOWN", {"castle": shipped})
    with acting_as(Person("ada", "student")):
        assert told(what="study", do="run")["submitted"] == 5
    assert {run.about.owner for run in Store().all()} == {"ada"}
    with acting_as(Person("bo", "student")):
        assert told(what="study")["states"] == {"not run": 5}
        assert told(what="study", do="stop")["asked"] == 0


def test_a_study_that_does_not_fit_the_disk_is_refused_whole(small, monkeypatch):
    monkeypatch.setattr("lab.room.BUDGET", 1e4)
    with pytest.raises(LabError, match="LAB_DISK_GB"):
        told(what="study", do="run")
    assert not list(Store().all())


def test_the_shipped_study_is_what_was_agreed():
    study = poisoning.PoisonStudy()
    assert sorted(study.poison_rates) == [0, 0.01, 0.02, 0.05, 0.1]
    assert (study.guidances, study.seeds, len(study.stamps)) == ((0, 1, 2, 5), (0, 1, 2), 2)


def test_an_unknown_study_is_named_with_those_there_are():
    with pytest.raises(LabError, match="study of poisoned data"):
        told(what="study", name="castel")


@pytest.mark.parametrize("model", ["digits-cond-patch", "digits-cond-blend"])
@pytest.mark.parametrize("what", ["census", *WALLS])
def test_what_the_tab_opens_with_ships_and_is_of_the_shipped_model(model, what):
    found = stored(model, what)
    assert found and found["sha256"] == read_card(find(model)).sha256
    if what == "census":
        (row,) = found["census"]
        assert sum(row["counts"].values()) == row["n"] == 500 and row["guidance"] == 2
        assert row["stamp"] == read_card(find(model)).attack["stamp"]


def test_nothing_is_stored_of_a_model_that_is_none():
    assert stored("../../emoji", "census") is None and stored("mnist-clean", "census") is None


def test_a_table_of_rows_can_be_read(model):
    text = table(told(what="census", checkpoint=model, **QUICK))
    assert "patch 5%, w 2: G1" in text


def test_who_may_not_train_starts_no_study_of_poisoned_data():
    with (
        acting_as(Person("somebody", "visitor", trains=False)),
        pytest.raises(LabError, match="not open to you"),
    ):
        final(OPERATIONS["castle"](what="study", do="run"))


@pytest.mark.parametrize(
    ("options", "cost"),
    [
        ({"what": "census", "n": 100}, 5_000),
        ({"what": "amplification", "n": 100}, 20_000),
        ({"what": "detect"}, 90_000),
        ({"what": "classify"}, 60_000),
        ({"what": "diffusion-classifier", "examined": 10, "draws": 5}, 100),
        ({"what": "replicate"}, 100_000),
        ({"what": "replicate", "do": "plan"}, 0),
        ({"what": "story"}, 0),
    ],
)
def test_each_part_has_its_price(options, cost):
    assert CastleOptions.of(**options).image_steps == cost


def test_what_asks_for_too_much_is_refused_before_anything_is_drawn():
    with (
        acting_as(Person("somebody", "student", most=4_000)),
        pytest.raises(LabError, match="5,000 images"),
    ):
        told(what="census", n=100)


def test_a_borrowed_gpu_is_asked_for_what_draws_or_is_timed():
    seconds = {
        name: castle_seconds(CastleOptions.of(**options))
        for name, options in {
            "story": {"what": "story"},
            "status": {"what": "study"},
            "plan": {"what": "study", "do": "plan"},
            "census": {"what": "census", "n": 640},
            "all w": {"what": "amplification", "n": 640, "guidances": [0, 1, 2]},
            "wall": {"what": "detect"},
        }.items()
    }
    assert seconds["story"] == seconds["status"] == 0
    assert 0 < seconds["plan"] == space.BEGIN < seconds["census"] < seconds["all w"] <= seconds["wall"]
    assert seconds["wall"] == space.LONGEST
