"""A survey: what a run of a poisoning study is asked for once it is trained, kept in its folder as it comes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import Field, ValidationError

from lab.attacks import ATTACKS, BadNets
from lab.borrowed import torch
from lab.castle.bench import Bench, drawn, made_ready
from lab.castle.census import GROUPS
from lab.castle.walls import WALLS, Detect
from lab.castle.world import World
from lab.data import DATASETS, Dataset, Digits
from lab.errors import LabError
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


class Walled(Options):
    """A part of the castle wall, asked of the run's own model."""

    part: WALLS.Field = Detect()


Question: TypeAlias = Asked | Walled
# of a part's result: what no table or chart over models uses
LONG = ("curve", "suspects", "caught", "pairs", "pictures")


@dataclass(frozen=True)
class Survey:
    """Questions and answers in a run's folder: `survey.json`; `census.jsonl` and `walls.jsonl` with a line an answer."""

    folder: Path

    def ask(self, questions: tuple[Question, ...]) -> None:
        """Write the questions; they are never changed."""
        plain = [question.model_dump(mode="json") for question in questions]
        write_atomically(self.folder / "survey.json", as_json(plain))

    @property
    def questions(self) -> tuple[Question, ...]:
        """What is asked; nothing where no survey was set."""
        try:
            return tuple(map(_question, json.loads((self.folder / "survey.json").read_bytes())))
        except (OSError, ValueError, TypeError, ValidationError):
            return ()

    @property
    def censuses(self) -> list[dict[str, Any]]:
        """Rows of censuses so far."""
        return read_rows(self.folder / "census.jsonl", {"question", "counts", "shares"})

    @property
    def walls(self) -> list[dict[str, Any]]:
        """What is known of the wall so far."""
        return read_rows(self.folder / "walls.jsonl", {"question", "part"})

    def answers(self) -> list[dict[str, Any]]:
        """All rows so far."""
        return self.censuses + self.walls

    def left(self) -> list[int]:
        """Numbers of the questions without an answer."""
        answered = {row["question"] for row in self.answers()}
        return [number for number in range(len(self.questions)) if number not in answered]

    def take(self, checkpoint: Checkpoint) -> Iterator[Tick]:
        """Answer what is left; a tick each step of sampling or training."""
        benches: dict[str, Bench] = {}
        for number in self.left():
            question = self.questions[number]
            if isinstance(question, Walled):
                yield from self._walled(number, question, checkpoint)
            else:
                yield from self._counted(number, question, checkpoint, benches)

    def _walled(self, number: int, question: Walled, checkpoint: Checkpoint) -> Iterator[Tick]:
        """What cannot be asked of this model, as where it drew no stamp at all, is an answer, too."""
        world, found = World.of(checkpoint), {}
        try:
            for news in question.part.run(world):
                if isinstance(news, Tick):
                    yield news
                else:
                    found = news
        except LabError as error:
            found = {**found, "refused": str(error)}
        row = {"question": number, "part": question.part.kind, **_attacked(world.attack), **_short(found)}
        _append(self.folder / "walls.jsonl", json.dumps(row) + "\n")

    def _counted(
        self, number: int, question: Asked, checkpoint: Checkpoint, benches: dict[str, Bench]
    ) -> Iterator[Tick]:
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
                file = picture_name(number, attack.stamp.kind, name)
                write_atomically(self.folder / "samples" / file, picture)
            row = {"question": number, **row_of(bench, images, question.spec)}
            lines += json.dumps(row) + "\n"
        _append(self.folder / "census.jsonl", lines)


def picture_name(number: int, stamp: str, group: str) -> str:
    """The file of a group's pictures, from a census of this number and stamp."""
    return f"census-{number}-{stamp}-{group}.png"


def _question(plain: dict[str, Any]) -> Question:
    return Walled(**plain) if "part" in plain else Asked(**plain)


def _append(path: Path, lines: str) -> None:
    torn = path.exists() and not path.read_bytes().endswith(b"\n")
    with path.open("a") as file:
        file.write(f"\n{lines}" if torn else lines)


def _short(found: Any) -> Any:
    """A part's result without its long lists and pictures."""
    if isinstance(found, dict):
        return {name: _short(value) for name, value in found.items() if name not in LONG}
    return [_short(each) for each in found] if isinstance(found, list) else found


def _key(attack: BadNets, dataset: Dataset) -> str:
    return json.dumps([attack.as_json(), dataset.as_json()], sort_keys=True)


def _filled(benches: dict[str, Bench], attack: BadNets, dataset: Dataset) -> Iterator[Tick]:
    """Put the bench of an attack into the table, if it is not there."""
    if (key := _key(attack, dataset)) in benches:
        return
    benches[key] = yield from result_of(made_ready(attack, dataset))


def row_of(bench: Bench, images: torch.Tensor, spec: SampleSpec | None) -> dict[str, Any]:
    """A census as plain data, with all that decides it but the model; spec is None where others drew the images."""
    census = bench.census(images)
    return {
        **_attacked(bench.attack),
        "r": bench.triggered,
        **(_sampled(spec) if spec else {}),
        **census.model_dump(mode="json"),
    }


def _attacked(attack: BadNets) -> dict[str, Any]:
    return {
        "stamp": attack.stamp.as_json(),
        "target": attack.target_class,
        "poison_rate": attack.poison_rate,
        "which": attack.which,
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


def read_rows(path: Path, needed: set[str]) -> list[dict[str, Any]]:
    """Lines of JSON with these names in them; a torn line, and what is no row, are left out."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return []
    return [row for line in lines if (row := _whole(line, needed))]


def _whole(line: str, needed: set[str]) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and needed <= row.keys() else None
