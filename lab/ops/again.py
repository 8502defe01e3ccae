"""A run's recipe as options of a new submission, to change something and try again."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

from lab.data import DATASETS
from lab.errors import LabError
from lab.ops.exploring import compact
from lab.ops.jobs import RunOptions, SubmitOptions
from lab.store import Store, Stored
from lab.training import TrainSpec
from lab.variants import Options

LENGTH = 80  # characters of a title


def again(options: RunOptions) -> dict[str, Any]:
    """What submits a run's recipe once more: its options, to change some of them, and the command line."""
    run = Store().get(options.run)
    if not run.recipe:
        raise LabError(f"The recipe of run {run.id} is damaged; it cannot be read any more.")
    found = _submission(run)
    plain = found.model_dump(mode="json", exclude={"name", "out"})
    return {"options": {**plain, "net": _changed(found.net)}, "command": _command(found)}


def _submission(run: Stored) -> SubmitOptions:
    recipe = dict(run.recipe)
    if "net" in recipe:
        recipe["net"] = _freed(recipe["net"], DATASETS.parse(recipe["dataset"]).shape)
    return SubmitOptions.of(
        **recipe.pop("train", {}),
        **recipe,
        title=next_title(run.about.title),
        launcher=run.about.launcher,
        previews=run.about.previews,
    )


def _freed(net: dict[str, Any], shape: tuple[int, int, int]) -> dict[str, Any]:
    """Without the size that its dataset gives it anyway, so that another dataset can give it another one."""
    given = {"channels": shape[0], "side": shape[1]}
    return {name: value for name, value in net.items() if name not in given or value != given[name]}


def next_title(title: str) -> str:
    """The title with the next number: hat, hat 2, hat 3."""
    found = re.fullmatch(r"(.*\S) (\d{1,4})", title)
    stem, number = (found[1], int(found[2]) + 1) if found else (title, 2)
    return f"{stem[: LENGTH - 1 - len(str(number))]} {number}"


def _command(options: SubmitOptions) -> str:
    words = ["python", "-m", "lab", "submit", "--title", options.title]
    for name in ("base", "net", "dataset", "attack", *TrainSpec.model_fields, "launcher", "previews"):
        if name in _changed(options):
            words += [f"--{name.replace('_', '-')}", _text(getattr(options, name))]
    return shlex.join(words)


def _changed(options: Options) -> dict[str, Any]:
    return options.model_dump(mode="json", exclude_defaults=True)


def _text(value: Any) -> str:
    if hasattr(value, "kind"):
        return compact(value)
    return json.dumps(_changed(value)) if isinstance(value, Options) else str(value)
