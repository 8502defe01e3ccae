"""A survey: the censuses that a run of a poisoning study is asked for once it is trained, kept in its folder as they come."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from lab.attacks import ATTACKS, BadNets
from lab.borrowed import torch
from lab.castle.bench import Bench, drawn, made_ready
from lab.castle.census import GROUPS
from lab.data import DATASETS, Dataset, Digits
from lab.models import Checkpoint, as_json
from lab.pictures import png, tile, write_atomically
from lab.progress import Tick, result_of
from lab.sampling import SampleSpec
from lab.variants import Options

SHOWN = 12  # pictures of each group that are kept


class Asked(Options):
    """Generations for the target class under one spec, counted for one attack or for several that share a model."""

    spec: SampleSpec = SampleSpec()
    attacks: tuple[ATTACKS.Field, ...] = Field(default=(BadNets(),), min_length=1, max_length=8)
    dataset: DATASETS.Field = Digits()


@dataclass(frozen=True)
class Survey:
    """Questions and answers in a run's folder: `survey.json`, and `census.jsonl` with a line for each census."""

    folder: Path

    def ask(self, questions: tuple[Asked, ...]) -> None:
        """Write the questions; they are never changed."""
        plain = [question.model_dump(mode="json") for question in questions]
        write_atomically(self.folder / "survey.json", as_json(plain))

    @property
    def questions(self) -> tuple[Asked, ...]:
        """What is asked; nothing where no survey was set."""
        try:
            return tuple(Asked(**each) for each in json.loads((self.folder / "survey.json").read_bytes()))
        except (OSError, ValueError, TypeError, ValidationError):
            return ()

    def answers(self) -> list[dict[str, Any]]:
        """Rows so far; a torn last line is left out."""
        try:
            lines = (self.folder / "census.jsonl").read_text().splitlines()
        except OSError:
            return []
        return [row for line in lines if (row := _whole(line))]

    def left(self) -> list[int]:
        """Numbers of the questions without an answer."""
        answered = {row["question"] for row in self.answers()}
        return [number for number in range(len(self.questions)) if number not in answered]

    def take(self, checkpoint: Checkpoint) -> Iterator[Tick]:
        """Answer what is left; a tick each sampling step."""
        benches: dict[str, Bench] = {}
        for number in self.left():
            question = self.questions[number]
            for attack in question.attacks:
                yield from _filled(benches, attack, question.dataset)
            target = question.attacks[0].target_class
            images = yield from result_of(drawn(checkpoint, target, question.spec))
            self._write(number, question, images, benches)

    def _write(self, number: int, question: Asked, images: torch.Tensor, benches: dict[str, Bench]) -> None:
        lines = ""
        for attack in question.attacks:
            bench = benches[_key(attack, question.dataset)]
            for name, picture in examples(images, bench).items():
                write_atomically(
                    self.folder / "samples" / f"census-{number}-{attack.stamp.kind}-{name}.png", picture
                )
            row = {"question": number, **row_of(bench, images, question.spec)}
            lines += json.dumps(row) + "\n"
        path = self.folder / "census.jsonl"
        torn = path.exists() and not path.read_bytes().endswith(b"\n")
        with path.open("a") as file:
            file.write(f"\n{lines}" if torn else lines)


def _key(attack: BadNets, dataset: Dataset) -> str:
    return json.dumps([attack.as_json(), dataset.as_json()], sort_keys=True)


def _filled(benches: dict[str, Bench], attack: BadNets, dataset: Dataset) -> Iterator[Tick]:
    """Put the bench of an attack into the table, if it is not there."""
    if (key := _key(attack, dataset)) in benches:
        return
    benches[key] = yield from result_of(made_ready(attack, dataset))


def row_of(bench: Bench, images: torch.Tensor, spec: SampleSpec | None) -> dict[str, Any]:
    """A census as plain data, with all that decides it but the model; spec is None where others drew the images."""
    census, attack = bench.census(images), bench.attack
    return {
        "stamp": attack.stamp.as_json(),
        "target": attack.target_class,
        "poison_rate": attack.poison_rate,
        "which": attack.which,
        "r": bench.triggered,
        **(_sampled(spec) if spec else {}),
        **census.model_dump(mode="json"),
    }


def _sampled(spec: SampleSpec) -> dict[str, Any]:
    return {
        "guidance": spec.guidance,
        "sampler": spec.sampler.as_json(),
        "clip": spec.clip,
        "seed": spec.seed,
    }


def examples(images: torch.Tensor, bench: Bench) -> dict[str, bytes]:
    """The first pictures of each group that has any, as PNG."""
    found = bench.groups(images)
    chosen = {name: images[found == k][:SHOWN] for k, name in enumerate(GROUPS)}
    return {name: png(tile(some, min(len(some), SHOWN // 2))) for name, some in chosen.items() if len(some)}


def _whole(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and {"question", "counts", "shares"} <= row.keys() else None
