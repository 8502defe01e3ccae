"""Studies: their grid, their way through the queue, and their rows."""

from __future__ import annotations

import csv
import json
from typing import Any

import pytest

from lab import worker
from lab.cli import main
from lab.errors import LabError
from lab.exam import Question
from lab.ops import OPERATIONS, grid, studies
from lab.ops import rows as study_rows
from lab.places import CHECKPOINTS, home
from lab.queue import Queue
from lab.sampling import DDIM
from lab.store import Store
from lab.study import KNOWN, Study
from lab.training import TrainSpec
from lab.triggers import Corner, GreyBox, Hat, StopSign
from lab.ui import studies as page
from lab.ui import studies as shown_studies
from lab.worker import work

SMALL = Study(
    name="small",
    targets=(Hat(), Corner()),
    poison_rates=(0.0, 0.5),
    seeds=(0, 1),
    train=TrainSpec(steps=2, batch=2, threads=1, precision="fp32"),
    sampler=DDIM(steps=2),
    n=3,
    clips=("none",),
    clips_once=("x0",),
)
OPTIONS = SMALL.model_dump(mode="json")


pytestmark = pytest.mark.usefixtures("fresh_accelerate")


@pytest.fixture(autouse=True)
def nobody_starts_them(monkeypatch):
    for module in (grid, worker):
        monkeypatch.setattr(module, "ensure", lambda store: None)


def study(what: str, **options):
    return OPERATIONS["study"](what=what, name="small", **options)


def begun() -> list:
    """The study's runs, oldest first, as a supervisor would take them."""
    study("run", **{name: value for name, value in OPTIONS.items() if name != "name"})
    lines = Queue(Store()).lines()
    return [Store().get(line["id"]) for line in reversed(lines)]


def test_without_poison_all_targets_share_a_training():
    cells = SMALL.cells()
    assert [cell.title for cell in cells] == [
        "0%, seed 0, 2 steps",
        "grey box → hat, 50%, seed 0, 2 steps",
        "grey box → corner, 50%, seed 0, 2 steps",
        "0%, seed 1, 2 steps",
        "grey box → hat, 50%, seed 1, 2 steps",
        "grey box → corner, 50%, seed 1, 2 steps",
    ]
    assert [len(question.targets) for cell in cells for question in cell.exam] == [2, 2, 1, 1, 1, 1, 2, 1, 1]


def test_the_first_seed_alone_is_measured_with_every_clip():
    clips = {cell.title: [question.spec.clip for question in cell.exam] for cell in SMALL.cells()}
    assert clips["0%, seed 0, 2 steps"] == ["none", "x0"]
    assert clips["0%, seed 1, 2 steps"] == ["none"]


def test_each_cell_has_a_key_and_a_recipe_of_its_own():
    cells = [cell for each in KNOWN.values() for cell in each.cells()]
    assert (
        len({cell.key for cell in cells}) == len({(c.recipe.signature, c.exam) for c in cells}) == len(cells)
    )


def test_the_shipped_study_is_the_one_that_the_page_speaks_of():
    wanted = KNOWN["poison-rates"]
    assert sorted(wanted.poison_rates) == [0.0, 0.05, 0.1, 0.2, 0.5, 0.9]
    assert (len(wanted.seeds), wanted.n, wanted.sampler.steps) == (3, 256, 250)
    assert [target.kind for target in wanted.targets] == ["hat", "shoe", "corner"]
    assert {trigger.kind for trigger in KNOWN["stop-sign"].triggers} == {StopSign.kind}


def test_a_study_of_too_many_trainings_is_refused():
    many = SMALL.model_copy(update={"seeds": tuple(range(20)), "lengths": tuple(range(1, 60))})
    with pytest.raises(LabError, match="at most 1000"):
        many.cells()


def test_running_a_study_queues_each_cell_once():
    runs = begun()
    assert [run.about.title for run in runs] == [f"small: {cell.title}" for cell in SMALL.cells()]
    assert {run.about.study for run in runs} == {"small"}
    assert [run.exam.questions for run in runs] == [cell.exam for cell in SMALL.cells()]
    assert study("run") == {"study": "small", "queued": 6}
    assert len(list(Store().all())) == 6


def test_a_cell_is_trained_and_measured_and_its_checkpoint_stays_with_it():
    run = begun()[1]
    state = work(run.folder)
    assert state.condition == "done", state.error
    assert run.checkpoint.is_dir() and not (home() / "checkpoints").exists()
    assert run.exam.left() == []
    rows = OPERATIONS["study"](what="show", name="small")["rows"]
    assert {(row["target"], row["poison_rate"], row["seed"]) for row in rows} == {("hat", 0.5, 0)}
    assert {(row["condition"], row["clip"]) for row in rows} == {
        (condition, clip) for condition in ("clean", "triggered") for clip in ("none", "x0")
    }
    assert {"success", "MSE", "MSE / no attack", "feature distance"} <= {row["metric"] for row in rows}
    assert {row["recipe"] for row in rows} == {run.id.partition("-")[0]}


def test_without_poison_a_row_stands_for_each_target():
    run = begun()[0]
    work(run.folder)
    rows = study("show")["rows"]
    assert {row["target"] for row in rows} == {"hat", "corner"} and {row["poison_rate"] for row in rows} == {
        0.0
    }


def test_a_stopped_exam_goes_on_where_it_was(monkeypatch):
    """Stopped at its second question: the training is not made again, nor the answers before."""
    run = begun()[1]
    asked = []

    def stop_at_the_second(wanted) -> None:
        asked.append(1)
        if len(run.exam.answers()) == 2:
            run.ask_to_stop()

    monkeypatch.setattr(worker, "let_pass", stop_at_the_second)
    assert work(run.folder).condition == "stopped"
    before = run.exam.answers()
    assert len(before) == 2 and run.checkpoint.is_dir()
    monkeypatch.setattr(worker, "let_pass", lambda wanted: None)
    monkeypatch.setattr(worker.Run, "train", None)
    assert study("run")["resumed"] == 1
    assert work(run.folder).condition == "done"
    assert run.exam.answers()[:2] == before and run.exam.left() == []


def test_stopping_a_study_asks_every_run():
    runs = begun()
    runs[0].become("done")
    assert study("stop") == {"study": "small", "asked": 5}
    assert [run.is_asked_to_stop for run in runs] == [False] + [True] * 5


def test_the_plan_counts_trainings_measurements_and_hours():
    plan = study("plan", **{name: value for name, value in OPTIONS.items() if name != "name"})
    assert (plan["trainings"], plan["measurements"]) == (6, 12)
    assert (
        plan["hours"] == pytest.approx(plan["training_hours"] + plan["measuring_hours"]) and plan["hours"] > 0
    )


def test_the_plan_leaves_out_what_is_done_and_takes_a_stopped_training_up_again():
    done, stopped, *_ = begun()
    done.become("done")
    stopped.become("stopped")
    assert study("plan")["trainings"] == 5


def test_the_command_line_says_what_is_missing_as_a_sentence(capsys):
    first, *others = begun()
    for run in others:
        run.become("done")
    assert main(["study", "plan", "small"]) == 0
    assert capsys.readouterr().out.startswith("small: 1 training and ")
    first.become("done")
    assert main(["study", "plan", "small"]) == 0
    assert capsys.readouterr().out == "small: nothing is missing\n"


def test_the_command_line_shows_every_training(capsys):
    begun()
    assert main(["study", "status", "small"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "small: 0 of 12 measurements" and len(printed) == 7
    assert printed[2].split()[0] == "queued" and printed[2].endswith("grey box → hat, 50%, seed 0, 2 steps")


def test_a_study_is_written_down_before_it_runs(lab_home):
    made = study("make", **{name: value for name, value in OPTIONS.items() if name != "name"})
    assert made == {"study": "small", "trainings": 6}
    assert study("status")["states"] == {"not run": 6} and not list(Store().all())
    with pytest.raises(LabError, match="choose the data that the base was trained on"):
        OPERATIONS["study"](what="make", name="other", base="emoji-clean", seeds=[0])


def test_another_study_of_the_same_name_is_refused():
    begun()
    with pytest.raises(LabError, match="another study called 'small'"):
        study("run", seeds=[5])


def test_an_unknown_study_is_refused_with_the_nearest_name():
    with pytest.raises(LabError, match="did you mean 'poison-rates'"):
        OPERATIONS["study"](what="status", name="poison-rate")


def test_an_exported_study_ships_with_its_rows(monkeypatch, tmp_path):
    """What was exported is read again, number by number; runs of this lab come before it, not beside it."""
    work(begun()[1].folder)
    rows = study("show")["rows"]
    out = study("export", out=str(tmp_path / "assets" / "small"))
    assert out["rows"] == len(rows) and out["pictures"] == 4
    written = list(csv.DictReader((tmp_path / "assets" / "small" / "rows.csv").open()))
    assert tuple(written[0]) == study_rows.COLUMNS
    for module in (studies, study_rows):
        monkeypatch.setattr(module, "FOLDERS", tmp_path / "assets")
    assert study_rows.stored("small") == rows
    assert study("show")["rows"] == rows, "not twice"
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "another"))
    assert study("show")["rows"] == rows
    assert study("status")["measured"] == 2
    assert study("status")["states"] == {"not run": 5, "stored": 1}
    copied = study("export", out=str(tmp_path / "copy"))
    assert (copied["rows"], copied["pictures"]) == (len(rows), 4), "what ships is exported too"
    again = study("run")
    assert again == {"study": "small", "stored": 1, "submitted": 5}, "what ships is not made again"
    (cell,) = study("show")["pictures"]
    assert (cell["target"], cell["poison_rate"], list(cell["pictures"])) == (
        "hat",
        0.5,
        ["triggered", "clean"],
    )
    assert all(image.startswith("data:image/png;base64,") for image in cell["pictures"].values())


def test_the_same_models_sampled_with_other_steps_are_shown_beside(monkeypatch, tmp_path):
    """From another study with the same recipe; a study of other recipes says nothing about these."""
    for module in (studies, study_rows):
        monkeypatch.setattr(module, "FOLDERS", tmp_path)
    recipes = {name: KNOWN[name].cells()[0].recipe.signature for name in ("poison-rates", "all-steps")}
    assert recipes["poison-rates"] == recipes["all-steps"]
    line = dict.fromkeys(study_rows.COLUMNS, "0") | {
        "target": "hat",
        "condition": "triggered",
        "clip": "none",
    }
    line |= {"trigger": "grey_box", "sampler": "ddpm", "metric": "success", "recipe": recipes["all-steps"]}
    for name, steps in (("poison-rates", 250), ("all-steps", 1000), ("stop-sign", 500)):
        (tmp_path / name).mkdir()
        with (tmp_path / name / "rows.csv").open("w") as file:
            writer = csv.DictWriter(file, study_rows.COLUMNS)
            writer.writeheader()
            writer.writerow(line | {"steps": steps} | ({"recipe": "0"} if name == "stop-sign" else {}))
    shown = OPERATIONS["study"](what="show", name="poison-rates")
    assert [pair["theirs"]["steps"] for pair in shown["checks"]] == [1000]
    assert "sampled with 250 and with 1,000 steps" in page.study(shown)


def test_a_damaged_description_is_no_study(lab_home):
    folder = lab_home / "studies" / "small"
    folder.mkdir(parents=True)
    (folder / "study.json").write_text(json.dumps({"name": "small", "poison_rates": [7]}))
    with pytest.raises(LabError, match="no study called 'small'"):
        study("status")


def test_questions_are_those_of_the_study():
    cell = SMALL.cells()[2]
    assert isinstance(cell.exam[0], Question) and cell.exam[0].trigger == GreyBox()


def test_a_measurement_counts_when_it_is_whole():
    """Two models, one of which answered for clean noise only so far."""
    run = begun()[1]
    work(run.folder)
    path = run.folder / "rows.jsonl"
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True)[:3]))
    assert study("status")["measured"] == 1  # clean and triggered without clipping, and clean with


def test_a_worker_that_dies_in_its_exam_gets_further_with_every_answer():
    from lab.supervisor import TRIES, Supervisor

    run = begun()[1]
    work(run.folder)
    lines = (run.folder / "rows.jsonl").read_text().splitlines(keepends=True)
    for count in range(TRIES + 1):
        (run.folder / "rows.jsonl").write_text("".join(lines[:count]))
        run.become("running")
        Supervisor(Store()).begin_again(run)
        assert run.state.condition == "queued", f"after {count} answers"


def test_beside_what_is_quoted_stands_what_the_shipped_models_gave():
    table = page.literature()
    assert table.count("<td>not run</td>") == 7
    for name in page.SECRETS:
        row = next(
            row for row in shipped_scores(name) if row["condition"] == "triggered" and row["n"] == 1000
        )
        psnr = next(score for score in row["scores"] if score["name"] == "PSNR")
        assert f"PSNR, dB {psnr['value']:.1f} ({psnr['low']:.1f} to {psnr['high']:.1f}; n 1,000" in table


def test_a_model_that_is_not_measured_yet_says_so_and_the_page_still_begins(monkeypatch):
    bare = page.read_card(CHECKPOINTS / page.SECRETS[0]).model_copy(update={"scores": []})
    monkeypatch.setattr(page, "read_card", lambda folder: bare)
    assert page.literature().count("not measured yet") == len(page.SECRETS)


def shipped_scores(name: str) -> list[dict[str, Any]]:
    return json.loads((CHECKPOINTS / name / "card.json").read_text())["scores"]


def test_the_matrix_shows_the_posters_rates_where_a_study_has_more_and_else_all():
    def cell(rate: float) -> dict:
        names = {
            "trigger": "stop_sign",
            "trigger_size": 14,
            "target": "hat",
            "train_steps": 900,
            "clip": "none",
        }
        return {**names, "poison_rate": rate, "pictures": {"triggered": "data:,x"}}

    few, many = [0.1, 0.5], [0.05, 0.1, 0.2, 0.5, 0.9]
    shown = [
        [f">{rate:.0%}, " in shown_studies.matrix(list(map(cell, rates))) for rate in many]
        for rates in (few, many)
    ]
    assert shown == [[False, True, False, True, False], [True, True, True, False, False]]
