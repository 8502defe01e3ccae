"""An exam: what a run is asked once it is trained. Its answers are kept in the run's folder as they come."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from lab.borrowed import torch
from lab.engine import Denoiser
from lab.evaluate import Condition, Sampling, Trial, conditions, level
from lab.models import Card, Checkpoint, as_json
from lab.pictures import sheet, write_atomically
from lab.progress import Tick
from lab.sampling import SampleSpec
from lab.triggers import TARGETS, TRIGGERS, GreyBox, Hat
from lab.variants import Options

SHOWN = 16  # images of an answer that are kept as a picture


class Question(Options):
    """Samples under some conditions, held against one or more targets: sampled once, scored for each."""

    spec: SampleSpec = SampleSpec()
    trigger: TRIGGERS.Field = GreyBox()
    targets: tuple[TARGETS.Field, ...] = Field(default=(Hat(),), min_length=1, max_length=16)
    conditions: tuple[Condition, ...] = Field(default=("clean", "triggered"), min_length=1)


@dataclass(frozen=True)
class Exam:
    """Questions and answers in a run's folder: `exam.json`, and `rows.jsonl` with a line for each row."""

    folder: Path

    def ask(self, questions: tuple[Question, ...]) -> None:
        """Write the questions; they are never changed."""
        plain = [question.model_dump(mode="json") for question in questions]
        write_atomically(self.folder / "exam.json", as_json(plain))

    @property
    def questions(self) -> tuple[Question, ...]:
        """What is asked; nothing where no exam was set."""
        try:
            return tuple(Question(**each) for each in json.loads((self.folder / "exam.json").read_bytes()))
        except (OSError, ValueError, TypeError, ValidationError):
            return ()

    @property
    def asked(self) -> list[tuple[int, Condition]]:
        """Every question's number with each of its conditions."""
        return [(k, c) for k, question in enumerate(self.questions) for c in question.conditions]

    def answers(self) -> list[dict[str, Any]]:
        """Rows so far; a torn last line is left out."""
        try:
            lines = (self.folder / "rows.jsonl").read_text().splitlines()
        except OSError:
            return []
        return [answer for line in lines if (answer := _whole(line))]

    def left(self) -> list[tuple[int, Condition]]:
        """What was asked and has no answer yet."""
        answered = Counter((answer["question"], answer["row"]["condition"]) for answer in self.answers())
        return [
            (k, condition)
            for k, condition in self.asked
            if answered[k, condition] < len(self.questions[k].targets)
        ]

    def picture(self, question: int, condition: str) -> Path:
        """Where the first images of an answer are."""
        return self.folder / "samples" / f"exam-{question}-{condition}.png"

    def take(self, checkpoint: Checkpoint, clean: Card) -> Iterator[Tick]:
        """Answer what is left; a tick each sampling step. clean: card of the clean model that no attack is judged by."""
        left, denoiser = self.left(), Denoiser(checkpoint.unet)
        for count, (number, condition) in enumerate(left):
            question = self.questions[number]
            sampling = Sampling(checkpoint, question.spec, denoiser)
            for step in sampling.steps(conditions(question.trigger)[condition]):
                text = f"measuring {count + 1} of {len(left)}"
                yield Tick(count * step.total + step.step, len(left) * step.total, text=text)
            self._write(number, condition, checkpoint, clean, torch.cat(sampling.images))

    def _write(
        self, number: int, condition: Condition, checkpoint: Checkpoint, clean: Card, images: torch.Tensor
    ) -> None:
        question = self.questions[number]
        write_atomically(self.picture(number, condition), sheet(images[:SHOWN]))
        lines = ""
        for target in question.targets:
            no_attack = level(checkpoint, question.trigger, target, clean)
            trial = Trial(checkpoint, question.trigger, target, question.spec, no_attack=no_attack)
            row = trial.row(condition, conditions(question.trigger)[condition], images)
            answer = {"question": number, "target": target.as_json(), "row": row.model_dump(mode="json")}
            lines += json.dumps(answer) + "\n"
        # All targets of an answer at once; what a kill tears is not whole, and is sampled again.
        with (self.folder / "rows.jsonl").open("a") as file:
            file.write(lines)


def _whole(line: str) -> dict[str, Any] | None:
    try:
        answer = json.loads(line)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) and {"question", "target", "row"} <= answer.keys() else None
