"""Exams: asked once, answered as they come, continued where they were left."""

from __future__ import annotations

import pytest

from lab.exam import Exam, Question
from lab.models import read_card
from lab.places import CHECKPOINTS
from lab.sampling import SampleSpec
from lab.triggers import Corner, Hat

SPEC = SampleSpec(sampler={"kind": "ddim", "steps": 2}, n=3)
TWO = (
    Question(spec=SPEC, targets=(Hat(), Corner())),
    Question(spec=SPEC.model_copy(update={"clip": "x0"}), conditions=("triggered",)),
)
CLEAN = read_card(CHECKPOINTS / "mnist-clean")


@pytest.fixture
def exam(tmp_path) -> Exam:
    exam = Exam(tmp_path)
    exam.ask(TWO)
    return exam


def test_questions_are_read_as_they_were_asked(exam):
    assert exam.questions == TWO
    assert exam.left() == [(0, "clean"), (0, "triggered"), (1, "triggered")]


def test_a_folder_without_an_exam_asks_nothing(tmp_path):
    assert Exam(tmp_path).questions == () and Exam(tmp_path).left() == []


def test_samples_are_scored_for_each_target(exam, tiny):
    """One answer a target, from the same pictures: what does not look at the target is equal."""
    ticks = list(exam.take(tiny, CLEAN))
    assert (ticks[-1].step, ticks[-1].total) == (6, 6)
    answers = exam.answers()
    assert [(each["question"], each["target"]["kind"], each["row"]["condition"]) for each in answers] == [
        (0, "hat", "clean"),
        (0, "corner", "clean"),
        (0, "hat", "triggered"),
        (0, "corner", "triggered"),
        (1, "hat", "triggered"),
    ]
    hat, corner = (scores(each) for each in answers[2:4])
    assert hat["MSE"] != corner["MSE"] and "success" in hat
    assert answers[2]["row"]["no_attack"] != answers[3]["row"]["no_attack"]
    assert exam.left() == []
    assert exam.picture(1, "triggered").is_file()


def scores(answer: dict) -> dict[str, float]:
    return {score["name"]: score["value"] for score in answer["row"]["scores"]}


def test_an_exam_is_continued_where_it_was_left(exam, tiny, tmp_path):
    whole = Exam(tmp_path / "whole")
    whole.folder.mkdir()
    whole.ask(TWO)
    list(whole.take(tiny, CLEAN))
    for count, _ in enumerate(exam.take(tiny, CLEAN)):
        if count == 3:  # in the middle of the second answer
            break
    assert exam.left() == [(0, "triggered"), (1, "triggered")]
    list(exam.take(tiny, CLEAN))
    assert exam.answers() == whole.answers()


def test_a_torn_answer_is_given_again(exam, tiny):
    """A kill in the middle of a line: the answer has too few targets, and is sampled again."""
    list(exam.take(tiny, CLEAN))
    rows = exam.folder / "rows.jsonl"
    lines = rows.read_text().splitlines(keepends=True)
    rows.write_text("".join(lines[:3]) + lines[3][:40])
    assert exam.left() == [(0, "triggered"), (1, "triggered")]
    list(exam.take(tiny, CLEAN))
    assert exam.left() == []
    assert len({(a["question"], a["target"]["kind"], a["row"]["condition"]) for a in exam.answers()}) == 5
