"""A run is a folder: recipe first and never changed, then poisoned set, ticks, resumable states and the checkpoint."""

from __future__ import annotations

import json
import platform
import re
import shlex
import time
from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from lab.borrowed import torch
from lab.engine import best_device
from lab.errors import LabError
from lab.images import Images
from lab.models import Card, Checkpoint, as_json, conditional, fresh, load, names
from lab.people import check_places
from lab.pictures import write_atomically
from lab.precision import is_faster_in_bf16
from lab.progress import Tick
from lab.ranks import is_main_process, process_count
from lab.recipe import Recipe
from lab.training import Step, newest_step, training_loop

LOG_EVERY = 10  # steps between lines of ticks.jsonl
NAME = 60  # characters of a checkpoint's name


class Run:
    """One training: `recipe.json`, `poisoned.json`, `ticks.jsonl`, `state-*/`, and at the end `checkpoint/`."""

    def __init__(self, folder: Path, recipe: Recipe):
        self.folder, self.recipe = folder, recipe

    @classmethod
    def open(cls, folder: Path, recipe: Recipe) -> Run:
        """The run of this recipe in `folder`: a new one, or the same one to be resumed; another recipe is refused."""
        path = folder / "recipe.json"
        if not is_main_process():
            return cls(folder, recipe)
        if not path.exists():
            if folder.exists() and any(folder.iterdir()):
                raise LabError(f"{folder.name} exists and is not a run; choose an empty or new folder.")
            write_atomically(path, as_json(recipe.as_json()))
        elif _stored(path) != recipe.as_json():
            raise LabError(f"{folder.name} holds a run of another recipe; choose another folder.")
        return cls(folder, recipe)

    @property
    def checkpoint(self) -> Path:
        """Where the finished checkpoint lies."""
        return self.folder / "checkpoint"

    def train(self, name: str) -> Generator[Step, None, None]:
        """Train (or continue) and yield every step; the checkpoint is written before the last tick is yielded."""
        images, start = self.recipe.dataset.load("train"), start_of(self.recipe)
        if is_main_process():
            self._keep_poisoned(images)
            self._forget_steps_to_come()
        began = time.monotonic() - self._seconds_so_far()
        loop = training_loop(start, images, self.recipe.attack, self.recipe.train, self.folder)
        last = None
        with closing(loop):  # a run that is closed closes its training, which then leaves a state
            for tick in loop:
                self._log(tick, time.monotonic() - began)
                if last:
                    yield last
                last = tick
        if is_main_process():
            self._finish(start, name, time.monotonic() - began)
        if last:
            yield last

    def remove_if_refused(self) -> None:
        """Leave nothing behind of a run that was refused before its first state."""
        if not is_main_process() or any(self.folder.glob("state-*")) or self.checkpoint.exists():
            return
        for name in ("recipe.json", "poisoned.json", "ticks.jsonl"):
            (self.folder / name).unlink(missing_ok=True)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _keep_poisoned(self, images: Images) -> None:
        index = self.recipe.attack.chosen(images, self.recipe.train.seed).tolist()
        write_atomically(self.folder / "poisoned.json", as_json({"n": len(images), "poisoned": index}))

    def _forget_steps_to_come(self) -> None:
        """Lines of steps that a resumed run takes again."""
        path, done = self.folder / "ticks.jsonl", newest_step(self.folder)
        if path.exists():
            lines = [line for line in path.read_text().splitlines() if 0 < _read(line, "step") <= done]
            write_atomically(path, "".join(f"{line}\n" for line in lines).encode())

    def _log(self, tick: Tick, seconds: float) -> None:
        if is_main_process() and (tick.step % LOG_EVERY == 0 or tick.step == tick.total):
            line = {"step": tick.step, "total": tick.total, "seconds": round(seconds, 1), **tick.values}
            with (self.folder / "ticks.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")

    def _seconds_so_far(self) -> float:
        """Training time of the parts before this one: a resumed run took as long as all its parts."""
        path = self.folder / "ticks.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return max((_read(line, "seconds") for line in lines), default=0.0)

    def _finish(self, trained: Checkpoint, name: str, seconds: float) -> None:
        recipe = self.recipe
        card = Card(
            name=name,
            backdoored=recipe.attack.poison_rate > 0,
            base=trained.card.base,
            recipe=recipe.as_json(),
            sampler=default_sampler(recipe),
            command=command(recipe, name),
            made=self._made(seconds),
        )
        replace(trained, card=card).save(self.checkpoint)

    def _made(self, seconds: float) -> dict[str, Any]:
        device = torch.device(best_device())
        return {
            "seconds": round(seconds, 1),
            "device": device.type,
            "bf16": self.recipe.train.precision == "auto" and is_faster_in_bf16(device),
            "processes": process_count(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "python": platform.python_version(),
        }


def start_of(recipe: Recipe) -> Checkpoint:
    """What a training starts from: its base, or a fresh network."""
    if recipe.base:
        if "/" in recipe.base:
            check_places()
        base = load(Path(recipe.base) if "/" in recipe.base else recipe.base)
        start = conditional(base, recipe.classes, recipe.train.seed) if recipe.classes else base
        return replace(start, card=Card(base=base.card.name))
    return fresh(recipe.net, recipe.train.seed)


def _read(line: str, key: str) -> float:
    try:
        return float(json.loads(line).get(key, 0.0))
    except ValueError:  # the last line of a killed run may be torn
        return 0.0


def _stored(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        raise LabError(f"{path.parent.name}/{path.name} is damaged; choose another folder.") from None


def default_sampler(recipe: Recipe) -> dict[str, Any]:
    """The sampler a checkpoint opens with: the one its backdoor was made for."""
    if getattr(recipe.attack, "solver", "sde") == "ode":
        return {"kind": "ddim", "steps": 50}
    return {"kind": "ddpm", "steps": 250}


def command(recipe: Recipe, name: str) -> str:
    """The command line that repeats a training."""
    words = ["python", "-m", "lab", "train", "--name", name]
    if recipe.base:
        words += ["--base", recipe.base]
        words += ["--classes", str(recipe.classes)] if recipe.classes else []
    else:
        words += ["--net", json.dumps(recipe.net.model_dump(mode="json", exclude_defaults=True))]
    words += ["--dataset", _compact(recipe.dataset), "--attack", _compact(recipe.attack)]
    for option, value in recipe.train.model_dump(exclude_defaults=True).items():
        words += [f"--{option.replace('_', '-')}", str(value)]
    return shlex.join(words)


def _compact(variant: Any) -> str:
    options = variant.model_dump(mode="json", exclude_defaults=True)
    return variant.kind if not options else json.dumps({"kind": variant.kind, **options})


def free_name(title: str, recipe: Recipe, promised: Iterable[str] = ()) -> str:
    """A name for a run's checkpoint that no checkpoint of the lab has and no other run will have, after its title."""
    plain = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:NAME].strip("-")
    wanted = plain or f"{recipe.attack.kind}-{recipe.signature}".replace("_", "-")
    taken, number = {*names(), *promised}, 1
    while (name := wanted if number == 1 else f"{wanted[: NAME - 5]}-{number}") in taken:
        number += 1
    return name
